"""Bags: every pair is used, nobody is mixed who should not be, and short groups are masked."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from homnet.bags.draw import (
    BagConfig,
    PairBank,
    PairIndex,
    count_bags,
    draw_bags,
    index_table,
    rows_of_file,
    summary,
    with_parts,
)
from homnet.cohorts.cohort import write_cohort
from homnet.cohorts.pairs import pairs_of
from homnet.errors import ConfigError

TableOf = Callable[..., pa.Table]


@pytest.fixture
def bank(table_of: TableOf) -> PairBank:
    return PairBank.from_table(table_of(num_patients=3, num_cells=7, chromosomes=("1", "2", "21")))


def test_a_bag_is_one_patient_one_type_different_cells(bank: PairBank) -> None:
    bags = draw_bags(bank, BagConfig(num_cells=5, rounds=2), seed=0)
    for row_K, mask_K, chromosome in zip(bags.row_BK, bags.mask_BK, bags.chromosome_B, strict=True):
        members = bank.frame.iloc[row_K[mask_K]]
        assert members["patient_id"].nunique() == 1
        assert set(members["chromosome"]) == {chromosome}
        assert members["cell_id"].nunique() == mask_K.sum()


def test_every_pair_is_used_in_every_round(bank: PairBank) -> None:
    for rounds in (1, 3):
        bags = draw_bags(bank, BagConfig(num_cells=5, rounds=rounds), seed=0)
        used = np.bincount(bags.row_BK[bags.mask_BK], minlength=len(bank))
        assert used.min() >= rounds
        # 7 cells make two bags of 5: three pairs are used twice.
        assert len(bags) == rounds * 9 * 2
        assert bags.mask_BK.all()


def test_groups_smaller_than_a_bag_leave_places_empty(bank: PairBank) -> None:
    bags = draw_bags(bank, BagConfig(num_cells=11), seed=0)
    assert bags.mask_BK.sum(axis=1).tolist() == [7] * 9
    first_BK = np.broadcast_to(bags.row_BK[:, :1], bags.row_BK.shape)
    np.testing.assert_array_equal(bags.row_BK[~bags.mask_BK], first_BK[~bags.mask_BK])


def test_bags_over_people_mix_patients_but_not_types(bank: PairBank) -> None:
    bags = draw_bags(bank, BagConfig(num_cells=5, over="people"), seed=0)
    members = bank.frame["patient_id"].to_numpy()[bags.row_BK]
    assert max(len(set(m)) for m in members) > 1
    types = bank.frame["chromosome"].to_numpy()[bags.row_BK]
    assert (types == bags.chromosome_B[:, None]).all()


def test_people_of_several_files_make_parts_of_their_own(table_of: TableOf) -> None:
    table = table_of(num_patients=6, num_cells=3, chromosomes=("1", "2", "X"))
    single = pc.equal(table["chromosome"], "X")
    pair = np.stack([np.frombuffer(one, np.uint8) for one in table["pair"].to_pylist()])
    pair[single.to_numpy(zero_copy_only=False), pair.shape[1] // 2 :] = 0
    column = pa.array([one.tobytes() for one in pair], table["pair"].type)
    table = table.set_column(table.schema.get_field_index("pair"), "pair", column)
    people = sorted(set(table["patient_id"].to_pylist()))
    files = [
        with_parts(table.filter(pc.equal(table["patient_id"], person)), number)
        for number, person in enumerate(people[::-1])
    ]
    bank = PairBank.from_table(pa.concat_tables(files)).of_patients(people[:4])
    assert bank.frame["part"].nunique() == 4
    own = bank.in_parts_of_their_own()
    bags = draw_bags(own, BagConfig(num_cells=5, over="people"), seed=0)
    assert (bags.mask_BK.sum(axis=1) == 5).all()
    # The same as if these people alone had been read.
    wanted = pc.is_in(table["patient_id"], pa.array(people[:4]))
    alone = PairBank.from_table(with_parts(table.filter(wanted)))
    np.testing.assert_array_equal(own.pair_NPCL, alone.pair_NPCL)
    pd.testing.assert_frame_equal(own.frame[list(alone.frame)], alone.frame)


def test_the_seed_decides(bank: PairBank) -> None:
    config = BagConfig()
    first, again, other = (draw_bags(bank, config, seed=s) for s in (4, 4, 5))
    np.testing.assert_array_equal(first.row_BK, again.row_BK)
    assert not np.array_equal(first.row_BK, other.row_BK)


def test_the_bank_does_not_depend_on_the_order_of_rows(table_of: TableOf) -> None:
    table = table_of()
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    one, two = PairBank.from_table(table), PairBank.from_table(shuffled)
    np.testing.assert_array_equal(one.pair_NPCL, two.pair_NPCL)
    assert one.frame.equals(two.frame)


def test_single_homologs_are_counted_and_left_out(table_of: TableOf) -> None:
    table = table_of(num_patients=2, chromosomes=("1", "X"))
    pair = pairs_of(table).copy()
    single = np.asarray([t == "X" for t in table["chromosome"].to_pylist()])
    pair[single, 1] = 0
    table = table.set_column(5, "pair", pa.array([p.tobytes() for p in pair], pa.binary(2048)))
    bank = PairBank.from_table(table)
    assert summary(bank)["not assessed"] == single.sum() == 8
    assert summary(bank.of_patients(["h1-p1"]))["not assessed"] == 4
    assert set(bank.frame["chromosome"]) == {0}


def test_lengths_are_the_last_position_of_either_chromatid(table_of: TableOf) -> None:
    table = table_of(num_patients=1, num_cells=1, chromosomes=("1", "2"))
    pair = pairs_of(table).copy()
    pair[0, 0, 0, 300], pair[0, 0, 1, 301:] = 9, 0
    changed = table.set_column(5, "pair", pa.array([p.tobytes() for p in pair], pa.binary(2048)))
    bank, before = PairBank.from_table(changed), PairBank.from_table(table)
    assert bank.codes.length_NP[0, 0] == 301
    np.testing.assert_array_equal(bank.codes.length_NP[1:], before.codes.length_NP[1:])
    index = PairIndex.from_table(index_table(changed))
    assert index.frame.equals(bank.frame)
    assert index.not_assessed == bank.not_assessed


def test_rows_of_a_file_have_the_scale_of_their_hospital(tmp_path: Path, table_of: TableOf) -> None:
    tables = [table_of(hospital, num_patients=2, chromosomes=("1", "2")) for hospital in "ab"]
    scale = {"a": 3.0, "b": 2.5}
    cohort = write_cohort(tmp_path / "cohort", tables, scale=scale, provenance={})
    rows = pa.concat_tables(rows_of_file(cohort, number) for number in (1, 0))
    for index in (PairBank.from_table(rows), PairIndex.from_table(index_table(rows))):
        scale_N = index.frame["hospital"].map(scale)
        np.testing.assert_array_equal(index.codes.scale_N, scale_N)
        np.testing.assert_array_equal(index.frame["file"], index.frame["hospital"] == "b")
    assert np.isnan(PairBank.from_table(tables[0]).codes.scale_N).all()


def test_bags_are_counted_without_drawing_them(bank: PairBank) -> None:
    for config in (BagConfig(num_cells=5, rounds=2), BagConfig(num_cells=4, over="people")):
        drawn = draw_bags(bank, config, seed=0)
        part_B = bank.codes.part_N[drawn.row_BK[:, 0]]
        assert count_bags(bank, config).tolist() == np.bincount(part_B).tolist()


def test_labels_of_bags_are_those_of_their_pairs(table_of: TableOf) -> None:
    bank = PairBank.from_table(table_of(abnormal="2", num_cells=6))
    bags = draw_bags(bank, BagConfig(num_cells=4), seed=0)
    described = bags.describe(bank)
    for row, (members, mask) in enumerate(zip(bags.row_BK, bags.mask_BK, strict=True)):
        truth = bank.frame.iloc[members[mask]]
        assert described["abnormal"][row] == truth["abnormal"].any()
        assert described["kind"][row] == ("deletion" if truth["abnormal"].any() else "normal")
        assert described["patients"][row] == sorted(set(truth["patient_id"]))
        assert described["num_pairs"][row] == mask.sum()
    assert 0 < described["abnormal"].sum() < len(described)


def test_impossible_bags_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        BagConfig(num_cells=0)
