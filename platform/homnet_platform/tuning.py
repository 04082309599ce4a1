"""Sweeps of merge ranges and learning rates over all hospitals, with each pre-training run once.

The first search pre-trains every merge range with every rate. The second fine-tunes the best of
these models on all hospitals with every rate. Both stop poor trials early (successive halving),
except the default settings. Only training and validation people are read, never test people.
"""

import dataclasses
import itertools
import math
import time
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import ray
from matplotlib.figure import Figure
from ray import tune

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, VALIDATION
from homnet.errors import DataError
from homnet.files import replacing
from homnet.locations import Location, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.registry import Registry
from homnet.results import write_json
from homnet.training.learning import METRIC, finished
from homnet.training.stage import Stage
from homnet_platform.bag_stream import READER_CPUS
from homnet_platform.data import People, choose_people, require_validation, stored_bank
from homnet_platform.runs import Run
from homnet_platform.runtime import local_or_cluster, require_workers
from homnet_platform.sweep import (
    FINE_TUNING,
    PRETRAINED,
    PRETRAINING,
    TuneConfig,
    default_point,
    fine_tuning_stage,
    name_of,
    pretraining_stage,
)
from homnet_platform.trials import Search, fine_tuning_trial, pretraining_trial, search

_MOST_COLUMNS: Final = 8
"""Rates that a table of a sweep has room for."""
_OF_PARENT: Final = ("merge_range", "pretraining_rate", "checkpoint")


def sweep(config: TuneConfig) -> dict[str, Any]:
    """Runs or resumes both searches and returns the figures of all trials.

    Raises:
        CohortError, ConfigError, DataError: see their messages.
    """
    registry = Registry(config.registry) if config.registry else None
    cohort = Cohort.open(config.cohort)
    hospitals = config.hospitals or cohort.hospitals_with_abnormal_pairs()
    if not hospitals:
        raise DataError(f"{cohort.root}: no hospital has abnormal pairs to fine-tune on")
    run = Run.of(config.output, config, cohort=cohort.fingerprint)
    run.claim()
    output = run.output
    # Absolute, because trials have other working directories.
    config = dataclasses.replace(config, output=str(output), cohort=str(cohort.root))
    started = time.perf_counter()
    with local_or_cluster():
        fitting = require_workers(
            max(config.max_concurrent, 1) * config.workers_per_pretraining,
            "the sweep",
            cpus=config.cpus_per_trial,
            gpus=config.gpus_per_trial,
            reader_cpus=READER_CPUS,
        )
        # Limits concurrency: trials that each hold only some of their workers would deadlock.
        at_once = fitting // config.workers_per_pretraining
        people, pairs = choose_people(
            cohort,
            healthy=config.healthy,
            hospitals=hospitals,
            split=config.split,
            hospital_split=config.hospital_split,
            parts=(TRAIN, VALIDATION),
        )
        data = ray.put((cohort.fingerprint, people)), stored_bank(pairs)
        ray.get(require_validation.remote(data[1], _stages(people, config)))
        pretrained = search(_pretraining(config), data, config, at_once)
        tuned = search(_fine_tuning(_finished(pretrained), config), data, config, fitting)
        winner = _finished(tuned).iloc[0]
        checkpoints = _keep_winner(winner, people, output)
    figures = _figures(pretrained, tuned, config, time.perf_counter() - started)
    _write(figures, pretrained, tuned, config, output)
    if registry is not None:
        _promote(checkpoints, registry)
    return figures


def _stages(people: People, config: TuneConfig) -> list[Stage]:
    """A stage of each kind."""
    return [
        pretraining_stage(people, config.merge_ranges[0], config.pretraining_rates[0], config),
        *(
            fine_tuning_stage(hospital, split, None, config.fine_tuning_rates[0], config)
            for hospital, split in people.hospitals.items()
        ),
    ]


def _pretraining(config: TuneConfig) -> Search:
    """The first search: merge ranges and rates."""
    standard = default_point(config, PRETRAINING)
    points: list[dict[str, Any]] = [
        {"merge_range": merge, "pretraining_rate": rate}
        for merge, rate in itertools.product(config.merge_ranges, config.pretraining_rates)
    ]
    merges = sorted({*config.merge_ranges, standard["merge_range"]})
    return Search(
        PRETRAINING,
        pretraining_trial,
        points + [point for point in [standard] if point not in points],
        {
            "merge_range": tune.choice(merges),
            "pretraining_rate": _between(*config.pretraining_rates, standard["pretraining_rate"]),
        },
        standard,
    )


