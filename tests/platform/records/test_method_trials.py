"""Methods: what their trials change, and which trial is kept."""

from dataclasses import replace

import pytest

from homnet.bags.draw import BagConfig
from homnet.cohorts.split import TRAIN, VALIDATION
from homnet.errors import ConfigError, DataError, DivergedError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNetConfig
from homnet.training.learning import METRIC
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.data import Participants
from homnet_platform.records.method_trials import Method, ranked_of, try_once


@pytest.fixture
def stage(small: HomNetConfig) -> Stage:
    return Stage("s", small, TrainingConfig(), frozenset("a"), frozenset("b"))


def test_the_trial_that_validates_best_is_kept(small: HomNetConfig, shared: Participants) -> None:
    people = shared.healthy
    stage = Stage("s", small, TrainingConfig(), people[TRAIN], people[VALIDATION])
    reached = {1.0: 0.7, 2.0: 0.9, 3.0: 0.9}

    def fit(stage, bank, **_):
        rate = stage.training.learning_rate
        if rate == 4.0:
            raise DivergedError("too high")
        spent = dict.fromkeys(("seconds", "cpu_seconds", "seconds_to_best"), rate)
        metrics = {METRIC: reached[rate], "history": [{METRIC: reached[rate]}], **spent}
        return Checkpoint(stage.model, small.build().state_dict(), metrics)

    method = Method(small, fit)
    tried = [
        try_once(method, trial, method.stage(stage, trial), shared.bank, "cpu")
        for trial in ({"learning_rate": rate} for rate in (1.0, 4.0, 2.0, 3.0))
    ]
    lines = [line for _, line in tried]
    assert ranked_of(lines, "s")[0] == 2  # of equals the first
    assert tried[2][0].metrics[METRIC] == 0.9
    assert lines[2]["curve"] == [0.9]
    # Two people with three types of four cells, in bags of at most five.
    assert lines[2]["bags"] == 2 * 3
    assert tried[1] == (None, {"tried": {"learning_rate": 4.0}, "diverged": True})
    with pytest.raises(DataError, match="s: every trial diverged"):
        ranked_of(lines[1:2], "s")


def test_what_is_tried_is_a_field_of_the_training_or_of_the_form(
    small: HomNetConfig, stage: Stage
) -> None:
    method = Method(small, print, ({"learning_rate": 0.5, "merge_range": 16},))
    assert method.stage(stage, method.trials[0]) == replace(
        stage, model=replace(small, merge_range=16), training=TrainingConfig(learning_rate=0.5)
    )
    assert Method(small, print).trials == ({},)
    with pytest.raises(ConfigError, match="no field 'speed'"):
        Method(small, print, ({"speed": 1},))


def test_a_step_without_bags_has_as_many_pairs(small: HomNetConfig, stage: Stage) -> None:
    bags = BagConfig(num_cells=3, rounds=2)
    stage = replace(stage, training=TrainingConfig(batch_size=32, bags=bags))
    method = Method(small, print, one_pair=True)
    single = method.stage(stage, {}).training
    assert single.batch_size == 96
    assert single.bags == method.bags(bags) == BagConfig(num_cells=1, rounds=2)
    assert Method(small, print).stage(stage, {}) == stage
