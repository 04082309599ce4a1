"""A short training run under Ray Train in which every step is timed."""

import dataclasses
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import ray
import ray.train
import torch
import torch.distributed
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model

from homnet.cohorts.cohort import Cohort
from homnet.records.benchmark.timing import wait
from homnet.training.learning import Learner
from homnet.training.stage import Stage
from homnet_platform.bag_stream import ToWorkers, plans_of, supply
from homnet_platform.training import interrupts_kept

_LATENCY_BYTES: Final = 4
_REPEATS: Final = 30


@dataclass(frozen=True)
class Measured:
    """Measurements by the first worker of a run."""

    step_s: list[float]
    """Seconds of each step after the warm-up."""
    input_s: float
    """Seconds per step that the worker waits for its bags, which are drawn and gathered then."""
    all_reduce_s: Mapping[int, float]
    """Median seconds by payload in bytes (the gradient and a tiny one); empty with one worker."""
    gradient_bytes: int
    """Bytes that are summed over the workers in each step."""


def timed_training(
    cohort: Cohort,
    stage: Stage,
    *,
    num_workers: int,
    use_gpu: bool,
    storage: Path,
    warm_up: int,
) -> Measured:
    """Trains a stage as :func:`homnet_platform.training.run_stage` does, and times its steps.

    The model is not stored.

    Args:
        cohort: source of the pairs.
        stage: the training.
        num_workers: number of workers, with one CPU and one thread each.
        use_gpu: whether each worker also gets a GPU.
        storage: directory (on a cluster: shared by all nodes) for Ray's own files.
        warm_up: number of untimed steps at the start.
    """
    plans = plans_of(cohort, stage)
    dealt = ToWorkers(cohort, stage, plans, resident=True)
    trainer = TorchTrainer(
        cast(Callable[[dict[str, Any]], None], _worker),
        train_loop_config={"plans": plans, "stage": stage, "warm_up": warm_up},
        datasets=dealt.datasets(lambda: (0, 0)),
        dataset_config=dealt,
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": 1} | ({"GPU": 1} if use_gpu else {}),
        ),
        # With a name that was used before, Ray would continue that run.
        run_config=RunConfig(
            name=uuid.uuid4().hex,
            storage_path=str(storage.resolve()),
            # Without a checkpoint, a run whose worker died is measured again.
            failure_config=FailureConfig(max_failures=2),
        ),
    )
    # The return value of the first worker, as there is no checkpoint to read it from.
    with interrupts_kept():
        result = trainer.fit()
    return Measured(**cast(Any, result).return_value)


def _worker(config: dict[str, Any]) -> dict[str, Any]:
    stage: Stage = config["stage"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    learner = Learner(
        stage,
        supply(stage, config["plans"], rank=rank, device=get_device(), resident=True),
        device=get_device(),
        rank=rank,
        world=world,
        wrap=lambda model: prepare_model(
            model, parallel_strategy_kwargs={"broadcast_buffers": False}
        ),
    )
    clock = _StepClock(learner.device, stage.training.batch_size)
    while not learner.finished:
        clock.begin_epoch()
        line = learner.epoch(clock)
    gradient_bytes = sum(
        p.numel() * p.element_size() for p in learner.model.parameters() if p.requires_grad
    )
    measured = Measured(
        step_s=clock.seconds[config["warm_up"] :],
        input_s=line["wait_share"] / line["bags_per_s"] * stage.training.batch_size,
        all_reduce_s={
            size: _all_reduce_s(size, learner.device)
            for size in ((_LATENCY_BYTES, gradient_bytes) if world > 1 else ())
        },
        gradient_bytes=gradient_bytes,
    )
    return dataclasses.asdict(measured)


class _StepClock:
    """Measures the seconds between consecutive steps; called after each step."""

    def __init__(self, device: torch.device, batch_size: int) -> None:
        self.seconds: list[float] = []
        self._device, self._batch_size = device, batch_size
        self._last: float | None = None

    def begin_epoch(self) -> None:
        """Discards the time between epochs."""
        self._last = None

    def __call__(self, bags: int, **_: float) -> None:
        wait(self._device)
        now = time.perf_counter()
        # The last batch of an epoch may be short.
        if self._last is not None and bags == self._batch_size:
            self.seconds.append(now - self._last)
        self._last = now


def _all_reduce_s(num_bytes: int, device: torch.device) -> float:
    """Median seconds of one all-reduce of all workers."""
    payload = torch.zeros(num_bytes // 4, device=device)
    seconds = []
    for repeat in range(_REPEATS + 3):
        torch.distributed.barrier()
        wait(device)
        started = time.perf_counter()
        torch.distributed.all_reduce(payload)
        wait(device)
        if repeat >= 3:
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))
