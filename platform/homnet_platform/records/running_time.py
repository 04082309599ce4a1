"""The paper's Table 5: seconds of all methods, one after the other on one machine."""

import dataclasses
import shlex
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import ray
import torch

from homnet.bags.epochs import DeviceBank
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, VALIDATION
from homnet.errors import ConfigError
from homnet.model.predictor import Predictor
from homnet.records.benchmark.timing import in_turns, quantiles
from homnet.results import read_json, write_json, write_result
from homnet.training.learning import METRIC
from homnet.training.optimisation import make_optimizer, train_step
from homnet.training.stage import Stage
from homnet_platform.data import Shared
from homnet_platform.memory import PeakMemory, gib
from homnet_platform.records.cost import Times, print_estimate, short_stage, work_of
from homnet_platform.records.method_runs import folder
from homnet_platform.records.methods import Method, claim_trials
from homnet_platform.records.plan import ReproduceConfig, collect
from homnet_platform.records.reproduction import chosen_methods
from homnet_platform.records.side_by_side import claim_directory, side_by_side
from homnet_platform.runtime import local_or_cluster

TIMED_BATCH: Final = 512
"""Bags of a timed batch, as in the paper's Table 5."""
_WARM_UP: Final = 2
"""Batches before those that count: kernels are chosen and caches filled."""


def time_methods(
    config: ReproduceConfig, methods: Mapping[str, Method], num_batches: int
) -> dict[str, Any]:
    """Times every method, or those that an earlier call left, alone on the machine.

    Args:
        config: people and budget of the pre-training that is timed until it converges.
        methods: lines of the table by name; each with the first of its trials.
        num_batches: batches that are timed; the time is that of 100.

    Returns:
        JSON-able: ``rows``, one per method as of :func:`time_method`, ``failed``, and the setting.

    Raises:
        CohortError, ConfigError, DataError: see their messages.
    """
    if config.gpus_per_run:
        raise ConfigError("methods are timed on CPUs; leave gpus_per_run at 0")
    if num_batches < 1:
        raise ConfigError(f"batches to be timed must be at least 1, got {num_batches}")
    methods = chosen_methods(config, methods)
    cohort, output = Cohort.open(config.cohort), Path(config.output)
    fixed = dataclasses.replace(
        config, methods=(), claim="", result=None, recipe="", estimate=True, num_bootstrap=0
    )
    claim_directory(output, fixed, cohort, num_batches=str(num_batches))
    for name, method in methods.items():
        claim_trials(output / folder(name), method)
    todo = [name for name in methods if not _line(output, name).is_file()]
    failed: dict[str, str] = {}
    started = time.perf_counter()
    with PeakMemory() as memory, local_or_cluster():
        if todo:
            shared = collect(cohort, config)
            data = ray.put((cohort.fingerprint, shared))
            if config.estimate:
                _print_estimate(config, methods, todo, shared, data, num_batches)
            task = partial(_task, config, methods, num_batches)
            for name in todo:  # one at a time: nothing else may take the machine's memory bandwidth
                failed |= side_by_side(
                    [name],
                    task,
                    data,
                    what="running time",
                    cpus=config.cpus_per_run,
                    gpus=0.0,
                )
    figures = {
        "rows": [
            {"method": name, **read_json(_line(output, name))}
            for name in methods
            if name not in failed
        ],
        "failed": [
            {"name": name, "run": "running time", "reason": reason}
            for name, reason in failed.items()
        ],
        "batch_size": TIMED_BATCH,
        "num_batches": num_batches,
        "learning_batch_size": config.training.batch_size,
        "threads": config.cpus_per_run,
        "scale": config.scale,
        "epochs": config.epochs,
        "share_of_people": config.share_of_people,
        "patience": config.training.patience,
        "wall_s": round(time.perf_counter() - started, 1),
        "num_reused": len(methods) - len(todo),
        "peak_memory_gib": gib(memory.peak_bytes),
    }
    write_json(output / "running-time.json", figures)
    if config.result is not None and not failed:
        write_result(
            config.result,
            claim=config.claim,
            figures={"running_time": figures},
            command=shlex.join(["python", *sys.argv]),
            recipe=config.recipe,
            seed=config.seeds[0],
        )
    return figures


