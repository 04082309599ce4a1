"""Pre-training and fine-tuning with Ray Train, on 1..n workers.

The training loop is in :mod:`homnet.training.learning`. This module starts or resumes the workers
and keeps their checkpoints.
"""

import errno
import functools
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ray.train
from ray.train import (
    CheckpointConfig,
    CheckpointUploadMode,
    FailureConfig,
    RunConfig,
    ScalingConfig,
)
from ray.train.torch import TorchTrainer, get_device, prepare_model

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import PAIR_BYTES
from homnet.errors import CheckpointError, ConfigError, DataError, HomNetError
from homnet.files import require_writable
from homnet.locations import Location, RemotePath
from homnet.model.allocator import keep_freed_memory
from homnet.model.checkpoint import Checkpoint
from homnet.model.scoring import prepare_device
from homnet.training.learning import METRIC, Learner, finished
from homnet.training.stage import Stage
from homnet.training.supply import Plans
from homnet_platform.bag_stream import READER_CPUS, ToWorkers, plans_of, supply
from homnet_platform.job import root_cause
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runs import ray_storage
from homnet_platform.runtime import ACCELERATOR, require_workers
from homnet_platform.tracking import Tracker, TrackingOptions


@dataclass(frozen=True)
class ScalingOptions:
    """Number of workers, and resources per worker."""

    num_workers: int = 2
    """Workers."""
    min_workers: int = 0
    """Minimum number of workers to continue with after nodes are lost; 0 waits for all of
    ``num_workers``."""
    cpus_per_worker: float = 1.0
    """CPUs per worker."""
    use_gpu: bool = False
    """Whether each worker gets a GPU."""
    max_failures: int = 2
    """Maximum number of restarts from the last checkpoint after a worker died."""
    accelerator_type: str = ""
    """Type of the workers' GPUs as Ray names it, for example A100; any by default."""
    label_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the nodes that workers may run on, for example "ray.io/market-type on-demand"."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Further resources of each worker, for example a custom resource of a group of nodes."""
    wait_s: float = 0.0
    """Seconds to wait for nodes that the cluster's autoscaler starts, before the run is refused."""
    placement: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """How Ray places workers: on few nodes, or on many; the strict forms wait rather than give
    way."""
    pairs_gib: float = 4.0
    """Memory per worker for pairs, GiB (GPU memory if it has a GPU). If its share needs more, the
    training bags are streamed to it; the validation pairs always stay."""

    def __post_init__(self) -> None:
        if self.num_workers < 1 or self.cpus_per_worker <= 0 or self.pairs_gib <= 0:
            raise ConfigError(
                "training needs num_workers of at least 1, and cpus_per_worker and pairs_gib above "
                f"0, got {self.num_workers}, {self.cpus_per_worker} and {self.pairs_gib}"
            )
        reserved = {"CPU": "cpus_per_worker", "GPU": "use_gpu"}
        for name in reserved.keys() & self.resources:
            raise ConfigError(f"resources names {name}; set {reserved[name]} instead")
        if self.accelerator_type and not self.use_gpu:
            raise ConfigError(
                f"accelerator_type is {self.accelerator_type}, and workers get no GPU; set use_gpu"
            )
        if not 0 <= self.min_workers <= self.num_workers:
            raise ConfigError(
                f"min_workers must be 0..num_workers ({self.num_workers}), got {self.min_workers}"
            )

    @property
    def resources_per_worker(self) -> dict[str, float]:
        """Further resources of each worker; for Ray a node with a type of GPU has one of it."""
        kind = self.accelerator_type
        return {**self.resources, **({f"{ACCELERATOR}{kind}": 0.001} if kind else {})}


@dataclass(frozen=True)
class Trained:
    """Result of a stage."""

    checkpoint: Checkpoint
    """The best model, calibrated on the validation patients."""
    figures: Mapping[str, float]
    """bags_per_s and wait_share of the first worker in the last epoch."""


