"""The paper's Tables 2 to 4: trials, pre-training, fine-tuning and scores of all methods.

This module is independent of the methods: the job passes each as a form, a function that fits it,
and its trials. One rule holds for all: the same people, the same minutes of one core, the same
number of trials, and early stopping by the same validation. Every trial is pre-trained with the
first seed and a quarter of the minutes. The best one by validation is trained with all of them (if
that ends below its trial, the next one too), and fine-tuned with every trial of the fine-tuning.
Further seeds are for HomNet and what stands near it, see :func:`seeds_of`; they use the choices of
the first. Every run is written when done, and a training after each epoch, so that the same command
continues a killed job.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import ray
import torch

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, TRAIN, VALIDATION
from homnet.errors import ConfigError
from homnet.model.contract import settings_of
from homnet.model.scoring import prepare_device
from homnet.records.beside_paper import HOMNET
from homnet.results import read_json, write_json
from homnet.training.learning import METRIC
from homnet_platform.data import Participants
from homnet_platform.memory import gib, peak_memory
from homnet_platform.records.method_runs import MethodRuns
from homnet_platform.records.method_trials import Method
from homnet_platform.records.plan import Comparison, ReproduceConfig, collect
from homnet_platform.records.side_by_side import (
    Columns,
    MethodRun,
    refuse_failed,
    rows_of,
    side_by_side,
)
from homnet_platform.runs import Run
from homnet_platform.runtime import local_or_cluster

Task = Callable[[MethodRuns, Participants, int], dict[str, Any]]
"""Executes the run with a given number and returns its record."""
Round = Callable[[Mapping[str, MethodRuns]], list[MethodRun]]
"""Runs that may execute concurrently, given the methods and what earlier rounds recorded."""

_TASKS: Final[Mapping[str, Task]] = {"trial": MethodRuns.try_trial, "seed": MethodRuns.judge}
_NEAR: Final = 0.03
"""A method runs with all seeds if its validation AUC is at most this far below HomNet's."""


def seeds_of(lines: Mapping[str, MethodRuns]) -> dict[str, tuple[int, ...]]:
    """Seeds of each method, given that all ran with the first one.

    Test people have no say: the validation AUC of the pre-training decides. Without HomNet there is
    one seed.
    """
    reached = {
        name: line.record("seed", line.comparison.seeds[0])[METRIC] for name, line in lines.items()
    }
    least = reached.get(HOMNET, math.inf) - _NEAR
    return {
        name: line.comparison.seeds[: None if reached[name] >= least else 1]
        for name, line in lines.items()
    }


def hours_of(comparison: Comparison, methods: Mapping[str, Method]) -> tuple[float, float]:
    """Hours of one core for all pre-trainings without early stopping.

    Returns:
        If only one method runs with all seeds, and if all do. Fine-tuning, scores, the first
        measurement of each rate and what replaces a collapsed training come on top; a method that
        is fitted in one go takes less.
    """
    learnt = [method for method in methods.values() if method.in_steps or method.pretraining]
    trials = sum(len(method.pretraining) for method in learnt) * comparison.trial_minutes
    others = len(comparison.seeds) - 1
    low, high = (
        (trials + comparison.minutes * (len(learnt) + others * num)) / 60
        for num in (min(1, len(learnt)), len(learnt))
    )
    return low, high


def reproduce(
    config: ReproduceConfig, methods: Mapping[str, Method], columns: Columns
) -> dict[str, Any]:
    """Runs every method with every seed, or the runs that an earlier call left undone.

    Args:
        config: people, budget and seeds.
        methods: lines of the table by name.
        columns: names of the table's columns.

    Returns:
        JSON-able: ``rows`` (see :func:`homnet_platform.records.side_by_side.rows_of`), ``trials``
        and ``runs`` (seconds, memory, choices), the setting, and the result of :func:`run_methods`.

    Raises:
        CohortError, ConfigError, DataError: see :func:`run_methods`.
    """
    methods = chosen_methods(config, methods)
    comparison = config.comparison
    first = comparison.seeds[0]

    def others(lines: Mapping[str, MethodRuns]) -> list[MethodRun]:
        return [(name, "seed", n) for name, seeds in seeds_of(lines).items() for n in seeds[1:]]

    done, figures = run_methods(
        config,
        methods,
        [
            lambda lines: [
                (name, "trial", number)
                for name, line in lines.items()
                for number in range(len(line.method.pretraining))
            ],
            lambda lines: [(name, "seed", first) for name in lines],
            others,
        ],
        _TASKS,
    )
    trials = {name: line.trials() for name, line in done.items()}
    seeds = {
        name: [seed for seed in comparison.seeds if line.is_done("seed", seed)]
        for name, line in done.items()
    }
    runs = [
        {"method": name, "seed": seed, **line.record("seed", seed)}
        for name, line in done.items()
        for seed in seeds[name]
    ]
    lines = [one for own in (runs, *trials.values()) for one in own]
    # A job that goes on has seen the last of its runs only.
    peaks = (one["peak_memory_gib"] for one in (*lines, figures) if "peak_memory_gib" in one)
    return {
        "rows": rows_of(
            {name: [line.scores(seed) for seed in seeds[name]] for name, line in done.items()},
            comparison.num_bootstrap,
            columns,
        ),
        "trials": {
            name: {"chosen": done[name].chosen_trial(), "lines": lines}
            for name, lines in trials.items()
            if lines
        },
        "runs": runs,
        "seeds": list(comparison.seeds),
        "seeds_of": seeds,
        "batch_size": comparison.training.batch_size,
        "num_cells": comparison.training.bags.num_cells,
        "num_trials": max(len(method.pretraining) for method in methods.values()),
        "num_tunings": max(len(method.fine_tuning) for method in methods.values()),
        "fine_tuned": comparison.fine_tuned,
        "work_s": round(sum(one["seconds"] for one in lines), 1),
        **figures,
        "peak_memory_gib": max(peaks),
    }


