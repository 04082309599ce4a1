"""What the runs of a comparison cost, in pairs."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from homnet.cohorts.split import TRAIN
from homnet_platform.data import Participants
from homnet_platform.records import cost
from homnet_platform.records.cost import short_stage, work_of
from homnet_platform.records.method_runs import MethodRuns
from homnet_platform.records.methods import Method
from homnet_platform.records.plan import Comparison


def test_all_pairs_that_are_seen_are_counted(comparison: Comparison, shared: Participants) -> None:
    work = work_of(shared, replace(comparison, scale=0.05))
    # Two people with 3 types of 4 cells; four to test. Scoring costs a third of learning.
    assert work.pretraining == pytest.approx(5 * (24 + 24 / 3))
    assert work.fine_tuning == pytest.approx(24 + 24 / 3)
    assert work.scoring == pytest.approx((24 + 48) / 3)
    artificial = work_of(replace(shared, hospitals={}), replace(comparison, fine_tuned=False))
    assert artificial.fine_tuning == 0
    assert artificial.scoring == work.scoring


def test_a_short_run_is_one_epoch_of_the_largest_trial(
    runs_of: Callable[..., MethodRuns],
    tried: Method,
    shared: Participants,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cost, "_PROBED_PAIRS", 10)
    stage, num_pairs = short_stage(runs_of(tried), shared)
    assert stage.model.width == tried.trials[-1]["width"]
    assert stage.training.max_epochs == 1
    assert len(stage.train_patients) == 1
    assert stage.train_patients < shared.healthy[TRAIN]
    assert num_pairs == pytest.approx(12 + 12 / 3)
