"""One training loop under Ray Train, for pre-training and fine-tuning, on 1..n workers.

Every worker holds the bank (the paper's whole pre-training set is under 1 GB as bytes) and draws
the same epoch from (seed, epoch). Worker r of n takes every n-th bag of each global batch, and the
loss is scaled so that the averaged gradient is that of the global batch. One worker and ten
therefore see the same bags in the same batches and report the same validation metric.
"""

import dataclasses
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import torch
import torch.distributed
from numpy.typing import NDArray
from ray.train import CheckpointConfig, DataConfig, FailureConfig, Result, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device, prepare_model
from sklearn.metrics import roc_auc_score
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from homnet.bags import PairBank
from homnet.checkpoint import Checkpoint
from homnet.cohort import Cohort
from homnet.epochs import DeviceBank, Epoch, draw_epoch
from homnet.errors import ConfigError, DataError
from homnet.model import HomNet, HomNetConfig
from homnet.predictor import Predictor, calibrate
from homnet.training import (
    EarlyStopping,
    TrainingConfig,
    learning_rate_at,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    train_step,
)
from homnet_platform.data import collect_bank, pairs_dataset
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runtime import require_cpus

METRIC = "validation_auc"


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


@dataclass(frozen=True)
class Stage:
    """All that one training run needs; it travels to the workers."""

    name: str
    """Names the run; the same name and storage continue an interrupted run."""
    model: HomNetConfig
    """Form of the model."""
    training: TrainingConfig
    """How it is optimised."""
    train_patients: frozenset[str]
    """Patients to learn from."""
    validation_patients: frozenset[str]
    """Patients for early stopping and calibration."""
    parent: str | None = None
    """Checkpoint to start from; its frozen parts stay as they are. None starts from nothing."""
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the checkpoint says of its origin."""


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
        DataError: training or validation patients share someone, or lack a class.
    """
    shared = stage.train_patients & stage.validation_patients
    if shared:
        raise DataError(f"patient {min(shared)} is in both training and validation")
    require_cpus(scaling.num_workers * scaling.cpus_per_worker, f"training {stage.name}")
    patients = stage.train_patients | stage.validation_patients
    # In memory before the workers take the CPUs: on a small machine a lazy dataset would wait for
    # CPUs that the workers hold, for ever.
    pairs = pairs_dataset(cohort, patients).materialize()
    bank = collect_bank(pairs)
    train_bank, validation_bank = _banks(bank, stage)
    bags = len(_train_epoch(train_bank, stage, 0))
    _validation_epoch(
        validation_bank, stage
    )  # what cannot be validated fails here, not in a worker
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
    return _calibrated(_best(result), stage, validation_bank)


def _banks(bank: PairBank, stage: Stage) -> tuple[PairBank, PairBank]:
    if stage.training.labels == "artificial":
        bank = bank.normal()
    return bank.of_patients(stage.train_patients), bank.of_patients(stage.validation_patients)


def _train_epoch(bank: PairBank, stage: Stage, epoch: int) -> Epoch:
    config = stage.training
    events = config.events if config.labels == "artificial" else None
    return draw_epoch(bank, config.bags, events, seed=config.seed, epoch=epoch)


def _validation_epoch(bank: PairBank, stage: Stage) -> Epoch:
    config = stage.training
    bags = dataclasses.replace(config.bags, rounds=config.validation_rounds)
    events = config.events if config.labels == "artificial" else None
    epoch = draw_epoch(bank, bags, events, seed=config.seed + 1, epoch=0)
    if epoch.label_B.all() or not epoch.label_B.any():
        raise DataError(
            f"{stage.name}: the validation bags are all of one class, so nothing can be validated; "
            "give more validation patients or another split seed"
        )
    return epoch