def run_methods(
    config: ReproduceConfig,
    methods: Mapping[str, Method],
    rounds: Sequence[Round],
    tasks: Mapping[str, Task],
    **settings: Any,
) -> tuple[dict[str, MethodRuns], dict[str, Any]]:
    """Executes all unfinished runs, round by round.

    Args:
        config: people, budget, directory and resources.
        methods: all lines of the table.
        rounds: the runs, round by round.
        tasks: the work of a run, by kind of run.
        settings: further JSON-able values shared by the runs.

    Returns:
        The methods whose runs are all done; and JSON-able figures: ``failed`` with the reason for
        every failed run, the minutes of a training and of a trial, ``wall_s`` and
        ``peak_memory_gib`` of this call, ``num_reused`` (the number of runs that were already
        done), and ``people`` by split.

    Raises:
        CohortError: there is no cohort, or one of its files is damaged.
        ConfigError: the directory holds runs with other settings, or a run needs more CPUs or GPUs
            than a node has. A failed method raises nothing.
        DataError: there is nobody to fine-tune on.
    """
    started = time.perf_counter()
    comparison, output = config.comparison, Path(config.output).resolve()
    cohort = Cohort.open(comparison.cohort)
    # Methods, seeds and replicates may be added; all other settings must stay the same.
    fixed = dataclasses.replace(
        comparison, cohort=cohort.fingerprint, seeds=comparison.seeds[:1], num_bootstrap=0
    )
    Run.claiming(output, dataclasses.asdict(fixed) | settings).claim()
    device = "cuda" if config.gpus_per_run else "cpu"
    lines = {}
    for name, method in methods.items():
        folder = output / "".join(c if c.isalnum() and c.isascii() else "-" for c in name)
        tried = {k: v for k, v in vars(method).items() if k not in ("form", "fit")}
        Run.claiming(folder, {"form": settings_of(method.form), **tried}).claim()
        lines[name] = MethodRuns(name, method, comparison, cohort.fingerprint, folder, device)
    failed: dict[MethodRun, str] = {}
    num_reused, data = 0, None
    with peak_memory() as memory, local_or_cluster(spare_cpus=0):
        for runs_of in rounds:
            lost = {name for name, _, _ in failed}
            runs = runs_of({name: line for name, line in lines.items() if name not in lost})
            todo = [run for run in runs if not lines[run[0]].is_done(*run[1:])]
            num_reused += len(runs) - len(todo)
            if todo and data is None:
                shared = collect(cohort, comparison)
                write_json(output / "people.json", _people(shared))
                data = ray.put(shared)
            failed |= side_by_side(
                todo,
                partial(_do, lines, tasks, config.cpus_per_run),
                data,
                cpus=config.cpus_per_run,
                gpus=config.gpus_per_run,
            )
    lost = {name for name, _, _ in failed}
    return {name: line for name, line in lines.items() if name not in lost}, {
        "failed": [
            {"name": name, "run": f"{what} {number}", "reason": reason}
            for (name, what, number), reason in failed.items()
        ],
        "minutes": comparison.minutes,
        "trial_minutes": comparison.trial_minutes,
        "patience": comparison.training.patience,
        **read_json(output / "people.json"),
        "wall_s": round(time.perf_counter() - started, 1),
        "num_reused": num_reused,
        "peak_memory_gib": gib(memory.peak_bytes),
    }


def chosen_methods(config: ReproduceConfig, methods: Mapping[str, Method]) -> dict[str, Method]:
    """The methods that a config selects.

    Raises:
        ConfigError: there is no such method.
    """
    unknown = sorted(set(config.methods) - set(methods))
    if unknown:
        raise ConfigError(f"unknown method {unknown[0]!r}; there are {', '.join(methods)}")
    return {name: m for name, m in methods.items() if name in (config.methods or methods)}


def record(config: ReproduceConfig, kind: str, figures: Mapping[str, Any]) -> None:
    """Writes the figures of a table to its directory, and as a result of record if requested.

    Args:
        config: config of the table.
        kind: key of the figures in the result: "reproduction", "ablation" or "running_time".
        figures: figures of all runs; no result is written if a run failed.

    Raises:
        DataError: a run failed.
    """
    write_json(Path(config.output) / f"table-{config.table}.json", figures)
    refuse_failed(figures)
    comparison = config.comparison
    config.record.write(
        {kind: figures},
        recipe=f"table {config.table}, {config.setting} setting, {comparison.minutes:g} minutes",
        seed=comparison.seeds[0],
    )


def _people(shared: Participants) -> dict[str, Any]:
    """Number of people by split."""
    judged = [*shared.hospitals.values()] or [shared.healthy]
    return {
        "people": {
            **{part: len(shared.healthy[part]) for part in (TRAIN, VALIDATION)},
            TEST: sum(len(split[TEST]) for split in judged),
        }
    }


def _do(
    lines: Mapping[str, MethodRuns],
    tasks: Mapping[str, Task],
    num_threads: int,
    shared: Participants,
    run: MethodRun,
) -> float:
    """Executes one run in a separate process and writes its record; returns its seconds."""
    name, what, number = run
    torch.set_num_threads(num_threads)
    prepare_device(lines[name].device)
    started = time.perf_counter()
    with peak_memory() as memory:
        record = tasks[what](lines[name], shared, number)
    seconds = time.perf_counter() - started
    spent = {"seconds": round(seconds, 1), "peak_memory_gib": gib(memory.peak_bytes)}
    write_json(lines[name].folder(what, number) / "record.json", {**record, **spent})
    return seconds
