"""One training run as seen by one worker: epochs, validation, early stopping, checkpoints.

This module is independent of how workers are started. Every worker draws the same bags from (seed,
epoch) and the index of all pairs, and trains on the bags of its own patients
(:mod:`homnet.bags.shards`). The loss is scaled so that the averaged gradient is that of the global
batch. One worker and ten therefore use the same batches and report the same validation metric.

Shape suffixes: N pairs, B bags, T chromosome types, X values of a template.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn

from homnet.bags.draw import PairBank, count_bags
from homnet.bags.epochs import Batch, DeviceBank, Epoch, empty_batch
from homnet.bags.shards import MemorySource, PairSource, Residency, Shard
from homnet.calibration.bags import Calibration, calibrate
from homnet.errors import CheckpointError, DivergedError
from homnet.files import is_published
from homnet.locations import Location
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.training.optimisation import (
    EarlyStopping,
    Weights,
    learning_rate_at,
    precision_on,
    train_step,
)
from homnet.training.stage import Stage

METRIC: Final = "validation_auc"
"""Name of the metric that early stopping and tuning maximise."""


@dataclass
class _Position:
    """Progress of a run."""

    epoch: int = 0
    """Number of the epoch, from 0."""
    step: int = 0
    """Completed steps of the epoch."""
    loss: float = 0.0
    """Summed loss of these steps over all workers."""


class Learner:
    """One worker of a training run; workers synchronise through ``torch.distributed``."""

    def __init__(
        self,
        stage: Stage,
        pairs: PairBank | PairSource,
        *,
        residency: Residency | None = None,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        resumed: Checkpoint | None = None,
    ) -> None:
        """Prepares a run, or resumes one.

        Args:
            stage: what to train.
            pairs: the pairs of its training and validation patients, or their source.
            residency: which pairs this worker holds, and for how long. By default it keeps them,
                and patients are split over the workers unless bags mix patients.
            device: device of this worker.
            rank: number of this worker, from 0.
            world: number of workers.
            wrap: wraps the model for synchronised training, for example in DDP.
            resumed: last checkpoint of an interrupted run.

        Raises:
            DataError: there is nothing to train on, or all validation bags have the same class.
            CheckpointError: ``resumed`` is of another model.
        """
        self.stage, self.rank, self.world = stage, rank, world
        self.device = torch.device(device)
        settings = stage.training
        self._precision = precision_on(self.device, settings.precision)
        source = MemorySource(pairs) if isinstance(pairs, PairBank) else pairs
        self._index, validation_index = stage.parts(source.index)
        held = residency or Residency(split=settings.bags.over == "patient", resident=True)
        self._train, self._validation = (
            Shard(source, part, residency=held, rank=rank, world=world, device=self.device)
            for part in (self._index, validation_index)
        )
        self._validation_windows = stage.validation_windows(validation_index)
        self._validation_epochs = stage.validation_epochs(validation_index)
        hospital_N = validation_index.frame["hospital"].to_numpy()
        self._hospital_B = np.concatenate(
            [hospital_N[epoch.bags.row_BK[:, 0]] for epoch in self._validation_epochs]
        )
        self.num_bags = count_bags(self._index, settings.bags)

        torch.manual_seed(settings.seed)
        if stage.parent is None:
            self.model = stage.model.build()
            if resumed is None:
                self._fit_template()
        else:
            self.model = Checkpoint.load(stage.parent, type(stage.model)).build()
            self.model.freeze_for_fine_tuning()
        self.history: list[dict[str, float]] = []
        self.stopping = EarlyStopping(settings.patience)
        self._position = _Position()
        self._best: Checkpoint | None = None
        self._wrapped = (wrap or (lambda model: model.to(self.device)))(self.model)
        if settings.compile:
            self._wrapped = cast(nn.Module, torch.compile(self._wrapped))
        self._weights = Weights(self.model, settings)
        if resumed is not None:
            self._restore(resumed)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stopping ended the run."""
        enough = len(self.history) >= self.stage.training.max_epochs
        return enough or (bool(self.history) and self.stopping.stop)

    @property
    def done_bags(self) -> int:
        """Number of bags trained on so far, repetitions included."""
        step = min(self._position.step * self.stage.training.batch_size, self.num_bags)
        return len(self.history) * self.num_bags + step

    def epoch(
        self,
        on_batch: Callable[[int], None] = lambda bags: None,
        save: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Trains one epoch, or the rest of one that was interrupted, and validates.

        Args:
            on_batch: called with the number of bags after each global batch.
            save: called on every worker after each ``checkpoint_steps`` steps, when
                :meth:`checkpoint` holds everything needed to resume.

        Returns:
            epoch, train_loss and the validation metric (also appended to ``history``), bags_per_s,
            and wait_share, the share of time that this worker waited for its bags.

        Raises:
            DivergedError: the loss or a score is not finite.
        """
        settings, number, position = self.stage.training, len(self.history), self._position
        parts = self.stage.train_windows(self._index, number)
        num_bags = [count_bags(self._index.rows(part.row_N), settings.bags) for part in parts]
        steps = [-(-count // settings.batch_size) for count in num_bags]
        num_steps, first, trained = sum(steps), 0, 0
        while first + steps[0] <= position.step:  # windows that are done already
            first += steps.pop(0)
            parts.pop(0)
        # Summed on the device: reading each loss would synchronise at every step.
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        started, waited = time.perf_counter(), 0.0
        self._wrapped.train()
        banks = self._train.banks(parts)
        for part in parts:
            asked = time.perf_counter()
            mine = self._own(
                self._train, self.stage.train_epoch(self._index, number, part), next(banks)
            )
            waited += time.perf_counter() - asked
            for step in range(position.step, first + mine.num_batches):
                batch, size = mine.batch(step - first)
                loss = train_step(
                    self._wrapped,
                    self._weights.optimizer,
                    # A worker without bags takes the step with an empty batch of weight 0.
                    batch or empty_batch(settings.bags.num_cells, self.device),
                    learning_rate=learning_rate_at(
                        number * num_steps + step, settings.max_epochs * num_steps, settings
                    ),
                    clip_norm=settings.clip_norm,
                    loss_scale=self.world / size if batch else 0.0,
                    precision=self._precision,
                    loss_of=self.model.loss,
                )
                if batch:
                    loss_sum += loss
                self._weights.average()
                position.step, trained = step + 1, trained + size
                on_batch(size)
                every = settings.checkpoint_steps
                if every and position.step % every == 0 and position.step < num_steps:
                    self._settle(loss_sum)
                    save()
            first += mine.num_batches
        self._settle(loss_sum)
        seconds = time.perf_counter() - started
        line = {"epoch": number, "train_loss": position.loss / sum(num_bags)}
        logit_B = self._score()
        if not (math.isfinite(line["train_loss"]) and np.isfinite(logit_B).all()):
            raise DivergedError(
                f"{self.stage.name}: after epoch {number + 1} the training loss is "
                f"{line['train_loss']:g} and scores are not all finite; lower "
                f"training.learning_rate (now {settings.learning_rate:g})"
            )
        label_B = np.concatenate([epoch.label_B for epoch in self._validation_epochs])
        # Every worker has the scores of all bags, so all make the same decision.
        line[METRIC] = float(roc_auc_score(label_B, logit_B))
        self.history.append(line)
        self._position = _Position(len(self.history))
        if self.stopping.update(line[METRIC]):
            self._best = Checkpoint(
                config=self.stage.model,
                weights=self._weights.copies(),
                metrics={METRIC: line[METRIC]},
                calibration=calibrations(logit_B, label_B, self._hospital_B),
            )
        return {**line, "bags_per_s": trained / seconds, "wait_share": waited / seconds}

    def checkpoint(self) -> Checkpoint:
        """The best model so far, or the current one before any validation, and resume state."""
        best = self._best or Checkpoint(self.stage.model, self._weights.copies())
        return dataclasses.replace(
            best,
            metrics={
                **best.metrics,
                "history": list(self.history),
                "position": dataclasses.asdict(self._position),
            },
            provenance=self.stage.provenance,
            state=self._weights.state(),
        )

    def _restore(self, resumed: Checkpoint) -> None:
        try:
            self._weights.restore(resumed.state)
        except CheckpointError as error:
            raise CheckpointError(f"{self.stage.name}: {error}") from None
        metrics = resumed.metrics
        self.history = list(metrics["history"])
        self._position = _Position(**metrics["position"])
        for line in self.history:
            self.stopping.update(line[METRIC])
        if self.history:
            best = {METRIC: metrics[METRIC]}
            self._best = dataclasses.replace(resumed, metrics=best, provenance={}, state={})

    def _fit_template(self) -> None:
        """Fits the model's template, if any, to the training pairs of all workers."""
        nothing = empty_batch(1, self.device)
        total_TX = self.model.template_sums(nothing.x_BKPCL[:, 0], nothing.chromosome_B)
        if total_TX is None:
            return
        total_TX.zero_()
        for bank in self._train.once(self.stage.train_windows(self._index, 0)):
            more_TX = self.model.template_sums(bank.pair_NPCL, bank.chromosome_N)
            total_TX = total_TX if more_TX is None else total_TX + more_TX
        if self.world > 1:
            torch.distributed.all_reduce(total_TX)
        self.model.take_sums(total_TX)

    def _own(self, shard: Shard, epoch: Epoch, bank: DeviceBank | None) -> "_Mine":
        mine = np.nonzero(shard.worker_of_bags(epoch) == self.rank)[0]
        return _Mine(epoch, mine, bank, self.stage.training.batch_size)

    def _settle(self, loss_sum: torch.Tensor) -> None:
        """Adds the sums of all workers to the position, and resets them to 0."""
        if self.world > 1:
            torch.distributed.all_reduce(loss_sum)
        self._position.loss += float(loss_sum)
        loss_sum.zero_()

    def _score(self) -> NDArray[np.float64]:
        """Logits (B) of all validation bags, on every worker; each computes those it owns."""
        predictor = Predictor(self._weights.scored.eval(), {}, version="", device=self.device)
        banks = self._validation.banks(self._validation_windows)
        found = []
        for epoch, bank in zip(self._validation_epochs, banks, strict=True):
            mine = self._own(self._validation, epoch, bank)
            logit_B = np.zeros(len(epoch))
            if mine.bags:
                logit_B[mine.number_B] = predictor.loaded_logits(mine.bags)
            found.append(logit_B)
        logit_B = np.concatenate(found)
        if self.world > 1:
            # Each bag has one owner and is zero elsewhere: the sum is exact.
            total_B = torch.tensor(logit_B, device=self.device)
            torch.distributed.all_reduce(total_B)
            logit_B = total_B.cpu().numpy()
        return logit_B


class _Mine:
    """The bags of a window that one worker owns, split by global batch."""

    def __init__(
        self, epoch: Epoch, mine_B: NDArray[np.int64], bank: DeviceBank | None, batch_size: int
    ) -> None:
        self.number_B = mine_B
        """Index of each of these bags in the window."""
        self.bags = None if bank is None or not len(mine_B) else bank.load(epoch, mine_B)
        """The bags on the device; None if there are none."""
        self.num_batches = -(-len(epoch) // batch_size)
        edges = np.minimum(np.arange(self.num_batches + 1) * batch_size, len(epoch))
        self._sizes = np.diff(edges)
        self._places = np.searchsorted(mine_B, edges)

    def batch(self, number: int) -> tuple[Batch | None, int]:
        """This worker's part of a global batch, or None, and the size of the global batch."""
        begin, end = (int(place) for place in self._places[number : number + 2])
        own = self.bags.batch(slice(begin, end)) if self.bags and begin < end else None
        return own, int(self._sizes[number])


def train(
    stage: Stage,
    pairs: PairBank,
    *,
    device: torch.device | str = "cpu",
    kept: Location | None = None,
    report: Callable[[dict[str, float]], None] = lambda line: None,
) -> Checkpoint:
    """Trains one stage in this process.

    Args:
        stage: what to train.
        pairs: the pairs of its training and validation patients.
        device: device to train on.
        kept: directory for the last checkpoint of the run, from which the same call resumes after
            an interruption; by default nothing is kept.
        report: called with the metrics of every epoch.

    Returns:
        The best checkpoint, calibrated on the validation patients.

    Raises:
        DataError, CheckpointError, DivergedError: see :class:`Learner`.
    """
    resumed = None
    if kept is not None and is_published(kept):
        resumed = Checkpoint.load(kept, type(stage.model))
    learner = Learner(stage, pairs, device=device, resumed=resumed)

    def save() -> None:
        if kept is not None:
            learner.checkpoint().save(kept)

    while not learner.finished:
        line = learner.epoch(save=save)
        save()
        report(line)
    return finished(learner.checkpoint())


def calibrations(
    logit_B: NDArray[np.float64], label_B: NDArray[np.bool_], hospital_B: NDArray[np.object_]
) -> dict[str, Calibration]:
    """Calibrates each hospital that has bags of both classes.

    Args:
        logit_B: uncalibrated logits of validation bags.
        label_B: their labels.
        hospital_B: their hospitals.
    """
    found = {}
    for hospital in sorted(set(hospital_B)):
        of = hospital_B == hospital
        if label_B[of].any() and not label_B[of].all():
            found[hospital] = calibrate(logit_B[of], label_B[of])
    return found


def finished(checkpoint: Checkpoint) -> Checkpoint:
    """The best model of a run's last checkpoint, without the resume state."""
    metrics = {name: value for name, value in checkpoint.metrics.items() if name != "position"}
    return dataclasses.replace(checkpoint, metrics=metrics, state={})
