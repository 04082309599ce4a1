"""Trials of a sweep, which Ray Tune runs, stops early and resumes.

A trial with one worker is a plain Tune function, because Train inside Tune costs ten seconds more.
A pre-training on several workers runs Ray Train inside a trial that itself needs no CPU.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from ray import tune
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY, TuneReportCallback
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search import BasicVariantGenerator

from homnet.bags.draw import PairBank
from homnet.cohorts.cohort import Cohort
from homnet.errors import DataError, DivergedError, first_line
from homnet.locations import Location, RemotePath, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.scoring import prepare_device
from homnet.training.learning import METRIC, Learner
from homnet.training.stage import Stage
from homnet.training.supply import Resident
from homnet_platform.job import root_cause
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runs import provenance, ray_storage
from homnet_platform.runtime import configure_ray_data
from homnet_platform.sweep import (
    PRETRAINED,
    PRETRAINING,
    TuneConfig,
    fine_tuning_stage,
    name_of,
    pretraining_stage,
)
from homnet_platform.training import ScalingOptions, run_stage


@dataclass(frozen=True)
class Search:
    """One search of a sweep: what to try."""

    name: str
    """Name of the search, and of its folder."""
    trial: Callable[..., None]
    """The trial."""
    points: Sequence[Mapping[str, Any]]
    """The parameters of each trial of a grid."""
    space: Mapping[str, Any]
    """The domain of each parameter, for a searcher."""
    standard: Mapping[str, Any]
    """The parameters of the default settings; they are tried and never stopped early."""
    parents: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Point and ``checkpoint`` of each pre-trained model, by name."""

    def whole(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The point of some parameters, which may name a model instead of the model's point."""
        parent = self.parents.get(parameters.get(PRETRAINED, ""), {})
        whole = {**parent, **parameters}
        return {
            name: value for name, value in whole.items() if name not in (PRETRAINED, "checkpoint")
        }


def search(wanted: Search, data: Sequence[Any], config: TuneConfig, at_once: int) -> pd.DataFrame:
    """Runs one search; returns a row per trial with its point, metrics and checkpoint."""
    storage = to_location(config.output) / "ray"
    name = wanted.name
    settings = config.training if name == PRETRAINING else config.fine_tuning
    resources = {"CPU": float(config.cpus_per_trial), "GPU": config.gpus_per_trial}
    if name == PRETRAINING and config.workers_per_pretraining > 1:
        # The workers hold the resources, but a trial must request something. The usual 0.01 CPU
        # would leave too few CPUs for the last worker, so it requests memory.
        resources = {"memory": float(2**20)}
    num_trials = len(wanted.points) if config.searcher == "grid" else config.num_samples
    with progress_bar(name, num_trials * settings.max_epochs, " epochs") as progress:
        trainable = tune.with_parameters(
            wanted.trial,
            data=list(data),
            parents=dict(wanted.parents),
            config=config,
            progress=progress,
        )
        results = _trials(
            wanted,
            tune.with_resources(trainable, resources),
            num_trials,
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
        # If a Train trial is stopped early, its checkpoint is in Train's own storage.
        path = metrics.get(CHECKPOINT_PATH_KEY, "") if checkpoint is None else checkpoint.path
        if path and isinstance(storage, RemotePath):
            path = str(storage.at(path))
        lines.append(
            {
                **wanted.whole(metrics["config"]),
                "epochs": int(metrics["epochs"]),
                **{k: float(v) for k, v in metrics.items() if k.startswith(METRIC)},
                "diverged": bool(metrics["diverged"]),
                "checkpoint": path,
            }
        )
    # In the order of the grid, then of the values: a resumed search returns another order.
    parameters = list(wanted.points[0])
    of_grid = {tuple(point.values()): number for number, point in enumerate(wanted.points)}

    def place(line: dict[str, Any]) -> tuple[Any, ...]:
        values = tuple(line[name] for name in parameters)
        return of_grid.get(values, len(of_grid)), values

    lines.sort(key=place)
    # A diverged trial has no metrics per hospital.
    return pd.DataFrame(lines).fillna(0.0)


def _trials(
    wanted: Search,
    trainable: Any,
    num_trials: int,
    max_epochs: int,
    storage: Location,
    config: TuneConfig,
    at_once: int,
) -> tune.ResultGrid:
    """Runs the trials of a search, or the remaining ones of an interrupted search."""
    place = ray_storage(storage / wanted.name)
    path, system = place["storage_path"], place.get("storage_filesystem")
    # Parameters of their own, not a point within one: dashboards show them as columns.
    space = dict(wanted.space)
    if tune.Tuner.can_restore(path, storage_filesystem=system):
        tuner = tune.Tuner.restore(
            path,
            storage_filesystem=system,
            trainable=trainable,
            param_space=space,
            resume_unfinished=True,
            resume_errored=True,
        )
    else:
        scheduler = _Halving(
            wanted.standard,
            max_t=max_epochs,
            grace_period=1,
            reduction_factor=config.reduction_factor,
        )
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="max",
                scheduler=scheduler,
                search_alg=_searcher(wanted, config),
                num_samples=num_trials,
                max_concurrent_trials=config.max_concurrent or at_once,
                # A new process would import torch and Ray again for each trial.
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=wanted.name,
                **ray_storage(storage),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
                failure_config=tune.FailureConfig(max_failures=2),
            ),
        )
    results = tuner.fit()
    if results.errors:
        cause = first_line(root_cause(results.errors[0]))
        raise DataError(f"{wanted.name}: {len(results.errors)} trials failed, the first: {cause}")
    return results


