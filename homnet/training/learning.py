"""One training run as seen by one worker: epochs, validation, early stopping, checkpoints.

This module is independent of how workers are started. Every worker trains on its own share of each
global batch (:mod:`homnet.training.supply`). The loss is scaled so that the averaged gradient is
that of the global batch. One worker and ten therefore use the same batches and report the same
validation metric.

Shape suffixes: N pairs, B bags, Q parts, T chromosome types, X values of a template.
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

from homnet.bags.draw import PairBank
from homnet.bags.epochs import Batch, DeviceBank, LoadedEpoch, empty_batch
from homnet.calibration.bags import Calibration, calibrate
from homnet.errors import CheckpointError, DivergedError
from homnet.files import is_published
from homnet.locations import Location
from homnet.model.checkpoint import Checkpoint
from homnet.model.contract import BagModel
from homnet.model.predictor import Predictor
from homnet.model.search import EventSearch
from homnet.seeding import generator
from homnet.training.logit_weights import LogitWeights, fit_logit_weights
from homnet.training.optimisation import (
    EarlyStopping,
    Weights,
    learning_rate_at,
    precision_on,
    train_step,
)
from homnet.training.stage import Stage
from homnet.training.supply import Resident, Supply, no_sums

_BAGS_AT_ONCE: Final = 512
"""Validation bags of a pass that searches them."""
METRIC: Final = "validation_auc"
"""Name of the metric that early stopping and tuning maximise."""


@dataclass
class _Position:
    """Progress of a run."""

    epoch: int = 0
    """Number of the epoch, from 0."""
    step: int = 0
    """Completed steps of the epoch."""
    bags: int = 0
    """Bags of these steps over all workers."""
    loss: float = 0.0
    """Summed loss of these steps over all workers."""


class Learner:
    """One worker of a training run; workers synchronise through ``torch.distributed``."""

    def __init__(
        self,
        stage: Stage,
        supply: Supply,
        *,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        resumed: Checkpoint | None = None,
    ) -> None:
        """Prepares a run, or resumes one.

        Args:
            stage: what to train.
            supply: what this worker trains and validates on.
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
        self._supply = supply
        self._validation = _Validation(stage, supply, self.device, world)

        torch.manual_seed(settings.seed)
        if stage.parent is None:
            self.model = stage.model.build()
            if resumed is None:
                self._fit_template()
        else:
            parent = Checkpoint.load(stage.parent, type(stage.model))
            if parent.config != stage.model:
                raise CheckpointError(
                    f"{stage.parent}: has another form than the stage; give the stage the form "
                    "of its parent"
                )
            self.model = parent.build()
            self.model.freeze_for_fine_tuning()
        self.history: list[dict[str, float]] = []
        self._earlier_bags = 0
        self.stopping = EarlyStopping(settings.patience)
        self._position = _Position()
        self._best: Checkpoint | None = None
        self._wrapped = (wrap or (lambda model: model.to(self.device)))(self.model)
        self._weights = Weights(self.model, settings)
        if settings.compile:
            for module in self.model.modules():
                # It counts types on the host, which no graph holds. Marked here and not where it is
                # defined, because that imports the compiler into every process.
                if isinstance(module, EventSearch):
                    module.forward = torch.compiler.disable(module.forward)  # type: ignore[method-assign]
            self._wrapped = cast(nn.Module, torch.compile(self._wrapped))
        if resumed is not None:
            self._restore(resumed)
        # Fine-tuning keeps the weights of what it starts from: its hospital has too few bags.
        self._family_BF = None if stage.parent else self._validation.family_scores(self.model)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stopping ended the run."""
        enough = len(self.history) >= self.stage.training.max_epochs
        return enough or self.stopping.stop

    @property
    def position(self) -> tuple[int, int]:
        """Number of the epoch and of the step that come next."""
        return self._position.epoch, self._position.step

    @property
    def done_bags(self) -> int:
        """Number of bags trained on so far, repetitions included."""
        return self._earlier_bags + self._position.bags

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
        plan = self._supply.plans.train
        num_steps = sum(self.stage.steps(plan, self.stage.windows(plan, number)))
        trained, waited = 0, 0.0
        # Summed on the device: reading each loss would synchronise at every step.
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._wrapped.train()
        started = asked = time.perf_counter()
        for batch, size in self._supply.batches(number, position.step):
            waited += time.perf_counter() - asked
            rate = learning_rate_at(
                number * num_steps + position.step, settings.max_epochs * num_steps, settings
            )
            # What a model draws, as dropout does, must not depend on where a run was interrupted.
            noise = generator(settings.seed, "step", number, position.step, self.rank)
            torch.manual_seed(int(noise.integers(2**63)))
            loss_sum += self.step(batch, size, rate)
            position.step, position.bags = position.step + 1, position.bags + size
            trained += size
            on_batch(size)
            every = settings.checkpoint_steps
            if every and position.step % every == 0 and position.step < num_steps:
                self._settle(loss_sum)
                save()
            asked = time.perf_counter()
        self._settle(loss_sum)
        seconds = time.perf_counter() - started
        line = {"epoch": number, "train_loss": position.loss / position.bags}
        own_B = self._score()
        fitted, logit_B = None, own_B
        if self._family_BF is not None and np.isfinite(own_B).all():
            fitted = fit_logit_weights(own_B, self._family_BF, self._validation.label_B)
            logit_B = fitted.logits(own_B, self._family_BF)
        if not (math.isfinite(line["train_loss"]) and np.isfinite(logit_B).all()):
            raise DivergedError(
                f"{self.stage.name}: after epoch {number + 1} the training loss is "
                f"{line['train_loss']:g} and scores are not all finite; lower "
                f"training.learning_rate (now {settings.learning_rate:g})"
            )
        label_B = self._validation.label_B
        # Every worker has the scores of all bags, so all make the same decision.
        line[METRIC] = float(roc_auc_score(label_B, logit_B))
        if fitted is not None:
            line["validation_auc_without_search"] = float(roc_auc_score(label_B, own_B))
        self.history.append(line)
        self._earlier_bags += position.bags
        self._position = _Position(len(self.history))
        if self.stopping.update(line[METRIC]):
            self._best = Checkpoint(
                config=self.stage.model,
                weights=self._kept(fitted),
                metrics={METRIC: line[METRIC]},
                calibration=calibrations(logit_B, label_B, self._validation.hospital_B),
            )
        return {**line, "bags_per_s": trained / seconds, "wait_share": waited / seconds}

    def step(self, batch: Batch | None, size: int, learning_rate: float) -> torch.Tensor:
        """Takes one step on this worker's share of a global batch.

        Args:
            batch: this worker's bags; None if it has none.
            size: number of bags of the global batch.
            learning_rate: of the step.

        Returns:
            The summed loss of this worker's bags, on its device.
        """
        settings = self.stage.training
        loss = train_step(
            self._wrapped,
            self._weights.optimizer,
            # A worker without bags takes the step with an empty batch of weight 0.
            batch or empty_batch(settings.bags.num_cells, self.device),
            learning_rate=learning_rate,
            clip_norm=settings.clip_norm,
            loss_scale=self.world / size if batch else 0.0,
            precision=self._precision,
            loss_of=self.model.loss,
            cpu_pairs=self.model.cpu_pairs,
        )
        self._weights.average()
        return loss if batch else torch.zeros_like(loss)

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
        plan = self._supply.plans.train
        self._earlier_bags = sum(
            self.stage.num_bags(plan, epoch) for epoch in range(len(self.history))
        )
        for line in self.history:
            self.stopping.update(line[METRIC])
        if self.history:
            best = {METRIC: metrics[METRIC]}
            self._best = dataclasses.replace(resumed, metrics=best, provenance={}, state={})

    def _kept(self, fitted: LogitWeights | None) -> dict[str, torch.Tensor]:
        """The weights of the best model; training goes on without the search."""
        weights = self._weights.copies()
        if fitted is None:
            return weights
        weight_F = torch.from_numpy(fitted.weight_F)
        return self.model.reweighted(weights, fitted.own, weight_F, fitted.bias)

    def _fit_template(self) -> None:
        """Fits the model's template, if any, to training pairs of all workers."""
        total_TX = no_sums(self.model, self.device)
        if total_TX is None:
            return
        own_TX = self._supply.template_sums(self.model)
        if own_TX is not None:
            total_TX = own_TX.to(self.device)
        if self.world > 1:
            torch.distributed.all_reduce(total_TX)
        self.model.take_sums(total_TX)

    def _settle(self, loss_sum: torch.Tensor) -> None:
        """Adds the sums of all workers to the position, and resets them to 0."""
        if self.world > 1:
            torch.distributed.all_reduce(loss_sum)
        self._position.loss += float(loss_sum)
        loss_sum.zero_()

    def _score(self) -> NDArray[np.float64]:
        """Logits (B) of all validation bags, on every worker; each computes its own."""
        predictor = Predictor(self._weights.scored.eval(), {}, version="", device=self.device)
        own = self._validation.own
        return self._validation.together(predictor.loaded_logits(own) if own else np.zeros(0))


