"""Sweeps: merge ranges and learning rates over all hospitals, each pre-training done once.

Two searches follow each other. The first pre-trains every merge range with every rate; the best of
them go on to the second, which fine-tunes each on all hospitals with every rate. Poor trials are
stopped early in both (successive halving), but for the settings that the winner is compared with.
Only people of the training and validation splits are read: nobody of the test is seen.

A trial that fits one worker is a plain Tune function: Train inside Tune costs ten seconds more. A
pre-training that spans several workers is Ray Train inside a trial that itself needs no CPU.
"""

import dataclasses
import itertools
import math
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import ray
import torch
from matplotlib.figure import Figure
from ray import tune
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY, TuneReportCallback
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from homnet.bags import BagConfig, PairBank
from homnet.checkpoint import Checkpoint
from homnet.cohort import Cohort
from homnet.errors import ConfigError, DataError, DivergedError
from homnet.learning import METRIC, Learner, Stage, finished
from homnet.model import HomNetConfig, best_form
from homnet.registry import Registry
from homnet.results import read_json, write_json, write_result
from homnet.split import TRAIN, VALIDATION, SplitConfig
from homnet.training import TrainingConfig
from homnet_platform.data import Shared, collect_shared, hospitals_with_abnormal_pairs
from homnet_platform.job import root_cause
from homnet_platform.pretraining import claim_of, provenance
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runtime import configure_ray_data, local_or_cluster, require_workers
from homnet_platform.training import ScalingOptions, run_stage

_PRETRAINING: Final = "pre-training"
_FINE_TUNING: Final = "fine-tuning"
_PRETRAINED: Final = "pretrained"
"""Field of a point that names the checkpoint of its pre-training."""


@dataclass(frozen=True)
class TuneConfig:
    """What is swept, and with what effort."""

    cohort: str = "cohorts/simulated"
    """Cohort directory."""
    output: str = "runs/tune"
    """Directory for the trials, trials.csv, sweep.md, sweep.png and the winner's checkpoints."""
    healthy: tuple[str, ...] = ("healthy-1",)
    """Hospitals of healthy people for the pre-training."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to fine-tune on; by default all that have abnormal pairs."""
    merge_ranges: tuple[int, ...] = (8, 16, 32, 48, 64)
    """Samples per region."""
    pretraining_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Learning rates of the pre-training."""
    fine_tuning_rates: tuple[float, ...] = (1e-5, 1e-4, 1e-3)
    """Learning rates of the fine-tuning."""
    num_finalists: int = 4
    """Pre-trained models that are fine-tuned."""
    model: HomNetConfig = best_form()
    """Form of the model. Its merge range, with the rates of ``training`` and ``fine_tuning``, is
    the default that the winner is compared with: always trained to the end."""
    training: TrainingConfig = TrainingConfig(
        schedule="cosine", weight_decay=0.01, averaging=0.99, max_epochs=8
    )
    """Pre-training."""
    fine_tuning: TrainingConfig = TrainingConfig(
        learning_rate=1e-5,
        labels="cohort",
        bags=BagConfig(rounds=4),
        validation_rounds=4,
        max_epochs=8,
    )
    """Fine-tuning."""
    split: SplitConfig = SplitConfig()
    """People of the pre-training."""
    hospital_split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Patients of the fine-tuning."""
    grace_epochs: int = 1
    """Epochs that every trial is given."""
    reduction_factor: int = 3
    """One in so many trials goes on at each rung."""
    cpus_per_trial: int = 1
    """CPUs, and threads, of a trial."""
    gpus_per_trial: float = 0.0
    """GPUs of a trial; a part lets several trials share one."""
    workers_per_pretraining: int = 1
    """Workers of one pre-training, each with the CPUs and GPUs of a trial; above 1 they are Ray
    Train's. Fine-tunings are small and have one."""
    max_concurrent: int = 0
    """Trials at the same time; 0 is as many as fit."""
    registry: str = ""
    """Registry where the winner is promoted for every hospital, if one is named."""
    claim: str = ""
    """What the figures show, in one sentence; with it a result of record is written."""
    result: Path | None = None
    """File of the result of record."""

    def __post_init__(self) -> None:
        for name in ("merge_ranges", "pretraining_rates", "fine_tuning_rates"):
            if not getattr(self, name):
                raise ConfigError(f"{name} must name at least one value")
        if min(self.num_finalists, self.grace_epochs, self.workers_per_pretraining) < 1:
            raise ConfigError(
                "num_finalists, grace_epochs and workers_per_pretraining must be at least 1"
            )
        if self.reduction_factor < 2:
            raise ConfigError(f"reduction_factor must be at least 2, got {self.reduction_factor}")
        if self.workers_per_pretraining > 1 and self.gpus_per_trial not in (0, 1):
            raise ConfigError("workers of Ray Train have whole GPUs; set gpus_per_trial to 0 or 1")
        if (self.result is None) != (not self.claim):
            raise ConfigError("a result of record needs both --claim and --result")


