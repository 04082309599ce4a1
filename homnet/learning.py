"""One training run from one worker's side: epochs, validation, early stopping, checkpoints.

Nothing here knows what starts the workers. Every worker holds the bank (the paper's whole
pre-training set is under 1 GB as bytes) and draws the same epoch from (seed, epoch). Worker r of n
takes every n-th bag of each global batch, and the loss is scaled so that the averaged gradient is
that of the global batch. One worker and ten therefore see the same bags in the same batches and
report the same validation metric.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from homnet.bag_model import BagModel, Form
from homnet.bags import PairBank
from homnet.checkpoint import Checkpoint
from homnet.epochs import DeviceBank, Epoch, LoadedEpoch, draw_epoch
from homnet.errors import CheckpointError, DataError, DivergedError
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

METRIC: Final = "validation_auc"
_SCORING_BATCH: Final = 512


@dataclass(frozen=True)
class Stage:
    """All that one training run needs; it travels to the workers."""

    name: str
    """Names the run; the same name and storage continue an interrupted run."""
    model: Form
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

    def __post_init__(self) -> None:
        shared = self.train_patients & self.validation_patients
        if shared:
            raise DataError(f"patient {min(shared)} is in both training and validation")

    def banks(self, bank: PairBank) -> tuple[PairBank, PairBank]:
        """What is learnt from, and what is validated on.

        Raises:
            DataError: one of them would be empty.
        """
        if self.training.labels == "artificial":
            bank = bank.normal()
        return bank.of_patients(self.train_patients), bank.of_patients(self.validation_patients)

    def train_epoch(self, bank: PairBank, epoch: int) -> Epoch:
        """The bags of one epoch, the same for every worker."""
        config = self.training
        events = config.events if config.labels == "artificial" else None
        return draw_epoch(bank, config.bags, events, seed=config.seed, epoch=epoch)

    def validation_epoch(self, bank: PairBank) -> Epoch:
        """The one fixed set of validation bags.

        Raises:
            DataError: they are all of one class.
        """
        config = self.training
        bags = dataclasses.replace(config.bags, rounds=config.validation_rounds)
        events = config.events if config.labels == "artificial" else None
        epoch = draw_epoch(bank, bags, events, seed=config.seed + 1, epoch=0)
        if epoch.label_B.all() or not epoch.label_B.any():
            raise DataError(
                f"{self.name}: the validation bags are all of one class, so nothing can be "
                "validated; give more validation patients or another split seed"
            )
        return epoch


class Learner:
    """One worker of a training run; several work in step through ``torch.distributed``."""

    def __init__(
        self,
        stage: Stage,
        bank: PairBank,
        *,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        resumed: Checkpoint | None = None,
    ) -> None:
        """Prepares a run, or continues one.

        Args:
            stage: what to train.
            bank: pairs of its training and validation patients.
            device: where this worker computes.
            rank: of this worker.
            world: number of workers.
            wrap: makes the model that trains in step with the others, for example DDP.
            resumed: last checkpoint of an interrupted run.

        Raises:
            DataError: nothing to learn from, or validation bags of one class only; a
                :class:`DivergedError` while training, where numbers are none any more.
            CheckpointError: ``resumed`` is of another model.
        """
        self.stage, self.rank, self.world = stage, rank, world
        self.device = torch.device(device)
        settings = stage.training
        train_bank, validation_bank = stage.banks(bank)
        self._train_bank = train_bank
        self._train_pairs = DeviceBank(train_bank, self.device)
        self._validation = stage.validation_epoch(validation_bank)
        self._validation_bags = DeviceBank(validation_bank, self.device).load(self._validation)
        self.num_bags = len(stage.train_epoch(train_bank, 0))

        self.model = _initial_model(stage, train_bank)
        self.averaged = AveragedModel(
            self.model, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging)
        )
        self.history: list[dict[str, float]] = []
        self.stopping = EarlyStopping(settings.patience)
        if resumed is not None:
            self._restore_weights(resumed)
        self._wrapped = (wrap or (lambda model: model.to(self.device)))(self.model)
        self.averaged.to(self.device)
        self._optimizer = make_optimizer(self.model, settings)
        if resumed is not None:
            restore_optimizer(self._optimizer, resumed.state)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stopping ended the run."""
        enough = len(self.history) >= self.stage.training.max_epochs
        return enough or (bool(self.history) and self.stopping.stop)

    @property
    def improved(self) -> bool:
        """Whether the last epoch was the best so far."""
        return self.stopping.best_epoch == self.stopping.epoch

    def epoch(self, advance: Callable[[int], None] = lambda bags: None) -> dict[str, float]:
        """Trains one epoch and validates.

        Args:
            advance: told the number of bags of each global batch when it is done.

        Returns:
            epoch, train_loss and the validation metric (also appended to ``history``), and
            bags_per_s.
        """
        settings, number = self.stage.training, len(self.history)
        epoch = self.stage.train_epoch(self._train_bank, number)
        bags = self._train_pairs.load(epoch)
        num_steps = -(-len(epoch) // settings.batch_size)
        started = time.perf_counter()
        # Summed on the device: asking for each loss would make a GPU wait for every step.
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._wrapped.train()
        for step in range(num_steps):
            start = step * settings.batch_size
            stop = min(start + settings.batch_size, len(epoch))
            # A worker without a bag of a short last batch steps along with one that weighs nothing.
            idle = start + self.rank >= stop
            mine = slice(start, start + 1) if idle else slice(start + self.rank, stop, self.world)
            loss = train_step(
                self._wrapped,
                self._optimizer,
                bags.batch(mine),
                learning_rate=learning_rate_at(
                    number * num_steps + step, settings.max_epochs * num_steps, settings
                ),
                clip_norm=settings.clip_norm,
                loss_scale=0.0 if idle else self.world / (stop - start),
                precision=settings.precision,
                loss_of=self.model.loss,
            )
            if not idle:
                loss_sum += loss
            self.averaged.update_parameters(self.model)
            advance(stop - start)
        if self.world > 1:
            torch.distributed.all_reduce(loss_sum)
        line = {"epoch": number, "train_loss": float(loss_sum) / len(epoch)}
        seconds = time.perf_counter() - started
        logit_B = self._score(self._validation_bags)
        if not (math.isfinite(line["train_loss"]) and np.isfinite(logit_B).all()):
            raise DivergedError(
                f"{self.stage.name}: after epoch {number + 1} the training loss is "
                f"{line['train_loss']:g} and scores are not all finite; lower "
                f"training.learning_rate (now {settings.learning_rate:g})"
            )
        line[METRIC] = float(roc_auc_score(self._validation.label_B, logit_B))
        self.history.append(line)
        self.stopping.update(line[METRIC])
        return {**line, "bags_per_s": len(epoch) / seconds}

    def checkpoint(self) -> Checkpoint:
        """What is validated, with all it takes to continue."""
        return Checkpoint(
            config=self.stage.model,
            weights={name: value.clone() for name, value in self._scored.state_dict().items()},
            metrics={"history": list(self.history), METRIC: self.history[-1][METRIC]},
            provenance=self.stage.provenance,
            state=optimizer_tensors(self._optimizer)
            | {f"raw.{name}": value.clone() for name, value in self.model.state_dict().items()},
        )

    @property
    def _scored(self) -> BagModel:
        averaged = cast(BagModel, self.averaged.module)
        return averaged if self.stage.training.averaging else self.model

    def _restore_weights(self, resumed: Checkpoint) -> None:
        raw = {n.removeprefix("raw."): t for n, t in resumed.state.items() if n.startswith("raw.")}
        try:
            self.model.load_state_dict(raw)
            self.averaged.module.load_state_dict(dict(resumed.weights))
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.stage.name}: the checkpoint to continue from is of another model "
                f"({str(error).splitlines()[-1].strip()}); start a new run"
            ) from None
        self.averaged.n_averaged.fill_(1)
        self.history = list(resumed.metrics["history"])
        for line in self.history:
            self.stopping.update(line[METRIC])

    def _score(self, bags: LoadedEpoch) -> NDArray[np.float64]:
        """Logits of all bags on every worker; each worker computes its share."""
        scored = self._scored
        scored.eval()
        mine = np.arange(self.rank, len(bags), self.world)
        predictor = Predictor(scored, {}, version="", device=self.device)
        parts = [
            predictor.logits(bags.batch(mine[start : start + _SCORING_BATCH]))
            for start in range(0, len(mine), _SCORING_BATCH)
        ]
        gathered = [np.concatenate(parts) if parts else np.empty(0)]
        if self.world > 1:
            everyone: list[Any] = [None] * self.world
            torch.distributed.all_gather_object(everyone, gathered[0])
            gathered = everyone
        logits = np.empty(len(bags))
        for worker, values in enumerate(gathered):
            logits[worker :: self.world] = values
        return logits


