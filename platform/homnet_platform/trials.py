"""Trials of a sweep: what Ray Tune runs, stops early and continues after a kill.

A trial that fits one worker is a plain Tune function: Train inside Tune costs ten seconds more. A
pre-training that spans several workers is Ray Train inside a trial that itself needs no CPU.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from ray import tune
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY, TuneReportCallback
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from homnet.bags.draw import PairBank
from homnet.cohorts.cohort import Cohort
from homnet.errors import DataError, DivergedError
from homnet.model.checkpoint import Checkpoint
from homnet.training.learning import METRIC, Learner
from homnet.training.stage import Stage
from homnet_platform.job import root_cause
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runs import provenance
from homnet_platform.runtime import configure_ray_data
from homnet_platform.sweep import (
    PRETRAINED,
    PRETRAINING,
    TuneConfig,
    default_point,
    fine_tuning_stage,
    pretraining_stage,
)
from homnet_platform.training import ScalingOptions, run_stage


def search(
    name: str,
    trial: Callable[..., None],
    points: Sequence[Mapping[str, Any]],
    data: Any,
    config: TuneConfig,
    at_once: int,
) -> pd.DataFrame:
    """One search; gives a line per trial with its point, metrics and checkpoint."""
    storage = Path(config.output) / "ray"
    settings = config.training if name == PRETRAINING else config.fine_tuning
    resources = {"CPU": float(config.cpus_per_trial), "GPU": config.gpus_per_trial}
    if name == PRETRAINING and config.workers_per_pretraining > 1:
        # The workers hold what is needed. A hundredth of a CPU, the usual way, would leave too few
        # CPUs for the last of them; a trial must ask for something, so it asks for memory.
        resources = {"memory": float(2**20)}
    with progress_bar(name, len(points) * settings.max_epochs, " epochs") as progress:
        results = _trials(
            name,
            tune.with_resources(
                tune.with_parameters(trial, data=[data], config=config, progress=progress),
                resources,
            ),
            points,
            settings.max_epochs,
            storage,
            config,
            at_once,
        )
    lines = []
    for result in (results[number] for number in range(len(results))):
        metrics, checkpoint = result.metrics, result.checkpoint
        if metrics is None:
            raise DataError(f"{name}: a trial ended before its first epoch; run the sweep again")
        # A trial of Train that was stopped early has its checkpoint in Train's own storage.
        path = metrics.get(CHECKPOINT_PATH_KEY, "") if checkpoint is None else checkpoint.path
        lines.append(
            {
                **{k: v for k, v in metrics["config"]["point"].items() if k != PRETRAINED},
                "epochs": int(metrics["epochs"]),
                **{k: float(v) for k, v in metrics.items() if k.startswith(METRIC)},
                "diverged": bool(metrics["diverged"]),
                "checkpoint": path,
            }
        )
    # In the order of the grid: trials come back in another order when a search was continued.
    order = {tuple(point[k] for k in point if k != PRETRAINED): i for i, point in enumerate(points)}
    lines.sort(key=lambda line: order[tuple(line[k] for k in points[0] if k != PRETRAINED)])
    # A diverged trial has no metrics of single hospitals.
    return pd.DataFrame(lines).fillna(0.0)


def _trials(
    name: str,
    trainable: Any,
    points: Sequence[Mapping[str, Any]],
    max_epochs: int,
    storage: Path,
    config: TuneConfig,
    at_once: int,
) -> tune.ResultGrid:
    """Runs the trials of a search, or those that an interrupted one left."""
    space = {"point": tune.grid_search([dict(point) for point in points])}
    path = str(storage / name)
    if tune.Tuner.can_restore(path):
        tuner = tune.Tuner.restore(
            path,
            trainable=trainable,
            param_space=space,
            resume_unfinished=True,
            resume_errored=True,
        )
    else:
        scheduler = _Halving(
            default_point(config, name),
            max_t=max_epochs,
            grace_period=min(config.grace_epochs, max_epochs),
            reduction_factor=config.reduction_factor,
        )
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="max",
                scheduler=scheduler,
                max_concurrent_trials=config.max_concurrent or at_once,
                # A process of its own would import torch and Ray anew for each trial.
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(storage),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
                failure_config=tune.FailureConfig(max_failures=2),
            ),
        )
    results = tuner.fit()
    if results.errors:
        cause = str(root_cause(results.errors[0])).splitlines()[0]
        raise DataError(f"{name}: {len(results.errors)} trials failed, the first: {cause}")
    return results


class _Halving(AsyncHyperBandScheduler):
    """Stops poor trials early, but never one of the settings that the winner is compared with."""

    def __init__(self, standard: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self._standard = dict(standard)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        point = trial.config["point"]
        kept = all(point[name] == value for name, value in self._standard.items())
        return TrialScheduler.CONTINUE if kept else decision


def pretraining_trial(
    point: dict[str, Any], data: Sequence[Any], config: TuneConfig, progress: Progress
) -> None:
    """Trains one model on artificial abnormalities; Tune calls it with a point of the grid."""
    fingerprint, shared = ray.get(data[0])
    merge_range, rate = point["point"]["merge_range"], point["point"]["pretraining_rate"]
    stage = pretraining_stage(shared, merge_range, rate, config)
    origin = provenance(fingerprint, config.healthy, config, shared.healthy)
    stage = dataclasses.replace(stage, provenance=origin)
    if config.workers_per_pretraining == 1:
        _train({PRETRAINING: stage}, shared.bank, config, progress)
    else:
        _train_across_workers(stage, config, progress)


def _train_across_workers(stage: Stage, config: TuneConfig, progress: Progress) -> None:
    """One stage by Ray Train inside a trial."""
    trial = tune.get_context().get_trial_id()
    configure_ray_data()
    try:
        checkpoint = run_stage(
            Cohort.open(config.cohort).of_hospitals(config.healthy),
            stage,
            storage=Path(config.output) / "ray" / "train" / str(trial),
            scaling=ScalingOptions(
                num_workers=config.workers_per_pretraining,
                cpus_per_worker=config.cpus_per_trial,
                use_gpu=config.gpus_per_trial == 1,
            ),
            callbacks=[_ToTune(progress)],
        ).checkpoint
    except Exception as error:
        if not isinstance(root_cause(error), DivergedError):
            raise
        tune.report({"epochs": 1, "diverged": True, METRIC: 0.0})
        return
    with tempfile.TemporaryDirectory() as directory:
        checkpoint.save(Path(directory) / stage.name)
        metrics = {"epochs": len(checkpoint.metrics["history"]), "diverged": False}
        tune.report(
            {**metrics, METRIC: checkpoint.metrics[METRIC]},
            checkpoint=tune.Checkpoint.from_directory(directory),
        )


class _ToTune(TuneReportCallback):
    """Tells the trial of each epoch of its training, so that it can be stopped early."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._progress = progress
        self._best = 0.0

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        line = metrics[0]
        if METRIC in line:  # else a checkpoint inside an epoch
            self._best = max(self._best, line[METRIC])
            told = {"epochs": int(line["epoch"]) + 1, "diverged": False, METRIC: self._best}
            self._progress.advance(1)
            super().after_report(run_context, [told], checkpoint)


