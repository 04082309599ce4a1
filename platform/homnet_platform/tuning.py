"""Sweeps: merge ranges and learning rates over all hospitals, each pre-training done once.

Two searches follow each other, both of plain Tune functions, since a trial fits one worker. The
first pre-trains every merge range with every rate; the best of them go on to the second, which
fine-tunes each on all hospitals with every rate. Poor trials are stopped early in both (successive
halving). Only people of the training and validation splits are read: nobody of the test is seen.
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
from ray.tune.schedulers import AsyncHyperBandScheduler

from homnet.bags import BagConfig, PairBank
from homnet.checkpoint import Checkpoint
from homnet.cohort import Cohort
from homnet.errors import ConfigError, DataError, DivergedError
from homnet.learning import METRIC, Learner, Stage, calibrated
from homnet.model import HomNetConfig, best_form
from homnet.registry import Registry
from homnet.results import read_json, write_json, write_result
from homnet.split import TRAIN, VALIDATION, SplitConfig
from homnet.training import TrainingConfig
from homnet_platform.data import Shared, collect_shared, hospitals_with_abnormal_pairs
from homnet_platform.job import root_cause
from homnet_platform.pretraining import claim_of, provenance
from homnet_platform.runtime import local_or_cluster, require_workers

_PRETRAINING: Final = "pre-training"
_FINE_TUNING: Final = "fine-tuning"


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
    """Form of the model, but for its merge range."""
    training: TrainingConfig = TrainingConfig(
        schedule="cosine", weight_decay=0.01, averaging=0.99, max_epochs=8
    )
    """Pre-training, but for its rate."""
    fine_tuning: TrainingConfig = TrainingConfig(
        labels="cohort", bags=BagConfig(rounds=4), validation_rounds=4, max_epochs=8
    )
    """Fine-tuning, but for its rate."""
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
        if self.num_finalists < 1 or self.grace_epochs < 1 or self.reduction_factor < 2:
            raise ConfigError(
                "num_finalists and grace_epochs must be at least 1 and reduction_factor at least 2"
            )
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
        require_workers(
            max(config.max_concurrent, 1),
            "the sweep",
            cpus=config.cpus_per_trial,
            gpus=config.gpus_per_trial,
        )
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
        pretrained = _search(
            _PRETRAINING,
            _pretraining_trial,
            [{"merge_range": merge, "pretraining_rate": rate} for merge, rate in grid],
            data,
            config,
        )
        finalists = _finished(pretrained).head(config.num_finalists)
        tuned = _search(
            _FINE_TUNING,
            _fine_tuning_trial,
            [
                {
                    "merge_range": one["merge_range"],
                    "pretraining_rate": one["pretraining_rate"],
                    "fine_tuning_rate": rate,
                    "pretrained": f"{one['checkpoint']}/{_PRETRAINING}/best",
                }
                for one in finalists.to_dict("records")
                for rate in config.fine_tuning_rates
            ],
            data,
            config,
        )
        winner = _finished(tuned).iloc[0]
        checkpoints = _keep_winner(winner, shared, config, output)
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
        train_bank, validation_bank = stage.banks(shared.bank)
        stage.train_epoch(train_bank, 0)
        stage.validation_epoch(validation_bank)


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
) -> pd.DataFrame:
    """One search; gives a line per trial with its point, metrics and checkpoint."""
    storage = Path(config.output).resolve() / "ray"
    settings = config.training if name == _PRETRAINING else config.fine_tuning
    trainable = tune.with_resources(
        tune.with_parameters(trial, data=[data], config=config),
        {"CPU": config.cpus_per_trial, "GPU": config.gpus_per_trial},
    )
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
        scheduler = AsyncHyperBandScheduler(
            max_t=settings.max_epochs,
            grace_period=min(config.grace_epochs, settings.max_epochs),
            reduction_factor=config.reduction_factor,
        )
        tuner = tune.Tuner(
            trainable,
            param_space=space,
            tune_config=tune.TuneConfig(
                metric=METRIC,
                mode="max",
                scheduler=scheduler,
                max_concurrent_trials=config.max_concurrent or None,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(storage),
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            ),
        )
    results = tuner.fit()
    if results.errors:
        cause = str(root_cause(results.errors[0])).splitlines()[0]
        raise DataError(f"{name}: {len(results.errors)} trials failed, the first: {cause}")
    lines = []
    for result in (results[number] for number in range(len(results))):
        metrics, checkpoint = result.metrics, result.checkpoint
        if metrics is None:
            raise DataError(f"{name}: a trial ended before its first epoch; run the sweep again")
        lines.append(
            {
                **{k: v for k, v in metrics["config"]["point"].items() if k != "pretrained"},
                "epochs": int(metrics["epochs"]),
                **{k: float(v) for k, v in metrics.items() if k.startswith(METRIC)},
                "diverged": bool(metrics["diverged"]),
                "checkpoint": "" if checkpoint is None else checkpoint.path,
            }
        )
    # In the order of the grid: trials come back in another order when a search was continued.
    order = {
        tuple(point[k] for k in point if k != "pretrained"): i for i, point in enumerate(points)
    }
    lines.sort(key=lambda line: order[tuple(line[k] for k in points[0] if k != "pretrained")])
    # A diverged trial has no metrics of single hospitals.
    return pd.DataFrame(lines).fillna(0.0)


def _pretraining_trial(point: dict[str, Any], data: Sequence[Any], config: TuneConfig) -> None:
    fingerprint, shared = ray.get(data[0])
    merge_range, rate = point["point"]["merge_range"], point["point"]["pretraining_rate"]
    stage = _pretraining_stage(shared, merge_range, rate, config)
    origin = provenance(fingerprint, config.healthy, config, shared.healthy)
    _train({_PRETRAINING: dataclasses.replace(stage, provenance=origin)}, shared.bank, config)


def _fine_tuning_trial(point: dict[str, Any], data: Sequence[Any], config: TuneConfig) -> None:
    fingerprint, shared = ray.get(data[0])
    place, rate = point["point"]["pretrained"], point["point"]["fine_tuning_rate"]
    parent = Checkpoint.load(place)
    stages = {}
    for hospital, split in shared.hospitals.items():
        stage = _fine_tuning_stage(hospital, split, place, rate, config)
        origin = provenance(fingerprint, [hospital], config, split, parent)
        stages[hospital] = dataclasses.replace(stage, model=parent.config, provenance=origin)
    _train(stages, shared.bank, config)


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


def _train(stages: Mapping[str, Stage], bank: PairBank, config: TuneConfig) -> None:
    """Trains stages in step, an epoch each, reporting their mean after every epoch."""
    torch.set_num_threads(config.cpus_per_trial)
    device = torch.device("cuda" if config.gpus_per_trial else "cpu")
    last: dict[str, Checkpoint] = {}
    best: dict[str, Checkpoint] = {}
    resumed = tune.get_checkpoint()
    if resumed is not None:
        with resumed.as_directory() as directory:
            for name in stages:
                last[name] = Checkpoint.load(Path(directory) / name / "last")
                best[name] = Checkpoint.load(Path(directory) / name / "best")
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
                    if learner.improved:
                        best[name] = last[name]
        except DivergedError:
            # A rate that is too high is a finding of the sweep, not an error of it.
            tune.report({"epochs": 1, "diverged": True, METRIC: 0.0})
            return
        reached = {name: learner.stopping.best for name, learner in learners.items()}
        with tempfile.TemporaryDirectory() as directory:
            for name in learners:
                last[name].save(Path(directory) / name / "last")
                dataclasses.replace(best[name], state={}).save(Path(directory) / name / "best")
            tune.report(
                {
                    "epochs": max(len(learner.history) for learner in learners.values()),
                    "diverged": False,
                    METRIC: float(np.mean(list(reached.values()))),
                    **{f"{METRIC} {name}": value for name, value in reached.items()},
                },
                checkpoint=tune.Checkpoint.from_directory(directory),
            )


def _keep_winner(
    winner: "pd.Series[Any]", shared: Shared, config: TuneConfig, output: Path
) -> dict[str, Checkpoint]:
    """The winner's models by hospital, calibrated, and in the output."""
    kept = {}
    for hospital, split in shared.hospitals.items():
        best = Checkpoint.load(Path(winner["checkpoint"]) / hospital / "best")
        stage = _fine_tuning_stage(hospital, split, None, float(winner["fine_tuning_rate"]), config)
        kept[hospital] = calibrated(best, stage, shared.bank)
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
    return {
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
        f"pruned {100 * figures['pruned_share']:.0f} % of the epochs; winner: {output / 'winner'}"
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