def _print_estimate(
    config: ReproduceConfig,
    methods: Mapping[str, Method],
    todo: list[str],
    shared: Shared,
    data: Any,
    num_batches: int,
) -> None:
    training = dataclasses.replace(config.training, max_epochs=config.epochs)
    work = work_of(shared, training, None, config.bags)
    # Steps and scores of the timed batches, in place of the scores of a table.
    work = dataclasses.replace(work, scoring=(num_batches + _WARM_UP) * TIMED_BATCH * 4 / 3)
    times = {name: Times(pretraining=1, scoring=1) for name in todo}
    print_estimate(methods, times, data, work, config.cpus_per_run, at_once=1)


def _line(output: Path, name: str) -> Path:
    return output / f"{folder(name)}.json"


def _task(
    config: ReproduceConfig,
    methods: Mapping[str, Method],
    num_batches: int,
    content: tuple[str, Shared],
    name: str,
) -> float:
    torch.set_num_threads(config.cpus_per_run)
    shared, method = content[1], methods[name]
    training = dataclasses.replace(config.training, max_epochs=config.epochs, seed=config.seeds[0])
    stage = Stage(
        name=name,
        model=method.form,
        training=training,
        train_patients=shared.healthy[TRAIN],
        validation_patients=shared.healthy[VALIDATION],
    )
    # A short training first: libraries are imported and kernels chosen before the clock runs.
    work = work_of(shared, training, None, config.bags)
    method.fit(short_stage(method, shared.bank, work)[0], shared.bank)
    with PeakMemory() as memory:
        line = time_method(method, shared, method.stage(stage, method.trials[0]), num_batches)
    write_json(
        _line(Path(config.output), name), {**line, "peak_memory_gib": gib(memory.peak_bytes)}
    )
    return float(line["seconds"])


def time_method(method: Method, shared: Shared, stage: Stage, num_batches: int) -> dict[str, Any]:
    """One line of Table 5: seconds for 100 batches of 512, learnt from and scored, and to converge.

    Args:
        method: what is timed.
        shared: pairs.
        stage: the pre-training that is timed until the epoch that is kept.
        num_batches: batches that are timed, after two that are not.

    Returns:
        ``train_100`` (None for methods that do not learn in steps) and ``score_100``, each with
        median and the tenth parts at both ends; ``convergence`` (seconds to the epoch that was
        kept), ``converged`` (whether an epoch after that one was no better; always so for what is
        fitted in one go), ``seconds`` of the whole training, ``epochs``, the validation AUC, and
        ``numbers``, how many the model keeps.
    """
    checkpoint = method.fit(stage, shared.bank)
    train_bank, _ = stage.parts(shared.bank)
    epoch = stage.train_epoch(train_bank.index, 0)
    bags = DeviceBank(train_bank, "cpu").load(epoch)
    drawn = iter(
        np.random.default_rng(0).integers(
            0, len(epoch), (2 * (num_batches + _WARM_UP), TIMED_BATCH)
        )
    )
    predictor = Predictor(checkpoint.build(), {}, version="")
    found = {"score_100": _timed(lambda: predictor.logits(bags.batch(next(drawn))), num_batches)}
    if method.in_steps:
        model = checkpoint.build().train()
        optimizer = make_optimizer(model, stage.training)

        def step() -> None:
            train_step(
                model,
                optimizer,
                bags.batch(next(drawn)),
                learning_rate=stage.training.learning_rate,
                clip_norm=stage.training.clip_norm,
                loss_scale=1 / TIMED_BATCH,
                loss_of=model.loss,
            )

        found["train_100"] = _timed(step, num_batches)
    metrics = checkpoint.metrics
    values = [line[METRIC] for line in metrics["history"]]
    return {
        "train_100": None,
        **found,
        "convergence": metrics["seconds_to_best"],
        "converged": not method.in_steps or int(np.argmax(values)) < len(values) - 1,
        "seconds": metrics["seconds"],
        "epochs": len(values),
        METRIC: metrics[METRIC],
        "numbers": sum(value.numel() for value in checkpoint.weights.values()),
    }


def _timed(batch: Any, num_batches: int) -> dict[str, float]:
    """Seconds of 100 batches from those of some, after a warm-up."""
    seconds = in_turns(
        {"": batch}, repeats=num_batches, device=torch.device("cpu"), warm_up=_WARM_UP
    )[""]
    return quantiles([100 * one for one in seconds])
