"""The paper's Table 5: seconds of all methods, one after the other on one machine."""

import dataclasses
import shlex
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from homnet.benchmark.timing import in_turns
from homnet.cohort import Cohort
from homnet.epochs import DeviceBank
from homnet.errors import ConfigError
from homnet.learning import METRIC, Stage
from homnet.predictor import Predictor
from homnet.results import read_json, write_json, write_result
from homnet.split import TRAIN, VALIDATION
from homnet.training import make_optimizer, train_step
from homnet_platform.comparison import claim_directory, side_by_side
from homnet_platform.data import Shared
from homnet_platform.reproduction_plan import ReproduceConfig, collect
from homnet_platform.runtime import local_or_cluster
from homnet_platform.method_trials import Method


def time_methods(
    config: ReproduceConfig, methods: Mapping[str, Method], num_batches: int
) -> dict[str, Any]:
    """Times every method, or those that an earlier call left, alone on the machine.

    Args:
        config: people and budget of the pre-training that is timed until it converges.
        methods: lines of the table by name.
        num_batches: batches that are timed; the time is that of 100.

    Returns:
        JSON-able: ``rows``, one per method as of :func:`time_method`, ``failed``, and the setting.

    Raises:
        CohortError, ConfigError, DataError: see their messages.
    """
    if num_batches < 1:
        raise ConfigError(f"batches to be timed must be at least 1, got {num_batches}")
    cohort, output = Cohort.open(config.cohort), Path(config.output)
    fixed = dataclasses.replace(config, methods=(), claim="", result=None, recipe="")
    claim_directory(output, fixed, cohort)
    chosen = [name for name in methods if name in (config.methods or methods)]
    todo = [name for name in chosen if not _line(output, name).is_file()]
    failed: dict[str, str] = {}
    with local_or_cluster():
        if todo:
            data = ray.put((cohort.fingerprint, collect(cohort, config)))
            task = partial(_task, config, methods, num_batches)
            for name in todo:  # one at a time: nothing else may take the machine's memory bandwidth
                failed |= side_by_side(
                    [name],
                    task,
                    data,
                    what="running time",
                    cpus=config.cpus_per_run,
                    gpus=config.gpus_per_run,
                )
    figures = {
        "rows": [
            {"method": name, **read_json(_line(output, name))}
            for name in chosen
            if name not in failed
        ],
        "failed": [
            {"method": name, "seed": config.seeds[0], "reason": reason}
            for name, reason in failed.items()
        ],
        "batch_size": config.training.batch_size,
        "num_batches": num_batches,
        "threads": config.cpus_per_run,
        "scale": config.scale,
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


def _line(output: Path, name: str) -> Path:
    return output / f"{name.replace(' ', '-')}.json"


def _task(
    config: ReproduceConfig,
    methods: Mapping[str, Method],
    num_batches: int,
    content: tuple[str, Shared],
    name: str,
) -> float:
    shared = content[1]
    stage = Stage(
        name=name,
        model=methods[name].form,
        training=dataclasses.replace(
            config.training, max_epochs=config.epochs, seed=config.seeds[0]
        ),
        train_patients=shared.healthy[TRAIN],
        validation_patients=shared.healthy[VALIDATION],
    )
    line = time_method(methods[name], shared, stage, num_batches, config.cpus_per_run)
    write_json(_line(Path(config.output), name), line)
    return float(line["seconds"])


def time_method(
    method: Method, shared: Shared, stage: Stage, num_batches: int, cpus: int
) -> dict[str, Any]:
    """One line of Table 5: seconds for 100 batches, learnt from and scored, and to converge.

    Args:
        method: what is timed.
        shared: pairs.
        stage: the pre-training, at whose batch size everything is measured.
        num_batches: batches that are timed; the time is that of 100.
        cpus: threads.

    Returns:
        ``train_100`` (None for methods that do not learn in steps), ``score_100``, ``convergence``
        (seconds to the epoch that was kept), ``seconds`` of the whole training, ``epochs``, the
        validation AUC, and ``numbers``, how many the model keeps.
    """
    torch.set_num_threads(cpus)
    stage = dataclasses.replace(stage, model=method.form)
    checkpoint = method.fit(stage, shared.bank)
    train_bank, _ = stage.banks(shared.bank)
    epoch = stage.train_epoch(train_bank, 0)
    bags = DeviceBank(train_bank, "cpu").load(epoch)
    size = stage.training.batch_size
    drawn = np.random.default_rng(0).integers(0, len(epoch), (num_batches, size))
    cpu = torch.device("cpu")
    predictor = Predictor(checkpoint.build(), {}, version="")
    scoring = in_turns(
        {"": lambda: [predictor.logits(bags.batch(index)) for index in drawn]},
        repeats=1,
        device=cpu,
        warm_up=0,
    )[""][0]
    training = None
    if method.in_steps:
        model = checkpoint.build().train()
        optimizer = make_optimizer(model, stage.training)

        def steps() -> None:
            for index in drawn:
                train_step(
                    model,
                    optimizer,
                    bags.batch(index),
                    learning_rate=stage.training.learning_rate,
                    clip_norm=stage.training.clip_norm,
                    loss_scale=1 / size,
                    precision=stage.training.precision,
                    loss_of=model.loss,
                )

        training = in_turns({"": steps}, repeats=1, device=cpu, warm_up=0)[""][0]
    metrics = checkpoint.metrics
    return {
        "train_100": None if training is None else 100 * training / num_batches,
        "score_100": 100 * scoring / num_batches,
        "convergence": metrics["seconds_to_best"],
        "seconds": metrics["seconds"],
        "epochs": len(metrics["history"]),
        METRIC: metrics[METRIC],
        "numbers": sum(value.numel() for value in checkpoint.weights.values()),
    }
