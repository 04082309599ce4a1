"""Diagnosis of patients as the job calls it: verdicts, pages, and interruptions."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, split_patients
from homnet.errors import CheckpointError, ConfigError, DataError
from homnet.simulator.cohort import simulate_person
from homnet.simulator.karyograms import KaryogramStyle, draw_karyogram, images_of_cell
from homnet.simulator.laboratory import HospitalConfig, Laboratory
from homnet_platform.ingest import KEY_VARIABLE
from homnet_platform.karyograms import KaryogramConfig
from homnet_platform.patients import diagnosis
from homnet_platform.patients.diagnosis import diagnose
from homnet_platform.simulate import SimulateConfig, simulate

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_every_test_patient_has_a_verdict_and_the_flagged_a_page(diagnosed: Any) -> None:
    output = diagnosed.output
    patients = pd.read_parquet(output / "patients.parquet")
    assert (
        set(patients["patient_id"])
        == split_patients(diagnosed.cohort.patients, diagnosed.calibration.split)[TEST]
    )
    assert len(pd.read_parquet(output / "types.parquet")) == 10 * 23
    for row in patients.to_dict("records"):
        place = output / "patients" / row["hospital"] / row["patient_id"]
        verdict = json.loads(place.with_suffix(".json").read_text())
        assert verdict["decision"] == row["decision"]
        shown = place.with_suffix(".html").exists()
        assert shown == (row["decision"] != "no_abnormality_found")
        link = f'href="patients/{row["hospital"]}/{row["patient_id"]}.html"'
        assert (link in (output / "index.html").read_text()) == shown


def test_an_interrupted_run_keeps_what_it_had(
    diagnosed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(diagnosed.diagnosis, output=str(tmp_path / "again"))

    def first_only(num_blocks: int, work: Callable[[int], object], **_: object) -> list[str]:
        work(0)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(diagnosis, "process_blocks", first_only)
        with pytest.raises(KeyboardInterrupt):
            diagnose(config)
    partial = tmp_path / ".again.partial" / "content" / "blocks"
    kept = {path.name: path.stat().st_mtime_ns for path in partial.iterdir()}
    assert len(kept) == 2
    diagnose(config)
    blocks = tmp_path / "again" / "blocks"
    assert {n: (blocks / n).stat().st_mtime_ns for n in kept} == kept
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "again" / "patients.parquet"),
        pd.read_parquet(diagnosed.output / "patients.parquet"),
    )
    with pytest.raises(DataError, match="exists already"):
        diagnose(config)


def test_a_folder_of_images_becomes_verdicts(diagnosed: Any, tmp_path: Path) -> None:
    simulate(
        SimulateConfig(
            output=tmp_path / "cohort",
            images=tmp_path / "images",
            num_healthy=1,
            num_patients=(0, 0, 0, 0),
            healthy_cells=2.0,
            num_files=1,
        )
    )
    config = replace(
        diagnosed.diagnosis,
        manifest=tmp_path / "images" / "manifest.csv",
        checkpoint=str(diagnosed.calibrated / "h1" / "checkpoint"),
        output=str(tmp_path / "diagnosed"),
        patients="all",
        pages="all",
    )
    rows = config.manifest.read_text()
    named = config.manifest.with_name("named.csv")
    named.write_text(re.sub(",[^,]*(,[^,]*,(?:[0-9]+|X|Y),[01])", r",2023/4\1", rows))
    with pytest.raises(DataError, match="patient_id '2023/4' is not a valid page name"):
        diagnose(replace(config, manifest=named))
    with pytest.raises(CheckpointError, match=r"for sequences of 3 .* have 1\.5;"):
        diagnose(replace(config, samples_per_px=1.5))
    output = diagnose(config)
    with pytest.raises(ConfigError, match="another --output"):
        diagnose(replace(config, band_level=400))
    patients = pd.read_parquet(output / "patients.parquet")
    assert len(patients) == 1
    (page,) = (output / "patients").rglob("*.html")
    assert page.stat().st_size > 50_000


@pytest.mark.slow
def test_a_folder_of_karyograms_becomes_verdicts(
    diagnosed: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One patient has a page that can be read and one that cannot, others only blank ones."""
    folder = tmp_path / "karyograms"
    folder.mkdir()
    laboratory = replace(Laboratory(), band_levels=(0.0, 0.0, 1.0, 0.0), bend=0.2)
    person = simulate_person(11, HospitalConfig("h", laboratory, abnormal_fraction=0.0), 0, 2.0)
    images = images_of_cell(person, person["cell_id"][0].as_py(), samples_per_px=3.0, seed=1)
    drawn = draw_karyogram(images, KaryogramStyle(width_px=1000), np.random.default_rng(0))
    Image.fromarray(drawn.image).save(folder / "p_1.png")
    for name in ("p_2.png", "q_1.png", "r_1.png"):
        Image.new("L", (400, 300), 255).save(folder / name)
    cells = tmp_path / "cells.csv"
    cells.write_text(
        "path,patient_id,cell_id,hospital\n"
        "p_1.png,p,1,\np_2.png,p,2,\nq_1.png,q,1,\nr_1.png,r,1,north\n"
    )
    config = replace(
        diagnosed.diagnosis,
        karyograms=folder,
        karyogram=KaryogramConfig(cells=cells),
        checkpoint=str(diagnosed.calibrated / "h1" / "checkpoint"),
        output=str(tmp_path / "diagnosed"),
        patients="all",
        pages="all",
    )
    output = diagnose(config)
    assert "no picture of north could be used" in capsys.readouterr().out
    made = Cohort.open(tmp_path / "diagnosed-cohort").provenance
    assert made["settings"]["turn"] == "karyograms"
    verdict = json.loads((output / "patients/hospital/q.json").read_text())
    assert verdict["decision"] == "not_assessed"
    assert verdict["notes"][-1] == "A picture could not be used: q_1.png (the page is blank)."
    page = (output / "patients/hospital/p.html").read_text()
    assert "Pictures that were sent" in page
    assert "<strong>Not used:</strong> the page is blank" in page
    listed = (output / "index.html").read_text()
    assert "Pictures not used" in listed
    assert re.findall(r'<td class="num">(\d)</td>\s*</tr>', listed) == ["1", "1"]
    with pytest.raises(ConfigError, match="turn or samples_per_px"):
        diagnose(replace(config, turn="never"))
    with pytest.raises(ConfigError, match="of a cohort are not turned"):
        diagnose(replace(config, karyograms=None, turn="never"))
    # With pseudonyms nobody is listed under a name that was sent.
    monkeypatch.setenv(KEY_VARIABLE, "a key of sixteen bytes")
    output = diagnose(replace(config, output=str(tmp_path / "pseudonyms")))
    assert len(pd.read_parquet(output / "patients.parquet")) == 1
