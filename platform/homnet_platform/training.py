"""Pre-training and fine-tuning with Ray Train, on 1..n workers.

The training loop is in :mod:`homnet.training.learning`. This module starts or resumes the workers
and keeps their checkpoints.
"""

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ray
import ray.train
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
)
from ray.train.torch import TorchTrainer, get_device, prepare_model

from homnet.bags.draw import count_bags
from homnet.bags.shards import Residency
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import PAIR_BYTES
from homnet.errors import CheckpointError, ConfigError, DataError
from homnet.files import require_writable
from homnet.locations import Location, RemotePath
from homnet.model.allocator import keep_freed_memory
from homnet.model.checkpoint import Checkpoint
from homnet.training.learning import METRIC, Learner, finished
from homnet.training.stage import Stage
from homnet_platform.data import CohortSource, collect_index
from homnet_platform.job import root_cause
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runs import ray_storage
from homnet_platform.runtime import configure_ray_data, require_workers
from homnet_platform.tracking import Tracker, TrackingOptions

_START_TIMEOUT: Final = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"


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
    pairs_gib: float = 4.0
    """Memory per worker for pairs, GiB (GPU memory if it has a GPU). If its pairs need more, they
    are streamed in windows of ``training.window_pairs``."""

    def __post_init__(self) -> None:
        if self.num_workers < 1 or self.cpus_per_worker <= 0 or self.pairs_gib <= 0:
            raise ConfigError(
                "training needs num_workers of at least 1, and cpus_per_worker and pairs_gib above "
                f"0, got {self.num_workers}, {self.cpus_per_worker} and {self.pairs_gib}"
            )
        if not 0 <= self.min_workers <= self.num_workers:
            raise ConfigError(
                f"min_workers must be 0..num_workers ({self.num_workers}), got {self.min_workers}"
            )


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
    )
    _require_writable(storage)
    index = collect_index(cohort, stage.train_patients | stage.validation_patients)
    train_index, validation_index = stage.parts(index)
    # A stage that cannot be validated fails here, not in a worker.
    stage.validation_epochs(validation_index)
    num_pairs = len(train_index) + len(validation_index)
    residency = _residency(num_pairs, fewest, stage, scaling)
    print(
        f"{stage.name}: "
        + residency.describe(num_pairs, stage.training.window_pairs, scaling.num_workers),
        flush=True,
    )
    if scaling.min_workers:
        # Ray counts a lost node for a while: do not wait a minute for workers on it.
        os.environ.setdefault(_START_TIMEOUT, "20")
    num_bags = count_bags(train_index, stage.training.bags) * stage.training.max_epochs
    num_workers: Any = scaling.num_workers
    if scaling.min_workers:
        num_workers = (scaling.min_workers, scaling.num_workers)
    with progress_bar(stage.name, num_bags, " bags") as progress:
        trainer = TorchTrainer(
            _train_worker,
            train_loop_config={
                "cohort": cohort,
                "index": [ray.put(index)],
                "residency": residency,
                "stage": stage,
                "progress": progress,
                "storage": storage.resolve(),
                "tracking": tracking,
            },
            scaling_config=ScalingConfig(
                num_workers=num_workers,
                use_gpu=scaling.use_gpu,
                resources_per_worker={"CPU": scaling.cpus_per_worker}
                | ({"GPU": 1} if scaling.use_gpu else {}),
            ),
            run_config=RunConfig(
                name=stage.name,
                **ray_storage(storage.resolve()),
                failure_config=FailureConfig(max_failures=scaling.max_failures),
                # Each checkpoint holds the best model so far, so the last one is enough.
                checkpoint_config=CheckpointConfig(num_to_keep=1),
                callbacks=list(callbacks),
            ),
        )
        with _storage_errors(storage):
            result = trainer.fit()
    if result.checkpoint is None:
        raise DataError(f"{stage.name}: the run ended before its first checkpoint; see its log")
    last = result.metrics or {}
    with result.checkpoint.as_directory() as directory:
        return Trained(
            checkpoint=finished(Checkpoint.load(directory, type(stage.model))),
            figures={name: last[name] for name in ("bags_per_s", "wait_share") if name in last},
        )


def _residency(
    num_pairs: int, num_workers: int, stage: Stage, scaling: ScalingOptions
) -> Residency:
    """Where to hold the pairs, given the smallest possible number of workers."""
    training = stage.training
    residency = Residency.of(
        num_pairs, training.bags, num_workers=num_workers, memory_gib=scaling.pairs_gib
    )
    # One window in use and the next one being read.
    window = min(training.window_pairs, num_pairs)
    share = 2 * window * PAIR_BYTES / 2**30 / (num_workers if residency.split else 1)
    if not residency.resident and share > scaling.pairs_gib:
        most = max(1, int(window * scaling.pairs_gib / share))
        raise ConfigError(
            f"{stage.name}: two windows of {window:,} pairs need {share:.2g} GiB on each of "
            f"{num_workers} workers, and scaling.pairs_gib allows {scaling.pairs_gib:g}; "
            f"set training.window_pairs to {most:,} or less, or take more workers or memory"
        )
    return residency


def _train_worker(config: dict[str, Any]) -> None:
    """Training loop of one worker."""
    stage: Stage = config["stage"]
    progress: Progress = config["progress"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    configure_ray_data()
    keep_freed_memory()  # a step takes 5 to 8 % longer without (LAB.md)
    learner = Learner(
        stage,
        CohortSource(config["cohort"], ray.get(config["index"][0])),
        residency=config["residency"],
        device=get_device(),
        rank=rank,
        world=context.get_world_size(),
        wrap=lambda model: prepare_model(
            model, parallel_strategy_kwargs={"broadcast_buffers": False}
        ),
        resumed=_resumed(stage),
    )

    def advance(_: int = 0, **shown: float) -> None:
        if rank == 0:
            progress.reach(learner.done_bags, epoch=len(learner.history) + 1, **shown)

    def report(line: dict[str, float]) -> None:
        if rank != 0:
            ray.train.report(line)
            return
        with tempfile.TemporaryDirectory() as directory:
            learner.checkpoint().save(Path(directory) / "checkpoint")
            kept = ray.train.Checkpoint.from_directory(Path(directory) / "checkpoint")
            ray.train.report(line, checkpoint=kept)

    tracker = None
    if rank == 0 and config["tracking"] is not None:
        tracker = Tracker(
            config["tracking"],
            config["storage"],
            stage.name,
            settings=stage.training,
            first_epoch=len(learner.history),
        )
    advance()
    while not learner.finished:
        line = learner.epoch(advance, save=lambda: report({"epoch": len(learner.history)}))
        advance(loss=line["train_loss"], AUC=line[METRIC], best=learner.stopping.best)
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
        if isinstance(storage, RemotePath):
            return
        storage.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=storage) as file:
            file.write(b"0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(storage, error) from None


@contextmanager
def _storage_errors(storage: Location) -> Iterator[None]:
    """Turns Ray's wrapped storage errors into a CheckpointError; the last checkpoint stays."""
    try:
        yield
    except Exception as error:
        cause = root_cause(error)
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
