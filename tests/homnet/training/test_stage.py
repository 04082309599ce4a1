"""What a run needs: who is learnt from, and the same bags for everybody."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.plan import Plan
from homnet.errors import ConfigError, DataError
from homnet.model.checkpoint import patient_digests
from homnet.model.network import HomNetConfig
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage


@pytest.fixture
def bank(table_of: Callable[..., pa.Table]) -> PairBank:
    table = table_of(num_patients=6, chromosomes=("1", "9", "13"), abnormal="9")
    return PairBank.from_table(table)


def _stage(**training: object) -> Stage:
    return Stage(
        name="run",
        model=HomNetConfig(),
        training=replace(TrainingConfig(bags=BagConfig(num_cells=3)), **training),  # type: ignore[arg-type]
        train_patients=frozenset({"h1-p0", "h1-p1", "h1-p2"}),
        validation_patients=frozenset({"h1-p3", "h1-p4"}),
    )


def test_a_patient_in_both_parts_is_refused() -> None:
    with pytest.raises(DataError, match="h1-p3 is in both training and validation"):
        replace(_stage(), train_patients=frozenset({"h1-p0", "h1-p3"}))


@pytest.mark.parametrize("use", ["learnt_from", "validated_on"])
def test_a_run_with_other_patients_than_it_records_is_refused(use: str) -> None:
    stage = _stage()
    known = {
        "learnt_from": patient_digests({*stage.train_patients, "of the parent"}),
        "validated_on": patient_digests(stage.validation_patients),
    }
    assert replace(stage, provenance=known).provenance == known
    known[use] = known[use][1:]
    with pytest.raises(DataError, match=f"1 patients of the run are missing from '{use}'"):
        replace(stage, provenance=known)


def test_artificial_abnormalities_are_made_of_normal_pairs(bank: PairBank) -> None:
    for labels, abnormal in (("artificial", [False, False]), ("cohort", [True, True])):
        parts = _stage(labels=labels).parts(bank)
        people = [set(part.frame["patient_id"]) for part in parts]
        assert people == [{"h1-p0", "h1-p1", "h1-p2"}, {"h1-p3", "h1-p4"}]
        assert [bool(part.frame["abnormal"].any()) for part in parts] == abnormal


def test_validation_bags_never_change_and_are_not_those_of_training(bank: PairBank) -> None:
    stage = _stage(validation_rounds=2)
    _, index = stage.parts(bank.index)
    one, again = stage.validation_epoch(index), stage.validation_epoch(index)
    np.testing.assert_array_equal(one.bags.row_BK, again.bags.row_BK)
    np.testing.assert_array_equal(one.label_B, again.label_B)
    training = stage.train_epoch(index, 0)
    assert len(one) == 2 * len(training)
    assert not np.array_equal(one.bags.row_BK[: len(training)], training.bags.row_BK)


def test_validation_needs_both_classes(bank: PairBank) -> None:
    stage = replace(_stage(labels="cohort"), validation_patients=frozenset({"h1-p5"}))
    with pytest.raises(DataError, match="all of one class"):
        stage.require_validation(bank)


@pytest.mark.parametrize("window_pairs", [20, 1000])
@pytest.mark.parametrize("turns", [2, 3])
def test_epochs_of_a_pass_share_its_parts(
    table_of: Callable[..., pa.Table],
    monkeypatch: pytest.MonkeyPatch,
    window_pairs: int,
    turns: int,
) -> None:
    monkeypatch.setattr("homnet.bags.draw.PART_PAIRS", 12)  # a part is a patient
    people = PairBank.from_table(table_of(num_patients=7, chromosomes=("1", "9", "13")))
    stage = _stage(epochs_per_pass=turns, window_pairs=window_pairs)
    plan = Plan.of(people, stage.training.bags)
    assert len(plan) == 7
    for first in (0, turns):
        epochs = [
            [part for window in stage.windows(plan, first + turn) for part in window.part_Q]
            for turn in range(turns)
        ]
        assert sorted(part for parts in epochs for part in parts) == list(range(7))
        assert {len(parts) for parts in epochs} == {7 // turns, 7 // turns + 1}
        numbers = [stage.num_bags(plan, first + turn) for turn in range(turns)]
        assert sum(numbers) == plan.num_bags
    with pytest.raises(ConfigError, match="the training set has 7 parts"):
        replace(stage, training=replace(stage.training, epochs_per_pass=8)).windows(plan, 0)