class _Validation:
    """The fixed validation bags: all labels, and this worker's own bags on its device."""

    def __init__(self, stage: Stage, supply: Supply, device: torch.device, world: int) -> None:
        """Draws this worker's bags.

        Raises:
            DataError: all bags have the same class.
        """
        held, plan = supply.validation, supply.plans.validation
        self._device, self._world, self._num_bags = device, world, plan.num_bags
        _, self._number_B = held.of_window(np.arange(len(plan)))
        self.own: LoadedEpoch | None = None
        """This worker's bags on its device."""
        own_label_B = np.zeros(0)
        if held.bank is not None:
            # In the order of the plan, as the numbers are.
            epoch = stage.validation_epoch(held.bank, np.argsort(held.place_Q))
            self.own = DeviceBank(held.bank, device).load(epoch)
            own_label_B = epoch.label_B.astype(np.float64)
        self.label_B = self.together(own_label_B) > 0.5
        """Label of every validation bag, in the order of the plan."""
        self.hospital_B = np.repeat(plan.hospital_Q, plan.bags_Q)
        """Hospital of every validation bag."""
        stage.require_classes(self.label_B)

    def family_scores(self, model: BagModel) -> NDArray[np.float64] | None:
        """:meth:`BagModel.family_scores` of every validation bag (B, F), or None."""
        model = model.to(self._device)
        nothing = empty_batch(1, self._device)
        found = model.family_scores(nothing.x_BKPCL, nothing.mask_BK, nothing.chromosome_B)
        if found is None:
            return None
        batches = [] if self.own is None else self.own.batches(_BAGS_AT_ONCE)
        parts = [model.family_scores(b.x_BKPCL, b.mask_BK, b.chromosome_B) for b in batches]
        own_BF = torch.cat([found[:0], *(p for p in parts if p is not None)])
        return self.together(own_BF.double().cpu().numpy())

    def together(self, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers of every validation bag (B, ...), on every worker, given those of its own."""
        value = np.zeros((self._num_bags, *own.shape[1:]))
        value[self._number_B] = own
        if self._world > 1:
            # Each bag has one owner and is zero elsewhere: the sum is exact.
            total = torch.tensor(value, device=self._device)
            torch.distributed.all_reduce(total)
            value = total.cpu().numpy()
        return value


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
    learner = Learner(stage, Resident.of(stage, pairs, device), device=device, resumed=resumed)

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
