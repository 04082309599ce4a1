"""The paper's tables of methods: trials, pre-training, fine-tuning and judging, side by side.

Nothing here knows a method: what stands in the table comes from the job, as a form, a function that
fits it, and what to try. All methods get the same people, the same number of bags and as many
trials; validation people choose among the trials. With the first seed every trial is pre-trained;
the best one is fine-tuned with every trial of the fine-tuning, and what is best over the hospitals
is what the other seeds are trained with. Everything is written when it is done, so that a killed
job continues with the same command.
"""

import dataclasses
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray

from homnet.bags.draw import count_bags
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, TRAIN, VALIDATION
from homnet.errors import ConfigError
from homnet.records.beside_paper import HOMNET
from homnet.results import read_json, write_json, write_result
from homnet_platform.data import Shared
from homnet_platform.memory import PeakMemory, gib
from homnet_platform.records.cost import Times, print_estimate, work_of
from homnet_platform.records.method_runs import (
    Run,
    chosen_trial,
    folder,
    is_done,
    judge_seed,
    record_of,
    run_trial,
    scores_path,
    trial_lines,
)
from homnet_platform.records.methods import Method, claim_trials
from homnet_platform.records.plan import ReproduceConfig, collect
from homnet_platform.records.side_by_side import claim_directory, rows_of, samples_of, side_by_side
from homnet_platform.runtime import local_or_cluster


def reproduce(config: ReproduceConfig, methods: Mapping[str, Method]) -> dict[str, Any]:
    """Runs every method with every seed, or what an earlier call left to do.

    Args:
        config: people, budget and seeds.
        methods: lines of the table by name.

    Returns:
        JSON-able: ``rows`` (per method and hospital AUC and F1 with intervals, and HomNet's lead
        over the method on the same replicates), ``trials`` and ``runs`` (seconds, memory, what was
        chosen), ``failed``, the setting, ``wall_s`` and ``peak_memory_gib`` of this call, and
        ``num_reused``, how many runs it found done.

    Raises:
        CohortError, ConfigError, DataError: see their messages. A method that fails raises nothing
            here: see :func:`homnet_platform.records.side_by_side.refuse_failed`.
    """
    methods = chosen_methods(config, methods)
    cohort = Cohort.open(config.cohort)
    output = Path(config.output)
    # Methods and seeds may be added to what is there; what they share may not change.
    fixed = dataclasses.replace(
        config,
        methods=(),
        seeds=config.seeds[:1],
        num_bootstrap=0,
        cpus_per_run=1,
        estimate=True,
        recipe="",
        claim="",
        result=None,
    )
    claim_directory(output, fixed, cohort)
    for name, method in methods.items():
        claim_trials(output / folder(name), method)
    rounds = _rounds(config, methods)
    todo = [[run for run in runs if not is_done(output, run)] for runs in rounds]
    started = time.perf_counter()
    failed: dict[Run, str] = {}
    with PeakMemory() as memory, local_or_cluster():
        if any(todo):
            shared = collect(cohort, config)
            data = ray.put((cohort.fingerprint, shared))
            write_json(output / "people.json", _people(config, shared))
            if config.estimate and not config.gpus_per_run:
                _print_estimate(config, methods, todo, shared, data)
            for runs in todo:
                lost = {name for name, _, _ in failed}
                failed |= side_by_side(
                    [run for run in runs if run[0] not in lost],
                    partial(_task, config, methods),
                    data,
                    what="reproduction",
                    cpus=config.cpus_per_run,
                    gpus=config.gpus_per_run,
                )
    figures = _figures(config, methods, failed) | {
        **read_json(output / "people.json"),
        "wall_s": round(time.perf_counter() - started, 1),
        "num_reused": sum(map(len, rounds)) - sum(map(len, todo)),
        "peak_memory_gib": gib(memory.peak_bytes),
    }
    write_json(output / "reproduction.json", figures)
    if config.result is not None and not failed:
        write_result(
            config.result,
            claim=config.claim,
            figures={"reproduction": figures},
            command=shlex.join(["python", *sys.argv]),
            recipe=config.recipe,
            seed=config.seeds[0],
        )
    return figures