def sweep(config: TuneConfig) -> dict[str, Any]:
    """Runs both searches, or continues them, and gives the figures of all trials.

    Raises:
        CohortError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort)
    hospitals = config.hospitals or hospitals_with_abnormal_pairs(cohort)
    if not hospitals:
        raise DataError(f"{cohort.root}: no hospital has abnormal pairs to fine-tune on")
    output = Path(config.output).resolve()
    _claim(output, config, cohort)
    started = time.perf_counter()
    with local_or_cluster():
        fitting = require_workers(
            max(config.max_concurrent, 1) * config.workers_per_pretraining,
            "the sweep",
            cpus=config.cpus_per_trial,
            gpus=config.gpus_per_trial,
        )
        # Trials that wait for workers while others hold them would wait for ever.
        at_once = fitting // config.workers_per_pretraining
        shared = collect_shared(
            cohort,
            healthy=config.healthy,
            hospitals=hospitals,
            split=config.split,
            hospital_split=config.hospital_split,
            parts=(TRAIN, VALIDATION),
        )
        _refuse_unusable(shared, config)
        data = ray.put((cohort.fingerprint, shared))
        grid = itertools.product(config.merge_ranges, config.pretraining_rates)
        points: list[dict[str, Any]] = [
            {"merge_range": merge, "pretraining_rate": rate} for merge, rate in grid
        ]
        standard = _default(config, _PRETRAINING)
        pretrained = _search(
            _PRETRAINING,
            _pretraining_trial,
            points + [point for point in [standard] if point not in points],
            data,
            config,
            at_once,
        )
        ranked = _finished(pretrained)
        finalists = ranked.head(config.num_finalists)
        points = [
            {
                "merge_range": one["merge_range"],
                "pretraining_rate": one["pretraining_rate"],
                "fine_tuning_rate": rate,
            }
            for one in finalists.to_dict("records")
            for rate in config.fine_tuning_rates
        ]
        standard = _default(config, _FINE_TUNING)
        known = _of(ranked, standard)
        if known and standard not in points:
            points.append(standard)
        tuned = _search(
            _FINE_TUNING,
            _fine_tuning_trial,
            [{**point, _PRETRAINED: _of(ranked, point)[0]["checkpoint"]} for point in points],
            data,
            config,
            at_once,
        )
        winner = _finished(tuned).iloc[0]
        checkpoints = _keep_winner(winner, shared, output)
    figures = _figures(pretrained, tuned, config, time.perf_counter() - started)
    _write(figures, pretrained, tuned, config, output)
    _promote(checkpoints, config)
    return figures


def _refuse_unusable(shared: Shared, config: TuneConfig) -> None:
    """What cannot be validated fails before the first trial, not after the last."""
    for stage in (
        _pretraining_stage(shared, config.merge_ranges[0], config.pretraining_rates[0], config),
        *(
            _fine_tuning_stage(hospital, split, None, config.fine_tuning_rates[0], config)
            for hospital, split in shared.hospitals.items()
        ),
    ):
        stage.validation_epochs(stage.parts(shared.bank.index)[1])


def _finished(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that came to a checkpoint, the best first."""
    found = trials[trials["checkpoint"] != ""].sort_values(METRIC, ascending=False, kind="stable")
    if found.empty:
        raise DataError("every trial diverged; sweep lower learning rates in another --output")
    return found


def _claim(output: Path, config: TuneConfig, cohort: Cohort) -> None:
    """Recognises the directory of an interrupted sweep of the same settings."""
    fixed = dataclasses.replace(config, claim="", result=None, registry="", max_concurrent=0)
    wanted = claim_of(fixed, cohort=cohort.fingerprint)
    kept = output / "config.json"
    if kept.is_file() and read_json(kept) != wanted:
        raise ConfigError(
            f"{output}: a sweep of other settings or another cohort is here; choose another "
            "--output, or give the same ones to continue it"
        )
    output.mkdir(parents=True, exist_ok=True)
    write_json(kept, wanted)


