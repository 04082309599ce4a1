"""What fits in the minutes of a training."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from homnet.bags.plan import Plan
from homnet.cohorts.split import TRAIN
from homnet.training.stage import Stage
from homnet_platform.data import Participants
from homnet_platform.records import budget
from homnet_platform.records.budget import seconds_per_pair, short_stage, sized
from homnet_platform.records.method_runs import MethodRuns
from homnet_platform.records.method_trials import Method


@pytest.fixture
def stage(runs_of: Callable[..., MethodRuns], tried: Method, shared: Participants) -> Stage:
    """Two people with three types of four cells to learn from, two to validate on."""
    stage = runs_of(tried).pretraining(shared, 0)
    bags = replace(stage.training.bags, rounds=7)
    return replace(stage, training=replace(stage.training, bags=bags))


def _seconds(stage: Stage, shared: Participants, per_pair_s: float) -> float:
    training = stage.training
    plan = Plan.of(stage.parts(shared.bank.index)[0], training.bags)
    bags = sum(stage.num_bags(plan, epoch) for epoch in range(training.max_epochs))
    # Bags of at most three of four cells hold two on average; scoring costs a third.
    return per_pair_s * (2 * bags + training.max_epochs * 24 / 3)


@pytest.mark.parametrize("seconds", [5.0, 23.0, 30.0, 37.0, 60.0, 1e3, 1e5])
def test_a_training_takes_its_seconds(stage: Stage, shared: Participants, seconds: float) -> None:
    own = sized(stage, shared.bank, 0.02, seconds)
    assert 4 <= own.training.max_epochs <= 20
    assert _seconds(own, shared, 0.02) == pytest.approx(seconds, rel=0.25)
    assert own.model == stage.model
    assert replace(own, training=stage.training) == stage


def test_little_time_means_parts_of_the_people_in_turn(stage: Stage, shared: Participants) -> None:
    bank = shared.bank.of_patients(stage.train_patients | stage.validation_patients)
    few = sized(stage, bank, 1.0, 1.0).training
    parts = len(Plan.of(stage.parts(bank.index)[0], few.bags))
    assert (few.max_epochs, few.epochs_per_pass, few.bags.rounds) == (4, parts, 1)
    much = sized(stage, bank, 1e-4, 10.0).training
    assert (much.max_epochs, much.epochs_per_pass) == (20, 1)
    assert much.bags.rounds == pytest.approx((10 / 20 / 1e-4 - 8) / 24, abs=1)


def test_the_rate_leaves_out_what_every_run_costs(
    stage: Stage, shared: Participants, tried: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def fit(short: Stage, bank: Any, **_: object) -> None:
        nonlocal now
        now += 3.0 + 0.5 * short_stage(short, bank)[1]

    monkeypatch.setattr(budget, "_PROBED_PAIRS", 3)
    monkeypatch.setattr(budget.time, "process_time", lambda: now)
    assert seconds_per_pair(replace(tried, fit=fit), stage, shared.bank, "cpu") == 0.5


def test_a_short_run_is_one_epoch_over_the_first_people(stage: Stage, shared: Participants) -> None:
    short, num_pairs = short_stage(stage, shared.bank, 10)
    assert short.training.max_epochs == short.training.bags.rounds == 1
    assert len(short.train_patients) == 1
    assert short.train_patients < shared.healthy[TRAIN]
    assert num_pairs == pytest.approx(12 + 24 / 3)