def _searcher(wanted: Search, config: TuneConfig) -> Any:
    """What chooses the parameters of the next trial."""
    if config.searcher == "grid":
        return BasicVariantGenerator(points_to_evaluate=[dict(point) for point in wanted.points])
    import optuna  # as the extra of this name is installed only for these searches
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(points_to_evaluate=[dict(wanted.standard)], seed=config.training.seed)


class _Halving(AsyncHyperBandScheduler):
    """Stops poor trials early, but never the one with the default settings."""

    def __init__(self, standard: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self._standard = dict(standard)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        kept = all(trial.config.get(name) == value for name, value in self._standard.items())
        return TrialScheduler.CONTINUE if kept else decision


def pretraining_trial(
    point: dict[str, Any],
    data: Sequence[Any],
    parents: Mapping[str, Any],
    config: TuneConfig,
    progress: Progress,
) -> None:
    """Trains one model on artificial abnormalities; Tune calls it with a point."""
    fingerprint, people = ray.get(data[0])
    merge_range, rate = point["merge_range"], point["pretraining_rate"]
    stage = pretraining_stage(people, merge_range, rate, config)
    origin = provenance(fingerprint, people.scale_of(config.healthy), config, people.healthy)
    stage = dataclasses.replace(stage, provenance=origin)
    if config.workers_per_pretraining == 1:
        _train({PRETRAINING: stage}, ray.get(data[1]), config, progress)
    else:
        _train_across_workers(stage, config, progress)


def _train_across_workers(stage: Stage, config: TuneConfig, progress: Progress) -> None:
    """Trains one stage with Ray Train inside a trial."""
    trial = tune.get_context().get_trial_id()
    configure_ray_data()
    try:
        checkpoint = run_stage(
            Cohort.open(config.cohort).of_hospitals(config.healthy),
            stage,
            storage=to_location(config.output) / "ray" / "train" / str(trial),
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
    """Reports each epoch of Train to the trial, so that it can be stopped early."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._progress = progress
        self._best = 0.0

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any
    ) -> None:
        line = metrics[0]
        if METRIC in line:  # otherwise a checkpoint within an epoch
            self._best = max(self._best, line[METRIC])
            told = {"epochs": int(line["epoch"]) + 1, "diverged": False, METRIC: self._best}
            self._progress.advance(1)
            super().after_report(run_context, [told], checkpoint)


def fine_tuning_trial(
    point: dict[str, Any],
    data: Sequence[Any],
    parents: Mapping[str, Any],
    config: TuneConfig,
    progress: Progress,
) -> None:
    """Fine-tunes a pre-trained model for each hospital, epoch by epoch in parallel."""
    fingerprint, people = ray.get(data[0])
    rate = point["fine_tuning_rate"]
    of_parent = parents[point.get(PRETRAINED) or name_of(point)]
    place = _stage_path(of_parent["checkpoint"], PRETRAINING)
    parent = Checkpoint.load(place)
    stages = {}
    for hospital, split in people.hospitals.items():
        stage = fine_tuning_stage(hospital, split, place, rate, config)
        origin = provenance(fingerprint, people.scale_of([hospital]), config, split, parent)
        stages[hospital] = dataclasses.replace(stage, model=parent.config, provenance=origin)
    _train(stages, ray.get(data[1]), config, progress)


def _stage_path(checkpoint: str, stage: str) -> str:
    """Path of a stage's model in a trial's checkpoint; Train's own checkpoint is the model."""
    inside = to_location(checkpoint) / stage
    return str(inside) if inside.is_dir() else checkpoint


def _train(
    stages: Mapping[str, Stage], bank: PairBank, config: TuneConfig, progress: Progress
) -> None:
    """Trains stages in turns of one epoch, and reports their mean after every turn."""
    torch.set_num_threads(config.cpus_per_trial)
    device = torch.device("cpu")
    if config.gpus_per_trial:
        device = torch.device("cuda")
        prepare_device(device.type)
        # Ray counts fractions of a GPU, but does not limit the memory of each trial.
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
        name: Learner(
            stage, Resident.of(stage, bank, device), device=device, resumed=last.get(name)
        )
        for name, stage in stages.items()
    }
    while not all(learner.finished for learner in learners.values()):
        try:
            for name, learner in learners.items():
                if not learner.finished:
                    learner.epoch()
                    last[name] = learner.checkpoint()
        except DivergedError:
            # Divergence at a high learning rate is a result of the sweep, not an error.
            tune.report({"epochs": len(learner.history) + 1, "diverged": True, METRIC: 0.0})
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
