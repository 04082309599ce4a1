"""Levels of cohorts are counted by what is stated and what is estimated."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from homnet.cohorts.cohort import write_cohort
from homnet.karyotype.chromosomes import BAND_LEVELS
from homnet.records.level_estimation import WholeCells, levels_markdown, measure_levels
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import hospitals


def test_cells_are_counted_by_both_levels(tmp_path: Path) -> None:
    one, other = hospitals()[0], hospitals()[3]
    tables = [
        pa.concat_tables([simulate_person(5, lab, number, 3.0) for number in range(3)])
        for lab in (one, other)
    ]
    scale = {lab.name: lab.laboratory.samples_per_px for lab in (one, other)}
    cohort = write_cohort(tmp_path / "known", iter(tables), scale=scale, provenance={})
    real = write_cohort(
        tmp_path / "real", iter(tables[1:]), scale={other.name: scale[other.name]}, provenance={}
    )
    figures = measure_levels(cohort.root, real.root, num_bootstrap=20, seed=0)
    for table in tables:
        name = table["hospital"][0].as_py()
        cells = table.select(["patient_id", "cell_id", "band_level"]).to_pandas().drop_duplicates()
        found = np.array(figures["known"][name]["cells"])
        stated = cells["band_level"].value_counts()
        assert found.sum(axis=1).tolist() == [stated.get(level, 0) for level in BAND_LEVELS]
        exact = figures["known"][name]["exact"]["value"]
        assert np.trace(found) / found.sum() == exact > 0.6
    assert figures["real"]["cells"] == np.sum(figures["known"][other.name]["cells"], 0).tolist()
    text = levels_markdown(figures)
    assert "rank correlation" in text
    assert text.count(f"{one.name}, ") == len(BAND_LEVELS) + 1


def test_cells_of_two_tables_have_numbers_of_their_own() -> None:
    lab = hospitals()[1]
    tables = [simulate_person(6, lab, number, 2.0) for number in range(2)]
    cells = WholeCells.of_tables(tables)
    num = sum(len(set(table["cell_id"].to_pylist())) for table in tables)
    assert len(cells.people) == num
    assert set(cells.cell_N.tolist()) == set(range(num))