def _train_worker(config: dict[str, Any]) -> None:
    """The loop of one worker."""
    stage: Stage = config["stage"]
    progress: Progress = config["progress"]
    settings = stage.training
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = get_device()
    bank = collect_bank(ray.train.get_dataset_shard("pairs"))
    train_bank, validation_bank = _banks(bank, stage)
    train_pairs, validation_pairs = (
        DeviceBank(train_bank, device),
        DeviceBank(validation_bank, device),
    )
    validation = _validation_epoch(validation_bank, stage)

    model = _initial_model(stage, train_bank)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging))
    history: list[dict[str, float]] = []
    stopping = EarlyStopping(settings.patience)
    resumed = _load_resumed(model, averaged)
    wrapped = prepare_model(model, parallel_strategy_kwargs={"broadcast_buffers": False})
    averaged.to(device)
    optimizer = make_optimizer(model, settings)
    if resumed is not None:
        restore_optimizer(optimizer, resumed.state)
        history = list(resumed.metrics["history"])
        for line in history:
            stopping.update(line[METRIC])
    num_bags = len(_train_epoch(train_bank, stage, 0))
    num_steps = -(-num_bags // settings.batch_size)
    if rank == 0:
        progress.advance(len(history) * num_bags, epoch=len(history) + 1)

    while len(history) < settings.max_epochs and not (history and stopping.stop):
        number = len(history)
        epoch = _train_epoch(train_bank, stage, number)
        started, loss_sum = time.perf_counter(), 0.0
        wrapped.train()
        for step in range(num_steps):
            index = np.arange(step * settings.batch_size, (step + 1) * settings.batch_size)
            index = index[index < len(epoch)]
            mine = index[rank::world]
            # A worker without a bag of a short last batch steps along with one that weighs nothing.
            idle = len(mine) == 0
            loss = train_step(
                wrapped,
                optimizer,
                train_pairs.batch(epoch, index[:1] if idle else mine),
                learning_rate=learning_rate_at(
                    number * num_steps + step, settings.max_epochs * num_steps, settings
                ),
                clip_norm=settings.clip_norm,
                loss_scale=0.0 if idle else world / len(index),
            )
            loss_sum += 0.0 if idle else loss
            averaged.update_parameters(model)
            if rank == 0:
                progress.advance(len(index), epoch=number + 1)
        seconds = time.perf_counter() - started
        scored = averaged.module if settings.averaging else model
        logit_B = _score(scored, validation_pairs, validation, rank, world)
        line = {
            "epoch": number,
            "train_loss": _sum(loss_sum, world, device) / len(epoch),
            METRIC: float(roc_auc_score(validation.label_B, logit_B)),
        }
        history.append(line)
        stopping.update(line[METRIC])
        if rank == 0:
            progress.advance(0, loss=line["train_loss"], AUC=line[METRIC], best=stopping.best)
        _report(stage, model, averaged, optimizer, history, seconds, len(epoch), rank)


def _initial_model(stage: Stage, bank: PairBank) -> HomNet:
    """A new model with its templates, or the parent's with the paper's parts frozen."""
    torch.manual_seed(stage.training.seed)
    if stage.parent is None:
        model = HomNet(stage.model)
        types = torch.tensor(bank.frame["chromosome"].to_numpy())
        model.fit_template(torch.tensor(bank.pair_NPCL), types)
        return model
    model = Checkpoint.load(stage.parent).build()
    model.freeze_for_fine_tuning()
    return model


def _load_resumed(model: HomNet, averaged: AveragedModel) -> Checkpoint | None:
    """Continues an interrupted run: Ray hands out its last registered checkpoint."""
    latest = ray.train.get_checkpoint()
    if latest is None:
        return None
    with latest.as_directory() as directory:
        resumed = Checkpoint.load(directory)
    raw = {n.removeprefix("raw."): t for n, t in resumed.state.items() if n.startswith("raw.")}
    model.load_state_dict(raw)
    averaged.module.load_state_dict(dict(resumed.weights))
    averaged.n_averaged.fill_(1)
    return resumed


def _score(
    model: torch.nn.Module, bank: DeviceBank, epoch: Epoch, rank: int, world: int
) -> NDArray[np.float64]:
    """Logits of all bags on every worker; each worker computes its share."""
    model.eval()
    mine = np.arange(rank, len(epoch), world)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(mine), 512):
            batch = bank.batch(epoch, mine[start : start + 512])
            logit_B = model(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK)
            parts.append(logit_B.double().cpu().numpy())
    gathered = [np.concatenate(parts) if parts else np.empty(0)]
    if world > 1:
        everyone: list[Any] = [None] * world
        torch.distributed.all_gather_object(everyone, gathered[0])
        gathered = everyone
    logits = np.empty(len(epoch))
    for worker, values in enumerate(gathered):
        logits[worker::world] = values
    return logits


def _sum(value: float, world: int, device: torch.device) -> float:
    total = torch.tensor([value], dtype=torch.float64, device=device)
    if world > 1:
        torch.distributed.all_reduce(total)
    return float(total)


def _report(
    stage: Stage,
    model: HomNet,
    averaged: AveragedModel,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
    seconds: float,
    num_bags: int,
    rank: int,
) -> None:
    metrics = {**history[-1], "bags_per_s": num_bags / seconds}
    if rank != 0:
        ray.train.report(metrics)
        return
    best = averaged.module if stage.training.averaging else model
    with tempfile.TemporaryDirectory() as directory:
        path = Checkpoint(
            config=stage.model,
            weights=best.state_dict(),
            metrics={"history": history, METRIC: history[-1][METRIC]},
            provenance=stage.provenance,
            state=optimizer_tensors(optimizer)
            | {f"raw.{name}": value.clone() for name, value in model.state_dict().items()},
        ).save(Path(directory) / "checkpoint")
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(path))


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


def _calibrated(checkpoint: Checkpoint, stage: Stage, bank: PairBank) -> Checkpoint:
    """Temperature, threshold and prior of each hospital from its validation bags."""
    epoch = _validation_epoch(bank, stage)
    predictor = Predictor(checkpoint.build(), {}, version=checkpoint.version)
    logit_B = predictor.epoch_logits(DeviceBank(bank, "cpu"), epoch)
    hospital_B = bank.frame["hospital"].to_numpy()[epoch.bags.row_BK[:, 0]]
    calibration = {}
    for hospital in sorted(set(hospital_B)):
        of = hospital_B == hospital
        if epoch.label_B[of].any() and not epoch.label_B[of].all():
            calibration[hospital] = calibrate(logit_B[of], epoch.label_B[of])
    return dataclasses.replace(checkpoint, calibration=calibration)
