"""The paper's tables of methods: pre-training, fine-tuning and judging of many models side by side.

Nothing here knows a method: what stands in the table comes from the job, as a form, a function that
fits it, and the values to try. All methods get the same people, bags, budget and early stopping,
and as many trials; the trial with the best validation AUC is kept. Models, scores and times are
written run by run, and a killed job continues with the same command.
"""

import dataclasses
import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import ray
import torch

from homnet.checkpoint import Checkpoint
from homnet.cohort import Cohort
from homnet.errors import ConfigError, DataError
from homnet.learning import Stage
from homnet.predictor import Predictor
from homnet.results import read_json, write_json, write_result
from homnet.split import TRAIN, VALIDATION
from homnet_platform.comparison import (
    claim_directory,
    rows_of,
    samples_of,
    scored,
    side_by_side,
    write_scores,
)
from homnet_platform.data import Shared
from homnet_platform.memory import PeakMemory
from homnet_platform.method_cost import print_estimate
from homnet_platform.pretraining import provenance
from homnet_platform.reproduction_plan import ReproduceConfig, collect, work_of
from homnet_platform.runtime import local_or_cluster
from homnet_platform.method_trials import Method, best_of, claim_trials

HOMNET: Final = "HomNet"
"""The method that others are compared with."""
_RECORD: Final = "record.json"
_SCORES: Final = "scores.parquet"


Run = tuple[str, int]
"""Method and seed."""


def reproduce(config: ReproduceConfig, methods: Mapping[str, Method]) -> dict[str, Any]:
    """Runs every method with every seed, or what an earlier call left to do.

    Args:
        config: people, budget and seeds.
        methods: lines of the table by name.

    Returns:
        JSON-able: ``rows`` (per method and hospital AUC and F1 with intervals, and HomNet's lead
        over the method on the same replicates), ``runs`` (seconds, memory, trials), ``failed``,
        ``seeds``, ``scale`` and totals.

    Raises:
        CohortError, ConfigError, DataError: see their messages. A method that fails raises nothing
            here: see :func:`refuse_failed`.
    """
    methods = _chosen(config, methods)
    cohort = Cohort.open(config.cohort)
    output = Path(config.output)
    # Methods and seeds may be added to what is there; what they share may not change.
    fixed = dataclasses.replace(
        config,
        methods=(),
        seeds=(0,),
        num_bootstrap=0,
        cpus_per_run=1,
        estimate=True,
        recipe="",
        claim="",
        result=None,
    )
    claim_directory(output, fixed, cohort)
    runs: list[Run] = [(name, seed) for name in methods for seed in config.seeds]
    todo = [run for run in runs if not _is_done(output, run, methods[run[0]])]
    started = time.perf_counter()
    failed: dict[Run, str] = {}
    with PeakMemory() as memory, local_or_cluster():
        if todo:
            shared = collect(cohort, config)
            data = ray.put((cohort.fingerprint, shared))
            if config.estimate:
                num_runs = Counter(name for name, _ in todo)
                waiting = {name: methods[name] for name in num_runs}
                print_estimate(
                    waiting, num_runs, data, work_of(shared, config), config.cpus_per_run
                )
            failed = side_by_side(
                todo,
                partial(_run, config, methods),
                data,
                what="reproduction",
                cpus=config.cpus_per_run,
                gpus=config.gpus_per_run,
            )
    figures = _figures(config, methods, failed)
    figures["seconds_since_last_start"] = round(time.perf_counter() - started, 1)
    figures["peak_memory_gib"] = (
        None if memory.peak_bytes is None else round(memory.peak_bytes / 2**30, 2)
    )
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


def refuse_failed(figures: Mapping[str, Any]) -> None:
    """Ends the job when a method failed; call it after the table was written.

    Raises:
        DataError: names what failed and why.
    """
    failed = figures.get("failed")
    if failed:
        raise DataError(
            f"{len(failed)} runs failed, the first {failed[0]['method']} with seed "
            f"{failed[0]['seed']}: {failed[0]['reason']}; the other methods are in the table, and "
            "the same command repeats the failed runs alone"
        )


