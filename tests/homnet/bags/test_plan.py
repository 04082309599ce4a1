"""The order of an epoch: whole files, every bag once, and the same for any number of workers."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from homnet.bags import draw
from homnet.bags.draw import BagConfig, PairBank, draw_bags, with_parts
from homnet.bags.epochs import draw_epoch
from homnet.bags.events import EventConfig
from homnet.bags.plan import Plan

TableOf = Callable[..., pa.Table]
BAGS = BagConfig(num_cells=3)


@pytest.fixture
def bank(table_of: TableOf, monkeypatch: pytest.MonkeyPatch) -> PairBank:
    """Five files of two to four patients, two to each part."""
    monkeypatch.setattr(draw, "PART_PAIRS", 2 * 4 * 5)
    tables = [
        with_parts(
            table_of(f"h{n}", num_patients=2 + n // 2, chromosomes=("1", "2", "13", "14", "21")), n
        )
        for n in range(5)
    ]
    return PairBank.from_table(pa.concat_tables(tables))


def test_a_part_is_consecutive_patients_of_one_file(bank: PairBank) -> None:
    parts = bank.frame.groupby("part")
    assert (parts["file"].nunique() == 1).all()
    assert (parts["hospital"].nunique() == 1).all()
    assert bank.frame.groupby("patient_id")["part"].nunique().eq(1).all()
    assert parts["patient_id"].nunique().tolist().count(1) == 2, "files of three patients"
    assert len(bank.codes.part_Q) == parts.ngroups == 8


def test_parts_do_not_depend_on_what_is_left_out_later(bank: PairBank) -> None:
    few = bank.of_patients(["h4-p1", "h4-p3"])
    whole = bank.frame.set_index("patient_id")["part"]
    for patient, part in zip(few.frame["patient_id"], few.frame["part"], strict=True):
        assert part == whole[patient].iloc[0]


@pytest.mark.parametrize("over", ["patient", "people"])
@pytest.mark.parametrize("events", [None, EventConfig(sham_share=0.3, translocations=True)])
def test_bags_of_a_part_do_not_depend_on_other_parts(
    bank: PairBank, over: str, events: EventConfig | None
) -> None:
    """Two processes that hold some parts each draw together what one draws alone."""
    bags = BagConfig(num_cells=3, rounds=2, over=over)  # type: ignore[arg-type]
    whole = draw_epoch(bank, bags, events, seed=5, epoch=2)
    first_B = bank.codes.part_N[whole.bags.row_BK[:, 0]]
    assert (np.diff(first_B) >= 0).all(), "part by part"
    for own in ([6, 1], [0, 3, 7]):
        numbers = bank.codes.part_Q[own]
        alone = PairBank(
            frame=bank.frame[bank.frame["part"].isin(numbers)].reset_index(drop=True),
            pair_NPCL=bank.pair_NPCL[bank.frame["part"].isin(numbers)],
        )
        places = [int(np.flatnonzero(alone.codes.part_Q == number)[0]) for number in numbers]
        drawn = draw_epoch(alone, bags, events, seed=5, epoch=2, parts=np.asarray(places))
        expected = whole.take(np.concatenate([np.flatnonzero(first_B == q) for q in own]))
        np.testing.assert_array_equal(
            alone.pair_NPCL[drawn.bags.row_BK], bank.pair_NPCL[expected.bags.row_BK]
        )
        np.testing.assert_array_equal(drawn.bags.mask_BK, expected.bags.mask_BK)
        np.testing.assert_array_equal(drawn.label_B, expected.label_B)
        np.testing.assert_array_equal(drawn.kind_B, expected.kind_B)
        if drawn.events is not None and expected.events is not None:
            np.testing.assert_array_equal(drawn.events.stop_BKQ, expected.events.stop_BKQ)
            np.testing.assert_array_equal(
                alone.pair_NPCL[drawn.events.donor_row_BK],
                bank.pair_NPCL[expected.events.donor_row_BK],
            )


def test_windows_are_whole_files_in_random_order(bank: PairBank) -> None:
    plan = Plan.of(bank, BAGS)
    assert (len(plan), plan.num_pairs) == (8, len(bank))
    assert plan.num_bags == len(draw_bags(bank, BAGS, seed=0))
    first, again, later = (plan.windows(120, seed=1, epoch=epoch) for epoch in (0, 0, 1))
    assert [w.files for w in first] == [w.files for w in again] != [w.files for w in later]
    assert sorted(file for window in first for file in window.files) == list(range(5))
    assert len(first) > 2
    for window in first:
        assert plan.pairs_Q[window.part_Q].sum() <= 120
        assert list(dict.fromkeys(plan.file_Q[window.part_Q])) == list(window.files)
    (whole,) = plan.windows(len(bank), seed=1, epoch=0)
    assert whole.part_Q.tolist() == list(range(8))
    assert len(plan.windows(1, seed=1, epoch=0)) == 5, "a large file is alone"


def test_the_order_of_a_window_has_every_bag_once(bank: PairBank) -> None:
    plan = Plan.of(bank, BAGS)
    one, two, *_ = plan.windows(120, seed=1, epoch=0)
    order_B = plan.order(one, seed=1, epoch=0)
    assert sorted(order_B) == list(range(plan.bags_Q[one.part_Q].sum()))
    assert not np.array_equal(order_B, plan.order(one, seed=1, epoch=1))
    assert not np.array_equal(order_B[:9], plan.order(two, seed=1, epoch=0)[:9])


def test_plans_of_files_make_the_plan_of_the_cohort(bank: PairBank) -> None:
    whole = Plan.of(bank, BAGS)
    files = [bank._where((bank.frame["file"] == n).to_numpy()) for n in range(5)]
    together = Plan.concatenate([Plan.of(file, BAGS) for file in files])
    for name in Plan.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(together, name))


def test_parts_are_dealt_evenly(bank: PairBank) -> None:
    plan = Plan.of(bank, BAGS)
    for world in (1, 2, 3):
        worker_Q = plan.worker_Q(world)
        counts = np.bincount(worker_Q, minlength=world)
        assert counts.max() - counts.min() <= 2
        for file in range(5):
            of_file = np.bincount(worker_Q[plan.file_Q == file], minlength=world)
            assert of_file.max() - of_file.min() <= 1