def fine_tuning_trial(
    point: dict[str, Any], data: Sequence[Any], config: TuneConfig, progress: Progress
) -> None:
    """Trains one model per hospital from a pre-trained one, all in step."""
    fingerprint, shared = ray.get(data[0])
    rate = point["point"]["fine_tuning_rate"]
    place = _stage_path(point["point"][PRETRAINED], PRETRAINING)
    parent = Checkpoint.load(place)
    stages = {}
    for hospital, split in shared.hospitals.items():
        stage = fine_tuning_stage(hospital, split, place, rate, config)
        origin = provenance(fingerprint, [hospital], config, split, parent)
        stages[hospital] = dataclasses.replace(stage, model=parent.config, provenance=origin)
    _train(stages, shared.bank, config, progress)


def _stage_path(checkpoint: str, stage: str) -> str:
    """Where a trial's checkpoint has the model of a stage; Train's own checkpoint is the model."""
    inside = Path(checkpoint) / stage
    return str(inside) if inside.is_dir() else checkpoint


def _train(
    stages: Mapping[str, Stage], bank: PairBank, config: TuneConfig, progress: Progress
) -> None:
    """Trains stages in step, an epoch each, reporting their mean after every epoch."""
    torch.set_num_threads(config.cpus_per_trial)
    device = torch.device("cpu")
    if config.gpus_per_trial:
        device = torch.device("cuda")
        # Ray counts parts of a GPU, but does not keep trials from each other's memory.
        torch.cuda.set_per_process_memory_fraction(min(config.gpus_per_trial, 1.0))
    last: dict[str, Checkpoint] = {}
    resumed = tune.get_checkpoint()
    if resumed is not None:
        with resumed.as_directory() as directory:
            last = {
                name: Checkpoint.load(Path(directory) / name, type(stage.model))
                for name, stage in stages.items()
            }
    learners = {
        name: Learner(stage, bank, device=device, resumed=last.get(name))
        for name, stage in stages.items()
    }
    while not all(learner.finished for learner in learners.values()):
        try:
            for name, learner in learners.items():
                if not learner.finished:
                    learner.epoch()
                    last[name] = learner.checkpoint()
        except DivergedError:
            # A rate that is too high is a finding of the sweep, not an error of it.
            tune.report({"epochs": 1, "diverged": True, METRIC: 0.0})
            return
        progress.advance(1)
        reached = {name: learner.stopping.best for name, learner in learners.items()}
        with tempfile.TemporaryDirectory() as directory:
            for name in learners:
                last[name].save(Path(directory) / name)
            tune.report(
                {
                    "epochs": max(len(learner.history) for learner in learners.values()),
                    "diverged": False,
                    METRIC: float(np.mean(list(reached.values()))),
                    **{f"{METRIC} {name}": value for name, value in reached.items()},
                },
                checkpoint=tune.Checkpoint.from_directory(directory),
            )
