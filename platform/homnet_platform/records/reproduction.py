"""The paper's Tables 2 to 4: trials, pre-training, fine-tuning and scores of all methods.

This module is independent of the methods: the job passes each as a form, a function that fits it,
and its trials. All methods get the same people, bags and number of trials; validation people
decide between trials. Every trial is pre-trained with the first seed. The best one is fine-tuned
with every trial of the fine-tuning. The other seeds use the best choice over all hospitals.
Every run is written when done, so that the same command continues a killed job.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import ray
import torch

from homnet.bags.draw import count_bags
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, TRAIN, VALIDATION
from homnet.errors import ConfigError
from homnet.results import read_json, write_json
from homnet_platform.data import Participants
from homnet_platform.memory import PeakMemory, gib
from homnet_platform.records.cost import Work, print_estimate, work_of
from homnet_platform.records.method_runs import MethodRuns
from homnet_platform.records.methods import Method
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


@dataclass(frozen=True)
class Task:
    """The work of runs of one kind."""

    do: Callable[[MethodRuns, Participants, int], dict[str, Any]]
    """Executes the run with a given number and returns its record."""
    num_pairs: Callable[[MethodRuns, Work, int], float]
    """Number of training pairs of the run, for the estimate."""


def _pairs_of_seed(line: MethodRuns, work: Work, seed: int) -> float:
    """The first seed reuses the pre-training of a trial and chooses the fine-tuning."""
    first = seed == line.comparison.seeds[0]
    fine_tunings = len(line.method.tunings) if first else 1
    return work.pretraining * (not first) + work.fine_tuning * fine_tunings + work.scoring


_TASKS: Final[Mapping[str, Task]] = {
    "trial": Task(MethodRuns.try_trial, lambda line, work, number: work.pretraining),
    "seed": Task(MethodRuns.judge, _pairs_of_seed),
}


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
    first, *others = comparison.seeds
    # Each round depends on the choices of the previous one.
    rounds: list[list[MethodRun]] = [
        [(name, "trial", n) for name, method in methods.items() for n in range(len(method.trials))],
        [(name, "seed", first) for name in methods],
        [(name, "seed", seed) for name in methods for seed in others],
    ]
    done, figures = run_methods(config, methods, rounds, _TASKS)
    trials = {name: line.trials() for name, line in done.items()}
    runs = [
        {"method": name, "seed": seed, **line.record("seed", seed)}
        for name, line in done.items()
        for seed in comparison.seeds
    ]
    work_s = sum(one["seconds"] for lines in (runs, *trials.values()) for one in lines)
    return {
        "rows": rows_of(
            {name: [line.scores(seed) for seed in comparison.seeds] for name, line in done.items()},
            comparison.num_bootstrap,
            columns,
        ),
        "trials": {
            name: {"chosen": done[name].chosen_trial(), "lines": lines}
            for name, lines in trials.items()
        },
        "runs": runs,
        "seeds": list(comparison.seeds),
        "batch_size": comparison.training.batch_size,
        "num_cells": comparison.training.bags.num_cells,
        "num_trials": max(len(method.pretraining) for method in methods.values()),
        "num_tunings": max(len(method.fine_tuning) for method in methods.values()),
        "fine_tuned": comparison.fine_tuned,
        "work_s": round(work_s, 1),
        **figures,
    }


def run_methods(
    config: ReproduceConfig,
    methods: Mapping[str, Method],
    rounds: Sequence[Sequence[MethodRun]],
    tasks: Mapping[str, Task],
    **settings: Any,
) -> tuple[dict[str, MethodRuns], dict[str, Any]]:
    """Executes all unfinished runs, round by round.

    Args:
        config: people, budget, directory and resources.
        methods: all lines of the table.
        rounds: runs that may execute concurrently.
        tasks: the work of a run, by kind of run.
        settings: further JSON-able values shared by the runs.

    Returns:
        The methods whose runs are all done; and JSON-able figures: ``failed`` with the reason for
        every failed run, the scale, ``wall_s`` and ``peak_memory_gib`` of this call, ``num_reused``
        (the number of runs that were already done), ``people`` by split, and ``bags_per_epoch`` of
        the pre-training.

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
        Run.claiming(folder, {"form": dataclasses.asdict(method.form), **tried}).claim()
        lines[name] = MethodRuns(name, method, comparison, cohort.fingerprint, folder, device)
    todo = [[run for run in runs if not lines[run[0]].is_done(*run[1:])] for runs in rounds]
    failed: dict[MethodRun, str] = {}
    with PeakMemory() as memory, local_or_cluster():
        if any(todo):
            shared = collect(cohort, comparison)
            data = ray.put(shared)
            write_json(output / "people.json", _people(comparison, shared))
            if config.estimate and not config.gpus_per_run:
                work = work_of(shared, comparison)
                num_pairs: dict[str, float] = {}
                for name, what, number in itertools.chain(*todo):
                    one = tasks[what].num_pairs(lines[name], work, number)
                    num_pairs[name] = num_pairs.get(name, 0.0) + one
                at_once = max(map(len, todo))
                print_estimate(lines, num_pairs, data, cpus=config.cpus_per_run, at_once=at_once)
            for runs in todo:
                lost = {name for name, _, _ in failed}
                failed |= side_by_side(
                    [run for run in runs if run[0] not in lost],
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
        "scale": comparison.scale,
        "epochs": comparison.epochs,
        "share_of_people": comparison.share_of_people,
        "patience": comparison.training.patience,
        **read_json(output / "people.json"),
        "wall_s": round(time.perf_counter() - started, 1),
        "num_reused": sum(map(len, rounds)) - sum(map(len, todo)),
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
        recipe=f"table {config.table}, {config.setting} setting, scale {comparison.scale:g}",
        seed=comparison.seeds[0],
    )


def _people(comparison: Comparison, shared: Participants) -> dict[str, Any]:
    """Number of people by split, and number of bags per epoch of the pre-training."""
    judged = [*shared.hospitals.values()] or [shared.healthy]
    learnt = shared.bank.index.normal().of_patients(shared.healthy[TRAIN])
    return {
        "people": {
            **{part: len(shared.healthy[part]) for part in (TRAIN, VALIDATION)},
            TEST: sum(len(split[TEST]) for split in judged),
        },
        "bags_per_epoch": int(count_bags(learnt, comparison.training.bags).sum()),
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
    started = time.perf_counter()
    with PeakMemory() as memory:
        record = tasks[what].do(lines[name], shared, number)
    seconds = time.perf_counter() - started
    spent = {"seconds": round(seconds, 1), "peak_memory_gib": gib(memory.peak_bytes)}
    write_json(lines[name].folder(what, number) / "record.json", {**spent, **record})
    return seconds