def _chosen(config: ReproduceConfig, methods: Mapping[str, Method]) -> dict[str, Method]:
    unknown = sorted(set(config.methods) - set(methods))
    if unknown:
        raise ConfigError(f"unknown method {unknown[0]!r}; there are {', '.join(methods)}")
    return {name: m for name, m in methods.items() if name in (config.methods or methods)}


def _run(
    config: ReproduceConfig, methods: Mapping[str, Method], content: tuple[str, Shared], run: Run
) -> float:
    """One method with one seed, from nothing to scores; gives the seconds it took."""
    (fingerprint, data), (name, seed) = content, run
    method = methods[name]
    torch.set_num_threads(config.cpus_per_run)
    device = torch.device("cuda" if config.gpus_per_run else "cpu")
    output = run_directory(Path(config.output), run)
    started = time.perf_counter()
    with PeakMemory() as memory:
        pretraining = dataclasses.replace(config.training, max_epochs=config.epochs, seed=seed)
        stage = Stage(
            name=f"{name}, seed {seed}",
            model=method.form,
            training=pretraining,
            train_patients=data.healthy[TRAIN],
            validation_patients=data.healthy[VALIDATION],
            provenance=provenance(fingerprint, config.healthy, config, data.healthy),
        )
        pretrained = output / "pretrained"
        best, trials = best_of(method, method.pretraining, stage, data.bank, pretrained, device)
        record: dict[str, Any] = {"pretraining": trials, "fine_tuning": {}}
        frames = []
        if config.fine_tuning is None:
            bank = data.bank.normal()
            frames = scored(
                bank, data.healthy, _predictor(best, device), config.bags, config.events
            )
        else:
            tuning = dataclasses.replace(config.fine_tuning, seed=seed)
            for hospital, split in data.hospitals.items():
                stage = Stage(
                    name=f"{name}, seed {seed}, {hospital}",
                    model=best.config,
                    training=tuning,
                    train_patients=split[TRAIN],
                    validation_patients=split[VALIDATION],
                    parent=str((pretrained / "checkpoint").resolve()),
                    provenance=provenance(fingerprint, [hospital], config, split, best),
                )
                # From the form that pre-trained best, as from its weights.
                own = dataclasses.replace(method, form=best.config)
                place = output / hospital
                tuned, trials = best_of(own, method.fine_tuning, stage, data.bank, place, device)
                record["fine_tuning"][hospital] = trials
                predictor = _predictor(tuned, device)
                frames += scored(data.bank, split, predictor, config.bags, None)
    seconds = time.perf_counter() - started
    record |= {
        "seconds": round(seconds, 1),
        "peak_memory_gib": None
        if memory.peak_bytes is None
        else round(memory.peak_bytes / 2**30, 2),
    }
    write_json(output / _RECORD, record)
    write_scores(frames, output / _SCORES)
    return seconds


def _predictor(checkpoint: Checkpoint, device: torch.device) -> Predictor:
    return Predictor(
        checkpoint.build(), checkpoint.calibration, version=checkpoint.version, device=device
    )


def run_directory(output: Path, run: Run) -> Path:
    """Where a run keeps what it has."""
    name, seed = run
    return output / name.replace(" ", "-") / f"seed-{seed}"


def _is_done(output: Path, run: Run, method: Method) -> bool:
    directory = run_directory(output, run)
    claim_trials(directory, method)
    return (directory / _SCORES).is_file()


def _figures(
    config: ReproduceConfig, methods: Mapping[str, Method], failed: Mapping[Run, str]
) -> dict[str, Any]:
    output = Path(config.output)
    bad = {name for name, _ in failed}
    paths = {
        name: [run_directory(output, (name, seed)) / _SCORES for seed in config.seeds]
        for name in methods
        if name not in bad
    }
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
    records = [
        {
            "method": name,
            "seed": seed,
            **read_json(run_directory(output, (name, seed)) / _RECORD),
        }
        for name in paths
        for seed in config.seeds
    ]
    return {
        "rows": rows,
        "runs": records,
        "failed": [
            {"method": name, "seed": seed, "reason": reason}
            for (name, seed), reason in failed.items()
        ],
        "seeds": list(config.seeds),
        "scale": config.scale,
        "epochs": config.epochs,
        "share_of_people": config.share_of_people,
        "fine_tuned": config.fine_tuning is not None,
        "run_hours": sum(one["seconds"] for one in records) / 3600,
    }