def run_stage(
    cohort: Cohort,
    stage: Stage,
    *,
    storage: Location,
    scaling: ScalingOptions,
    tracking: TrackingOptions | None = None,
    callbacks: Sequence[Any] = (),
) -> Trained:
    """Trains one stage.

    Args:
        cohort: source of the pairs.
        stage: what to train.
        storage: location for Train's checkpoints, shared by all nodes of a cluster.
        scaling: workers.
        tracking: outputs for the metrics of every epoch; none by default.
        callbacks: ``ray.train.UserCallback`` called on every report, in Train's controller.

    Raises:
        CheckpointError: the storage is not writable.
        ConfigError: the workers do not fit the cluster, or the pairs do not fit the workers.
        DataError: training or validation patients lack pairs or a class.
    """
    fewest = scaling.min_workers or scaling.num_workers
    require_workers(
        fewest,
        f"training {stage.name}",
        cpus=scaling.cpus_per_worker,
        gpus=float(scaling.use_gpu),
        resources=scaling.resources_per_worker,
        labels=scaling.label_selector,
        placement=scaling.placement,
        reader_cpus=READER_CPUS,
        wait_s=scaling.wait_s,
    )
    _require_writable(storage)
    plans = plans_of(cohort, stage)
    resident = _stay(plans, stage, scaling)
    dealt = ToWorkers(cohort, stage, plans, resident=resident)
    num_bags = plans.train.num_bags * stage.training.max_epochs
    if scaling.min_workers:
        # Ray counts a lost node for a while: do not wait a minute for workers on it.
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "20")
    with progress_bar(stage.name, num_bags, " bags") as progress:
        trainer = TorchTrainer(
            _train_worker,
            train_loop_config={
                "plans": plans,
                "resident": resident,
                "stage": stage,
                "progress": progress,
                "storage": storage.resolve(),
                "tracking": tracking,
            },
            datasets=dealt.datasets(functools.partial(_position, storage.resolve(), stage.name)),
            dataset_config=dealt,
            scaling_config=_scaling_config(scaling),
            run_config=RunConfig(
                name=stage.name,
                **ray_storage(storage.resolve()),
                failure_config=FailureConfig(max_failures=scaling.max_failures),
                # Each checkpoint holds the best model so far, so the last one is enough.
                checkpoint_config=CheckpointConfig(num_to_keep=1),
                callbacks=list(callbacks),
            ),
        )
        with _causes(storage), interrupts_kept():
            result = trainer.fit()
    if result.checkpoint is None:
        raise DataError(f"{stage.name}: the run ended before its first checkpoint; see its log")
    last = result.metrics or {}
    with result.checkpoint.as_directory() as directory:
        return Trained(
            checkpoint=finished(Checkpoint.load(directory, type(stage.model))),
            figures={name: last[name] for name in ("bags_per_s", "wait_share") if name in last},
        )


def _scaling_config(scaling: ScalingOptions) -> ScalingConfig:
    """The settings as Ray Train takes them."""
    options: dict[str, Any] = {
        "num_workers": scaling.num_workers,
        "use_gpu": scaling.use_gpu,
        "resources_per_worker": {
            "CPU": scaling.cpus_per_worker,
            **({"GPU": 1} if scaling.use_gpu else {}),
            **scaling.resources,
        },
        "accelerator_type": scaling.accelerator_type or None,
        "label_selector": dict(scaling.label_selector) or None,
        "placement_strategy": scaling.placement,
    }
    if scaling.min_workers:
        options["num_workers"] = (scaling.min_workers, scaling.num_workers)
    return ScalingConfig(**options)


def _stay(plans: Plans, stage: Stage, scaling: ScalingOptions) -> bool:
    """Whether the training pairs stay on the workers, of which there may be the fewest.

    Raises:
        ConfigError: not even the validation pairs fit.
    """
    gib = PAIR_BYTES / 2**30 / (scaling.min_workers or scaling.num_workers)
    whole, validation = plans.num_pairs * gib, plans.validation.num_pairs * gib
    if validation > scaling.pairs_gib:
        raise ConfigError(
            f"{stage.name}: the validation pairs need {validation:.2g} GiB on each worker, and "
            f"scaling.pairs_gib allows {scaling.pairs_gib:g}; lower split.validation, or take more "
            "workers or memory"
        )
    resident = whole <= scaling.pairs_gib
    how = (
        "keeps its share"
        if resident
        else (f"gets bags from Ray Data, in windows of {stage.training.window_pairs:,} pairs")
    )
    size = f"{plans.num_pairs:,} pairs ({plans.num_pairs * PAIR_BYTES / 2**30:.2f} GiB)"
    print(f"{stage.name}: {size}: each of {scaling.num_workers} workers {how}", flush=True)
    return resident


