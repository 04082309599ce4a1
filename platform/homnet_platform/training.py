"""Training under Ray Train, for pre-training and fine-tuning, on 1..n workers.

What a worker does is in :mod:`homnet.learning`; here workers are started, told where to begin, and
their checkpoints kept.
"""

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
from ray.train import CheckpointConfig, DataConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model

from homnet.checkpoint import Checkpoint
from homnet.cohort import Cohort
from homnet.errors import ConfigError, DataError
from homnet.learning import METRIC, Learner, Stage, calibrated
from homnet_platform.data import collect_bank, pairs_dataset
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runtime import require_workers


@dataclass(frozen=True)
class ScalingOptions:
    """How many workers train, and what each gets."""

    num_workers: int = 2
    """Workers."""
    cpus_per_worker: float = 1.0
    """CPUs of one worker."""
    use_gpu: bool = False
    """Whether each worker gets a GPU."""
    max_failures: int = 2
    """How often the run is restarted from its last checkpoint after a worker died."""

    def __post_init__(self) -> None:
        if self.num_workers < 1 or self.cpus_per_worker <= 0:
            raise ConfigError(
                "training needs num_workers of at least 1 and cpus_per_worker above 0, got "
                f"{self.num_workers} and {self.cpus_per_worker}"
            )


def run_stage(
    cohort: Cohort, stage: Stage, *, storage: Path, scaling: ScalingOptions
) -> Checkpoint:
    """Trains one stage and gives its best checkpoint, calibrated on the validation patients.

    Args:
        cohort: where the pairs are.
        stage: what to train.
        storage: directory (on a cluster: shared by all nodes) for the run's own checkpoints.
        scaling: workers.

    Raises:
        DataError: training or validation patients lack pairs or a class.
    """
    require_workers(
        scaling.num_workers,
        f"training {stage.name}",
        cpus=scaling.cpus_per_worker,
        gpus=float(scaling.use_gpu),
    )
    patients = stage.train_patients | stage.validation_patients
    # In memory before the workers take the CPUs: on a small machine a lazy dataset would wait for
    # CPUs that the workers hold, for ever.
    pairs = pairs_dataset(cohort, patients).materialize()
    bank = collect_bank(pairs)
    train_bank, validation_bank = stage.banks(bank)
    bags = len(stage.train_epoch(train_bank, 0))
    # What cannot be validated fails here, not in a worker.
    stage.validation_epoch(validation_bank)
    with progress_bar(stage.name, bags * stage.training.max_epochs, " bags") as progress:
        trainer = TorchTrainer(
            _train_worker,
            train_loop_config={"stage": stage, "progress": progress},
            datasets={"pairs": pairs},
            # Nothing is split: each worker gets all pairs and takes its share of every batch.
            dataset_config=DataConfig(datasets_to_split=[]),
            scaling_config=ScalingConfig(
                num_workers=scaling.num_workers,
                use_gpu=scaling.use_gpu,
                resources_per_worker={"CPU": scaling.cpus_per_worker}
                | ({"GPU": 1} if scaling.use_gpu else {}),
            ),
            run_config=RunConfig(
                name=stage.name,
                storage_path=str(storage.resolve()),
                failure_config=FailureConfig(max_failures=scaling.max_failures),
                checkpoint_config=CheckpointConfig(
                    num_to_keep=1, checkpoint_score_attribute=METRIC
                ),
            ),
        )
        result = trainer.fit()
    return calibrated(_best(result), stage, bank)


def _train_worker(config: dict[str, Any]) -> None:
    """The loop of one worker."""
    stage: Stage = config["stage"]
    progress: Progress = config["progress"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    learner = Learner(
        stage,
        collect_bank(ray.train.get_dataset_shard("pairs")),
        device=get_device(),
        rank=rank,
        world=context.get_world_size(),
        wrap=lambda model: prepare_model(
            model, parallel_strategy_kwargs={"broadcast_buffers": False}
        ),
        resumed=_resumed(),
    )

    def advance(bags: int, **shown: float) -> None:
        if rank == 0:
            progress.advance(bags, epoch=len(learner.history) + 1, **shown)

    if learner.history:
        advance(len(learner.history) * learner.num_bags)
    while not learner.finished:
        line = learner.epoch(advance)
        advance(0, loss=line["train_loss"], AUC=line[METRIC], best=learner.stopping.best)
        if rank != 0:
            ray.train.report(line)
            continue
        with tempfile.TemporaryDirectory() as directory:
            path = learner.checkpoint().save(Path(directory) / "checkpoint")
            ray.train.report(line, checkpoint=ray.train.Checkpoint.from_directory(path))


def _resumed() -> Checkpoint | None:
    """The last registered checkpoint of an interrupted run, which Ray hands out."""
    latest = ray.train.get_checkpoint()
    if latest is None:
        return None
    with latest.as_directory() as directory:
        return Checkpoint.load(directory)


def _best(result: Result) -> Checkpoint:
    """The best checkpoint of a run, with the history of the whole run."""
    ranked = result.best_checkpoints
    if not ranked:
        raise DataError("the run ended before its first checkpoint; see the log of its workers")
    best = max(ranked, key=lambda pair: (pair[1][METRIC], -pair[1]["epoch"]))[0]
    last = max(ranked, key=lambda pair: pair[1]["epoch"])[0]
    with best.as_directory() as directory:
        checkpoint = Checkpoint.load(directory)
    with last.as_directory() as directory:
        history = Checkpoint.load(directory).metrics["history"]
    return dataclasses.replace(
        checkpoint, state={}, metrics={**checkpoint.metrics, "history": history}
    )