def train(
    stage: Stage,
    bank: PairBank,
    *,
    device: torch.device | str = "cpu",
    report: Callable[[dict[str, float]], None] = lambda line: None,
) -> Checkpoint:
    """Trains one stage in this process and gives its best checkpoint, calibrated.

    Args:
        stage: what to train.
        bank: pairs of its training and validation patients.
        device: where.
        report: is told the metrics of every epoch.

    Raises:
        DataError, CheckpointError: see :class:`Learner`.
    """
    learner, best = Learner(stage, bank, device=device), None
    while not learner.finished:
        report(learner.epoch())
        if best is None or learner.improved:
            best = learner.checkpoint()
    if best is None:
        raise DataError(f"{stage.name}: no epoch was trained; max_epochs must be at least 1")
    metrics = {**best.metrics, "history": learner.history}
    return calibrated(dataclasses.replace(best, state={}, metrics=metrics), stage, bank)


def calibrated(checkpoint: Checkpoint, stage: Stage, bank: PairBank) -> Checkpoint:
    """Temperature, threshold and prior of each hospital from its validation bags."""
    _, validation_bank = stage.banks(bank)
    epoch = stage.validation_epoch(validation_bank)
    predictor = Predictor(checkpoint.build(), {}, version=checkpoint.version)
    logit_B = predictor.epoch_logits(DeviceBank(validation_bank, "cpu"), epoch)
    hospital_B = validation_bank.frame["hospital"].to_numpy()[epoch.bags.row_BK[:, 0]]
    calibration = {}
    for hospital in sorted(set(hospital_B)):
        of = hospital_B == hospital
        if epoch.label_B[of].any() and not epoch.label_B[of].all():
            calibration[hospital] = calibrate(logit_B[of], epoch.label_B[of])
    return dataclasses.replace(checkpoint, calibration=calibration)


def _initial_model(stage: Stage, bank: PairBank) -> BagModel:
    """A new model with its templates, or the parent's with the paper's parts frozen."""
    torch.manual_seed(stage.training.seed)
    if stage.parent is None:
        model = stage.model.build()
        types = torch.tensor(bank.frame["chromosome"].to_numpy())
        model.fit_template(torch.tensor(bank.pair_NPCL), types)
        return model
    model = Checkpoint.load(stage.parent, type(stage.model)).build()
    model.freeze_for_fine_tuning()
    return model