def chosen_methods(config: ReproduceConfig, methods: Mapping[str, Method]) -> dict[str, Method]:
    """The lines that a config asks for.

    Raises:
        ConfigError: there is no such line.
    """
    unknown = sorted(set(config.methods) - set(methods))
    if unknown:
        raise ConfigError(f"unknown method {unknown[0]!r}; there are {', '.join(methods)}")
    return {name: m for name, m in methods.items() if name in (config.methods or methods)}


def _people(config: ReproduceConfig, shared: Shared) -> dict[str, Any]:
    """Who is there, and how many bags an epoch of the pre-training has."""
    normal = shared.bank.index.normal()
    judged = [*shared.hospitals.values()] or [shared.healthy]
    return {
        "people": {
            **{part: len(shared.healthy[part]) for part in (TRAIN, VALIDATION)},
            TEST: sum(len(split[TEST]) for split in judged),
        },
        "bags_per_epoch": count_bags(
            normal.of_patients(shared.healthy[TRAIN]), config.training.bags
        ),
    }


def _rounds(config: ReproduceConfig, methods: Mapping[str, Method]) -> list[list[Run]]:
    """Runs that may go on side by side; each round needs what the one before it chose."""
    first, others = config.seeds[0], config.seeds[1:]
    return [
        [(name, "trial", n) for name, m in methods.items() for n in range(len(m.trials))],
        [(name, "seed", first) for name in methods],
        [(name, "seed", seed) for name in methods for seed in others],
    ]


def _task(
    config: ReproduceConfig, methods: Mapping[str, Method], content: tuple[str, Shared], run: Run
) -> float:
    task = run_trial if run[1] == "trial" else judge_seed
    return task(config, methods[run[0]], content, run)


def _print_estimate(
    config: ReproduceConfig,
    methods: Mapping[str, Method],
    todo: Sequence[Sequence[Run]],
    shared: Shared,
    data: Any,
) -> None:
    trials, first, others = (
        {name: [run[0] for run in runs].count(name) for name in methods} for runs in todo
    )
    tuned = config.fine_tuning is not None
    times = {
        name: Times(
            pretraining=trials[name] + others[name],
            fine_tuning=(len(m.tunings) * first[name] + others[name]) * tuned,
            scoring=first[name] + others[name],
        )
        for name, m in methods.items()
        if trials[name] + first[name] + others[name]
    }
    training = dataclasses.replace(config.training, max_epochs=config.epochs)
    work = work_of(shared, training, config.fine_tuning, config.bags)
    print_estimate(methods, times, data, work, config.cpus_per_run)


def _figures(
    config: ReproduceConfig, methods: Mapping[str, Method], failed: Mapping[Run, str]
) -> dict[str, Any]:
    output = Path(config.output)
    bad = {name for name, _, _ in failed}
    good = [name for name in methods if name not in bad]
    paths = {name: [scores_path(output, name, seed) for seed in config.seeds] for name in good}
    rows = []
    if paths:
        rows = rows_of(
            {name: samples_of(own, config.num_bootstrap) for name, own in paths.items()},
            {name: own[0] for name, own in paths.items()},
            key="method",
            reference=HOMNET,
            less="behind",
            sign=-1,
        )
    lines = {name: trial_lines(output, name, methods[name]) for name in good}
    runs = [
        {"method": name, "seed": seed, **record_of(output, name, seed)}
        for name in good
        for seed in config.seeds
    ]
    work_s = sum(run["seconds"] for run in runs)
    work_s += sum(line.get("seconds", 0.0) for own in lines.values() for line in own)
    return {
        "rows": rows,
        "trials": {
            name: {"chosen": chosen_trial(output, name, methods[name]), "lines": own}
            for name, own in lines.items()
        },
        "runs": runs,
        "failed": [
            {"name": name, "run": f"{what} {number}", "reason": reason}
            for (name, what, number), reason in failed.items()
        ],
        "seeds": list(config.seeds),
        "scale": config.scale,
        "epochs": config.epochs,
        "share_of_people": config.share_of_people,
        "batch_size": config.training.batch_size,
        "num_cells": config.training.bags.num_cells,
        "patience": config.training.patience,
        "num_trials": max((len(m.pretraining) for m in methods.values()), default=0),
        "num_tunings": max((len(m.fine_tuning) for m in methods.values()), default=0),
        "fine_tuned": config.fine_tuning is not None,
        "work_s": round(work_s, 1),
    }