def _search(
    name: str,
    trial: Callable[..., None],
    points: Sequence[Mapping[str, Any]],
    data: Any,
    config: TuneConfig,
    at_once: int,
) -> pd.DataFrame:
    """One search; gives a line per trial with its point, metrics and checkpoint."""
    storage = Path(config.output).resolve() / "ray"
    settings = config.training if name == _PRETRAINING else config.fine_tuning
    resources = {"CPU": float(config.cpus_per_trial), "GPU": config.gpus_per_trial}
    if name == _PRETRAINING and config.workers_per_pretraining > 1:
        resources = {"CPU": 0.01}  # the workers hold what is needed
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
                **{k: v for k, v in metrics["config"]["point"].items() if k != _PRETRAINED},
                "epochs": int(metrics["epochs"]),
                **{k: float(v) for k, v in metrics.items() if k.startswith(METRIC)},
                "diverged": bool(metrics["diverged"]),
                "checkpoint": path,
            }
        )
    # In the order of the grid: trials come back in another order when a search was continued.
    order = {
        tuple(point[k] for k in point if k != _PRETRAINED): i for i, point in enumerate(points)
    }
    lines.sort(key=lambda line: order[tuple(line[k] for k in points[0] if k != _PRETRAINED)])
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
            _default(config, name),
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


def _default(config: TuneConfig, search: str) -> dict[str, Any]:
    """The point of the settings that the winner is compared with."""
    point: dict[str, Any] = {
        "merge_range": config.model.merge_range,
        "pretraining_rate": config.training.learning_rate,
    }
    if search == _FINE_TUNING:
        point["fine_tuning_rate"] = config.fine_tuning.learning_rate
    return point


def _of(trials: pd.DataFrame, point: Mapping[str, Any]) -> list[dict[Any, Any]]:
    """The trials of a point, as far as it names their columns."""
    fits = np.ones(len(trials), np.bool_)
    for name in set(point) & set(trials):
        fits &= (trials[name] == point[name]).to_numpy()
    return trials[fits].to_dict("records")


def _pretraining_trial(
    point: dict[str, Any], data: Sequence[Any], config: TuneConfig, progress: Progress
) -> None:
    fingerprint, shared = ray.get(data[0])
    merge_range, rate = point["point"]["merge_range"], point["point"]["pretraining_rate"]
    stage = _pretraining_stage(shared, merge_range, rate, config)
    origin = provenance(fingerprint, config.healthy, config, shared.healthy)
    stage = dataclasses.replace(stage, provenance=origin)
    if config.workers_per_pretraining == 1:
        _train({_PRETRAINING: stage}, shared.bank, config, progress)
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
            storage=Path(config.output).resolve() / "ray" / "train" / str(trial),
            scaling=ScalingOptions(
                num_workers=config.workers_per_pretraining,
                cpus_per_worker=config.cpus_per_trial,
                use_gpu=config.gpus_per_trial == 1,
            ),
            callbacks=[_ToTune(progress)],
        )
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


def _fine_tuning_trial(
    point: dict[str, Any], data: Sequence[Any], config: TuneConfig, progress: Progress
) -> None:
    fingerprint, shared = ray.get(data[0])
    rate = point["point"]["fine_tuning_rate"]
    place = _stage_path(point["point"][_PRETRAINED], _PRETRAINING)
    parent = Checkpoint.load(place)
    stages = {}
    for hospital, split in shared.hospitals.items():
        stage = _fine_tuning_stage(hospital, split, place, rate, config)
        origin = provenance(fingerprint, [hospital], config, split, parent)
        stages[hospital] = dataclasses.replace(stage, model=parent.config, provenance=origin)
    _train(stages, shared.bank, config, progress)


def _stage_path(checkpoint: str, stage: str) -> str:
    """Where a trial's checkpoint has the model of a stage; Train's own checkpoint is the model."""
    inside = Path(checkpoint) / stage
    return str(inside) if inside.is_dir() else checkpoint


def _pretraining_stage(
    shared: Shared, merge_range: int, learning_rate: float, config: TuneConfig
) -> Stage:
    return Stage(
        name=_PRETRAINING,
        model=dataclasses.replace(config.model, merge_range=merge_range),
        training=dataclasses.replace(config.training, learning_rate=learning_rate),
        train_patients=shared.healthy[TRAIN],
        validation_patients=shared.healthy[VALIDATION],
    )