def _fine_tuning(ranked: pd.DataFrame, config: TuneConfig) -> Search:
    """The second search: the best models of ``ranked``, the first, and rates, on all hospitals."""
    standard = default_point(config, FINE_TUNING)
    finalists = ranked.head(config.num_finalists).to_dict("records")
    known = _of(ranked, standard)
    models = finalists + [one for one in known[:1] if one not in finalists]
    parents = {name_of(one): {key: one[key] for key in _OF_PARENT} for one in models}
    points = [
        {
            "merge_range": one["merge_range"],
            "pretraining_rate": one["pretraining_rate"],
            "fine_tuning_rate": rate,
        }
        for one in finalists
        for rate in config.fine_tuning_rates
    ]
    if known and standard not in points:
        points.append(standard)
    rates = (*config.fine_tuning_rates, standard["fine_tuning_rate"])
    first = standard if known else points[0]
    if config.searcher == "optuna":
        # One parameter for the model: not every merge range was pre-trained with every rate.
        first = {PRETRAINED: name_of(first), "fine_tuning_rate": first["fine_tuning_rate"]}
        space = {PRETRAINED: tune.choice(list(parents)), "fine_tuning_rate": _between(*rates)}
    else:
        space = {name: tune.choice(sorted({one[name] for one in points})) for name in points[0]}
    return Search(FINE_TUNING, fine_tuning_trial, points, space, first, parents)


def _between(*rates: float) -> Any:
    """The domain of a rate: on a logarithmic scale, where there are several."""
    if len(set(rates)) == 1:
        return tune.choice(rates[:1])
    return tune.loguniform(min(rates), max(rates))


def _finished(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that did not diverge, best first."""
    whole = trials[(trials["checkpoint"] != "") & ~trials["diverged"].astype(bool)]
    found = whole.sort_values(METRIC, ascending=False, kind="stable")
    if found.empty:
        raise DataError("every trial diverged; sweep lower learning rates in another --output")
    return found


def _of(trials: pd.DataFrame, point: Mapping[str, Any]) -> list[dict[Any, Any]]:
    """The trials that match a point, in the columns that both have."""
    fits = np.ones(len(trials), np.bool_)
    for name in set(point) & set(trials):
        fits &= (trials[name] == point[name]).to_numpy()
    return trials[fits].to_dict("records")


def _keep_winner(
    winner: "pd.Series[Any]", people: People, output: Location
) -> dict[str, Checkpoint]:
    """Calibrates the winner's models, writes them to the output and returns them by hospital."""
    kept = {}
    for hospital in people.hospitals:
        kept[hospital] = finished(Checkpoint.load(to_location(winner["checkpoint"]) / hospital))
        kept[hospital].save(output / "winner" / hospital / "checkpoint")
    return kept


def _promote(checkpoints: Mapping[str, Checkpoint], registry: Registry) -> None:
    """Promotes the winner, unless an earlier run has, or somebody decided something about it."""
    standing = registry.standing()
    decided = {
        *((one.hospital, one.version) for one in standing.decisions if one.action != "publish"),
        # A promotion may be among the damaged decisions.
        *((one.hospital, one.version) for one in standing.entries if one.status == "unknown"),
    }
    for hospital, checkpoint in checkpoints.items():
        if (hospital, checkpoint.digest) in decided:
            print(f"{hospital}: {registry.root} has decisions on the winner; left unchanged")
        else:
            registry.promote(hospital, registry.publish(checkpoint, hospital))


def _figures(
    pretrained: pd.DataFrame, tuned: pd.DataFrame, config: TuneConfig, seconds: float
) -> dict[str, Any]:
    run = int(pretrained["epochs"].sum() + tuned["epochs"].sum())
    whole = len(pretrained) * config.training.max_epochs
    whole += len(tuned) * config.fine_tuning.max_epochs
    plain = ["checkpoint"]
    standard = _of(tuned, default_point(config, FINE_TUNING))
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
    output: Location,
) -> None:
    write_json(output / "sweep.json", figures)
    with replacing(output / "trials.csv") as temporary:
        tuned.drop(columns="checkpoint").to_csv(temporary, index=False)
    with replacing(output / "sweep.png") as temporary:
        _draw(pretrained, tuned).savefig(temporary, dpi=150, metadata={"Software": None})
    config.record.write({"sweep": dict(figures)}, recipe="sweep", seed=config.training.seed)
    print(tuned.drop(columns="checkpoint").sort_values(METRIC, ascending=False).to_string())
    print(
        f"pruned {100 * figures['pruned_share']:.0f} % of the epochs; winner "
        f"{figures['winner'][METRIC]:.3f}, default {figures['default'] or math.nan:.3f}: "
        f"{output / 'winner'}"
    )


def _draw(pretrained: pd.DataFrame, tuned: pd.DataFrame) -> Figure:
    """Best validation AUC of each search, by merge range and pre-training rate."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    searches = ((PRETRAINING, pretrained), (f"{FINE_TUNING}, mean over hospitals", tuned))
    for axes, (title, trials) in zip(figure.subplots(1, 2), searches, strict=True):
        axes.set(xlabel="rate of the pre-training", ylabel="merge range", title=title)
        if trials["pretraining_rate"].nunique() > _MOST_COLUMNS:  # as a searcher chose them
            shown = axes.scatter(
                trials["pretraining_rate"], trials["merge_range"], c=trials[METRIC], cmap="viridis"
            )
            axes.set_xscale("log")
            axes.set_yticks(sorted(trials["merge_range"].unique()))
            figure.colorbar(shown, ax=axes, label="validation AUC")
            continue
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
    return figure