def _position(storage: Location, name: str) -> tuple[int, int]:
    """Epoch and step of the last checkpoint of a run; the start if it has none."""
    try:
        last = ray.train.Result.from_path(*ray_storage(storage / name).values()).metrics
    except (OSError, RuntimeError, ValueError):
        last = None
    return (int(last["at_epoch"]), int(last["at_step"])) if last else (0, 0)


def _train_worker(config: dict[str, Any]) -> None:
    """Training loop of one worker."""
    stage: Stage = config["stage"]
    progress: Progress = config["progress"]
    context = ray.train.get_context()
    rank, device = context.get_world_rank(), get_device()
    prepare_device(str(device))
    keep_freed_memory()  # a step takes 5 to 8 % longer without (LAB.md)
    learner = Learner(
        stage,
        supply(stage, config["plans"], rank=rank, device=device, resident=config["resident"]),
        device=device,
        rank=rank,
        world=context.get_world_size(),
        wrap=lambda model: prepare_model(
            model, parallel_strategy_kwargs={"broadcast_buffers": False}
        ),
        resumed=_resumed(stage),
    )

    def advance(_: int = 0, **shown: float) -> None:
        if rank == 0:
            progress.reach(learner.done_bags, **shown)

    def report(line: dict[str, float]) -> None:
        epoch, step = learner.position
        line = {**line, "at_epoch": epoch, "at_step": step}
        if rank != 0:
            ray.train.report(line, checkpoint_upload_mode=CheckpointUploadMode.ASYNC)
            return
        # Ray removes the folder when it has uploaded it, while the training goes on.
        path = Path(tempfile.mkdtemp())
        learner.checkpoint().save(path)
        ray.train.report(
            line,
            checkpoint=ray.train.Checkpoint.from_directory(path),
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )

    tracker = None
    if rank == 0 and config["tracking"] is not None:
        tracker = Tracker(
            config["tracking"],
            config["storage"],
            stage.name,
            settings=stage.training,
            first_epoch=len(learner.history),
        )
    if rank == 0:
        progress.begin(learner.done_bags, epoch=len(learner.history) + 1)
    while not learner.finished:
        line = learner.epoch(advance, save=lambda: report({"epoch": len(learner.history)}))
        advance(
            epoch=len(learner.history) + 1,
            loss=line["train_loss"],
            AUC=line[METRIC],
            best=learner.stopping.best,
        )
        report(line)
        if tracker is not None:
            tracker.log(line)
    if tracker is not None:
        tracker.close()


def _resumed(stage: Stage) -> Checkpoint | None:
    """The last checkpoint that Ray registered before an interruption."""
    latest = ray.train.get_checkpoint()
    if latest is None:
        return None
    with latest.as_directory() as directory:
        return Checkpoint.load(directory, type(stage.model))


def _require_writable(storage: Location) -> None:
    """Checks before training that checkpoints can be written.

    Raises:
        CheckpointError: the storage is not writable.
    """
    try:
        require_writable(storage)
    except OSError as error:
        raise _unwritable(storage, error) from None


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Puts the handler of SIGINT back, in which Ray Train leaves its controller.

    The controller, and the actors that read for it, would live as long as this process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread has handlers
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _causes(storage: Location) -> Iterator[None]:
    """Raises the error that Ray wrapped: ours, or a CheckpointError for one of the storage."""
    try:
        yield
    except Exception as error:
        cause = root_cause(error)
        if isinstance(cause, HomNetError):
            raise cause from error
        # What pyarrow says of a store has no number.
        if isinstance(cause, OSError) and cause.errno in (
            None if isinstance(storage, RemotePath) else errno.ENOSPC,
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EROFS,
            errno.EACCES,
            errno.EIO,
        ):
            raise _unwritable(storage, cause) from error
        raise


def _unwritable(storage: Location, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"{storage}: checkpoints cannot be written ({error.strerror or error}); free space or give "
        "access, then repeat the command: it resumes from the last good checkpoint there"
    )