def _fine_tuning_stage(
    hospital: str,
    split: Mapping[str, frozenset[str]],
    parent: str | None,
    learning_rate: float,
    config: TuneConfig,
) -> Stage:
    return Stage(
        name=hospital,
        model=config.model,
        training=dataclasses.replace(config.fine_tuning, learning_rate=learning_rate),
        train_patients=split[TRAIN],
        validation_patients=split[VALIDATION],
        parent=parent,
    )


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
            last = {name: Checkpoint.load(Path(directory) / name) for name in stages}
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


def _keep_winner(winner: "pd.Series[Any]", shared: Shared, output: Path) -> dict[str, Checkpoint]:
    """The winner's models by hospital, calibrated, and in the output."""
    kept = {}
    for hospital in shared.hospitals:
        kept[hospital] = finished(Checkpoint.load(Path(winner["checkpoint"]) / hospital))
        kept[hospital].save(output / "winner" / hospital / "checkpoint")
    return kept


def _promote(checkpoints: Mapping[str, Checkpoint], config: TuneConfig) -> None:
    """Lets the winner answer, unless somebody has decided about it since an earlier run."""
    if not config.registry:
        return
    registry = Registry(config.registry)
    for hospital, checkpoint in checkpoints.items():
        if any(entry.version == checkpoint.digest for entry in registry.entries(hospital)):
            print(f"{hospital}: the winner is in {config.registry} already, and stays as it is")
        else:
            registry.promote(hospital, registry.publish(checkpoint, hospital))


def _figures(
    pretrained: pd.DataFrame, tuned: pd.DataFrame, config: TuneConfig, seconds: float
) -> dict[str, Any]:
    run = int(pretrained["epochs"].sum() + tuned["epochs"].sum())
    whole = len(pretrained) * config.training.max_epochs
    whole += len(tuned) * config.fine_tuning.max_epochs
    plain = ["checkpoint"]
    standard = _of(tuned, _default(config, _FINE_TUNING))
    return {
        "winner": _finished(tuned).iloc[0].drop(plain).to_dict(),
        "default": standard[0][METRIC] if standard else None,
        "pretraining": pretrained.drop(columns=plain).to_dict("records"),
        "fine_tuning": tuned.drop(columns=plain).to_dict("records"),
        "trials": len(pretrained) + len(tuned),
        "epochs": run,
        "epochs_without_stopping": whole,
        "pruned_share": 1 - run / whole,
        "seconds_since_last_start": round(seconds, 1),
    }


def _write(
    figures: Mapping[str, Any],
    pretrained: pd.DataFrame,
    tuned: pd.DataFrame,
    config: TuneConfig,
    output: Path,
) -> None:
    write_json(output / "sweep.json", figures)
    tuned.drop(columns="checkpoint").to_csv(output / "trials.csv", index=False)
    _draw(pretrained, tuned).savefig(output / "sweep.png", dpi=150, metadata={"Software": None})
    if config.result is not None:
        write_result(
            config.result,
            claim=config.claim,
            figures={"sweep": dict(figures)},
            command=shlex.join(["python", *sys.argv]),
            recipe="sweep",
            seed=config.training.seed,
        )
    print(tuned.drop(columns="checkpoint").sort_values(METRIC, ascending=False).to_string())
    print(
        f"pruned {100 * figures['pruned_share']:.0f} % of the epochs; winner "
        f"{figures['winner'][METRIC]:.3f}, default {figures['default'] or math.nan:.3f}: "
        f"{output / 'winner'}"
    )


def _draw(pretrained: pd.DataFrame, tuned: pd.DataFrame) -> Figure:
    """Merge range against rate of the pre-training: best validation AUC of either search."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    searches = ((_PRETRAINING, pretrained), (f"{_FINE_TUNING}, mean over hospitals", tuned))
    for axes, (title, trials) in zip(figure.subplots(1, 2), searches, strict=True):
        table = trials.pivot_table(
            METRIC, index="merge_range", columns="pretraining_rate", aggfunc="max"
        )
        image = axes.imshow(table.to_numpy(), cmap="viridis", aspect="auto")
        axes.set_xticks(range(table.shape[1]), [f"{rate:g}" for rate in table.columns])
        axes.set_yticks(range(table.shape[0]), [str(merge) for merge in table.index])
        for (row, column), value in np.ndenumerate(table.to_numpy()):
            if math.isfinite(value):
                middle = float(np.nanmean(image.get_clim()))
                colour = "black" if value > middle else "white"
                axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour)
        axes.set(xlabel="rate of the pre-training", ylabel="merge range", title=title)
    return figure
