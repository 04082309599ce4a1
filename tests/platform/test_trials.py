"""Trials of a sweep: those that diverge, and those that span workers."""

from dataclasses import replace

import pytest

from homnet.training.learning import METRIC, train
from homnet_platform.data import Participants
from homnet_platform.sweep import TuneConfig, pretraining_stage
from homnet_platform.tuning import sweep

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.mark.slow
def test_rates_that_diverge_lose_and_do_not_stop_the_sweep(sweep_config: TuneConfig) -> None:
    one = replace(sweep_config.training, max_epochs=1)
    wild = replace(
        sweep_config,
        merge_ranges=(64,),
        pretraining_rates=(1e30, 1e-3),
        training=replace(one, averaging=0.0, learning_rate=1e-3),
        fine_tuning=replace(one, labels="cohort"),
        registry="",
    )
    figures = sweep(wild)
    assert [trial["diverged"] for trial in figures["pretraining"]] == [True, False]
    assert {trial["pretraining_rate"] for trial in figures["fine_tuning"]} == {1e-3}


@pytest.mark.slow
def test_pretrainings_that_span_workers(
    sweep_config: TuneConfig, participants: Participants
) -> None:
    """Ray Train inside Tune gives the models that one process would have given."""
    wide = replace(
        sweep_config,
        merge_ranges=(64,),
        pretraining_rates=(3e-3,),
        workers_per_pretraining=2,
        training=replace(sweep_config.training, max_epochs=2),
        fine_tuning=replace(sweep_config.fine_tuning, max_epochs=1),
        registry="",
    )
    (across,) = (figures := sweep(wide))["pretraining"]
    alone = train(pretraining_stage(participants, 64, 3e-3, wide), participants.bank)
    assert across["epochs"] == len(alone.metrics["history"]) == 2
    assert across[METRIC] == pytest.approx(alone.metrics[METRIC], abs=5e-3)
    assert figures["winner"]["fine_tuning_rate"] == 1e-3
