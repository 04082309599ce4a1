"""Pairs to look at are whole, and abnormal ones are found where there are any."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from homnet.cohorts.cohort import write_cohort
from homnet.cohorts.pairs import SINGLE_HOMOLOG, pairs_of
from homnet.report.examples import draw_examples, pairs_by_cell

TableOf = Callable[..., pa.Table]


def test_examples_are_whole_pairs_with_their_events(tmp_path: Path, table_of: TableOf) -> None:
    tables = [
        table_of("north", num_patients=1, abnormal="4"),
        table_of("south", num_patients=1, seed=1),
    ]
    quality = [
        {"flags": [SINGLE_HOMOLOG] if name == "7" else []}
        for name in tables[1]["chromosome"].to_pylist()
    ]
    column = tables[1].schema.get_field_index("quality")
    field = tables[1].schema.field("quality")
    tables[1] = tables[1].set_column(column, field, pa.array(quality, field.type))
    cohort = write_cohort(tmp_path / "c", tables, scale={"north": 2.0, "south": 3.0}, provenance={})
    examples = draw_examples(cohort, 500, np.random.default_rng(1))
    assert len(draw_examples(cohort, 5, np.random.default_rng(1))) == 5
    assert draw_examples(cohort, 0, np.random.default_rng(1)) == []
    assert "7" not in {one.chromosome for one in examples if one.hospital == "south"}
    assert {one.samples_per_px for one in examples if one.hospital == "north"} == {2.0}
    abnormal = [one for one in examples if one.kind]
    assert len(abnormal) == 4
    assert {(one.chromosome, one.kind, one.homolog) for one in abnormal} == {("4", "deletion", 1)}
    pairs = np.stack([one.pair for one in examples]).reshape(len(examples), -1)
    assert len(np.unique(pairs, axis=0)) == len(examples)


def test_a_file_with_abnormal_pairs_is_chosen(tmp_path: Path, table_of: TableOf) -> None:
    table = table_of("h", num_patients=4, num_cells=2, chromosomes=("4",), abnormal="4")
    normal_first = [table.slice(2 * patient, 2) for patient in (1, 3, 2)]
    cohort = write_cohort(tmp_path / "c", normal_first, scale={"h": 3.0}, provenance={})
    for seed in range(5):
        kinds = [one.kind for one in draw_examples(cohort, 2, np.random.default_rng(seed))]
        assert "deletion" in kinds


def test_a_pair_of_an_unknown_kind_is_still_called_abnormal(
    tmp_path: Path, table_of: TableOf
) -> None:
    table = table_of("h", num_patients=1, num_cells=1, chromosomes=("4",), abnormal="4")
    column = table.schema.get_field_index("kind")
    table = table.set_column(column, table.schema.field("kind"), pa.nulls(1, pa.string()))
    cohort = write_cohort(tmp_path / "c", [table], scale={"h": 3.0}, provenance={})
    (one,) = draw_examples(cohort, 2, np.random.default_rng(0))
    assert one.kind == "abnormal"


def test_a_patients_pairs_are_told_from_those_of_others_with_cells_of_the_same_name(
    table_of: TableOf,
) -> None:
    table = table_of("h", num_patients=2, num_cells=3, chromosomes=("4", "7"))
    cells = pairs_by_cell(table, "h-p1")
    assert list(cells) == ["c0", "c1", "c2"]
    np.testing.assert_array_equal(cells["c2"]["7"], pairs_of(table)[-1])
    assert pairs_by_cell(table.slice(0, 0), "h-p1") == {}
