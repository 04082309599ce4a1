"""Karyograms made of a manifest's images are judged by their truth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from homnet.errors import ConfigError
from homnet.records.karyogram_reading import (
    KaryogramReadingConfig,
    karyogram_reading_markdown,
    measure_reading,
)
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig, Laboratory


def test_a_karyogram_is_read_and_judged(tmp_path: Path, images_of_cell: Callable[..., Any]) -> None:
    table = simulate_person(3, HospitalConfig("h", Laboratory(), abnormal_fraction=0.0), 0, 1.0)
    cell = table["cell_id"][0].as_py()
    rows = []
    for one in images_of_cell(table, cell, seed=0):
        path = f"{one.chromosome}-{one.homolog}.png"
        Image.fromarray(one.image_HW).save(tmp_path / path)
        rows.append((path, "p", cell, one.chromosome, one.homolog))
    names = ["path", "patient_id", "cell_id", "chromosome", "homolog"]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "manifest.csv", index=False)

    config = KaryogramReadingConfig(
        tmp_path / "manifest.csv", num_karyograms=1, held_out=1.0, touching=0.0
    )
    figures = measure_reading(config)
    assert figures["all"]["chromosomes"] == len(rows)
    assert figures["all"]["right"] > 0.8
    assert figures["all"]["wrong"] == 0
    assert figures["profile_correlation"]["median"] > 0.9
    assert "1 karyograms of 1 people" in karyogram_reading_markdown(figures)


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_karyograms must be at least 1"):
        KaryogramReadingConfig(tmp_path / "manifest.csv", num_karyograms=0)
