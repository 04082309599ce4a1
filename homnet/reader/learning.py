"""Training of the reader: its epochs, and what they leave behind.

HomNet below is frozen; only the reader learns.

Shape suffixes: B bags, K cells, P homologs, C chromatids, L positions.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from homnet.bags.draw import PairBank
from homnet.bags.epochs import Batch, DeviceBank
from homnet.errors import ConfigError, DataError, DivergedError
from homnet.model.checkpoint import Checkpoint
from homnet.reader.lessons import Lessons, ReaderTraining, batches, draw_lessons
from homnet.reader.loss import WEIGHTS, loss_of, total_loss
from homnet.reader.network import Reader, ReaderConfig, Reading
from homnet.reader.temperatures import calibrate
from homnet.training.optimisation import (
    learning_rate_at,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
)

METRIC: Final = "validation_loss"


@dataclass(frozen=True)
class ReaderStage:
    """All that one training run of a reader needs; it travels to its worker."""

    parent: str
    """Checkpoint of the HomNet below."""
    width: int
    """See :class:`homnet.reader.network.ReaderConfig`."""
    training: ReaderTraining
    """How it is optimised."""
    train_patients: frozenset[str]
    """Patients to learn from."""
    validation_patients: frozenset[str]
    """Patients for calibration and for choosing the best epoch."""
    start: str | None = None
    """Checkpoint of a reader on the same HomNet whose weights learning starts from."""
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What the checkpoint says of its origin."""

    def __post_init__(self) -> None:
        shared = self.train_patients & self.validation_patients
        if shared:
            raise DataError(f"patient {min(shared)} is in both training and validation")


class ReaderLearner:
    """One training run of a reader, in one process."""

    def __init__(
        self,
        stage: ReaderStage,
        bank: PairBank,
        *,
        device: torch.device | str = "cpu",
        resumed: Checkpoint | None = None,
    ) -> None:
        """Prepares a run, or continues one.

        Args:
            stage: what to train.
            bank: pairs of its patients, of a table that went through
                :func:`homnet.reader.truth.with_segments`.
            device: where.
            resumed: last checkpoint of an interrupted run.

        Raises:
            ConfigError: no reader can stand on the parent, or the one to start from does not.
            DataError: there is nobody, or nothing abnormal, to learn from or to validate on.
        """
        settings = stage.training.optimiser
        self.stage, self.device = stage, torch.device(device)
        if settings.labels == "artificial":
            bank = bank.normal()
        self._train = bank.of_patients(stage.train_patients)
        self._validation = bank.of_patients(stage.validation_patients)
        self._bank = DeviceBank(self._train, self.device)
        self._validation_bank = DeviceBank(self._validation, self.device)
        parent = Checkpoint.load(stage.parent)
        self.config = ReaderConfig(model=cast(Any, parent.config), width=stage.width)
        torch.manual_seed(settings.seed)
        self.reader = self.config.build()
        self.reader.take_homnet(parent.weights)
        if stage.start is not None:
            start = Checkpoint.load(stage.start, ReaderConfig.of_json)
            require_start(stage.start, start, self.config, parent)
            self.reader.load_state_dict(dict(start.weights), strict=True)
        self._lessons = self._validation_lessons()
        self.averaged = AveragedModel(
            self.reader, multi_avg_fn=get_ema_multi_avg_fn(settings.averaging)
        )
        self.history: list[dict[str, float]] = []
        self._best: Checkpoint | None = None
        self.reader.to(self.device)
        self.averaged.to(self.device)
        self._optimizer = make_optimizer(self.reader, settings)
        if resumed is not None:
            self._restore(resumed)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return len(self.history) >= self.stage.training.optimiser.max_epochs

    def epoch(self, advance: Callable[[int], None] = lambda bags: None) -> dict[str, float]:
        """Trains one epoch and validates.

        Args:
            advance: told the number of bags of each batch when it is done.

        Raises:
            DivergedError: the loss is no number any more.
        """
        settings, number = self.stage.training.optimiser, len(self.history)
        lessons = draw_lessons(self._train, self.stage.training, number, settings.seed)
        num_steps = -(-len(lessons) // settings.batch_size)
        self.reader.train()
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        for step, (batch, targets) in enumerate(batches(lessons, self._bank, settings.batch_size)):
            rate = learning_rate_at(
                number * num_steps + step, settings.max_epochs * num_steps, settings
            )
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            loss = total_loss(loss_of(_read(self.reader, batch), batch, targets))
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.reader.parameters(), settings.clip_norm)
            self._optimizer.step()
            self.averaged.update_parameters(self.reader)
            loss_sum += loss.detach()
            advance(len(batch.label_B))
        line = {"epoch": float(number), "train_loss": float(loss_sum) / num_steps}
        line |= self._validate()
        if not math.isfinite(line["train_loss"] + line[METRIC]):
            raise DivergedError(
                f"the reader's loss is {line['train_loss']:g} after epoch {number + 1}; lower "
                f"training.optimiser.learning_rate (now {settings.learning_rate:g})"
            )
        self.history.append(line)
        if all(line[METRIC] <= other[METRIC] for other in self.history):
            self._best = Checkpoint(
                self.config,
                _copies(self._scored),
                metrics={METRIC: line[METRIC], "calibration": self._calibrate()},
            )
        return line

    def checkpoint(self) -> Checkpoint:
        """The best reader so far, with all it takes to continue the run."""
        best = self._best or Checkpoint(self.config, _copies(self._scored))
        raw = {f"raw.{name}": t.clone() for name, t in self.reader.learnt().items()}
        averaged = cast(Reader, self.averaged.module).learnt()
        return dataclasses.replace(
            best,
            metrics={**best.metrics, "history": list(self.history)},
            provenance=dict(self.stage.provenance),
            state=optimizer_tensors(self._optimizer)
            | raw
            | {f"averaged.{name}": t.clone() for name, t in averaged.items()},
        )

    @property
    def _scored(self) -> Reader:
        averaged = cast(Reader, self.averaged.module)
        return averaged if self.stage.training.optimiser.averaging else self.reader

    def _restore(self, resumed: Checkpoint) -> None:
        for prefix, model in (("raw.", self.reader), ("averaged.", self.averaged.module)):
            part = {
                name.removeprefix(prefix): tensor
                for name, tensor in resumed.state.items()
                if name.startswith(prefix)
            }
            model.load_state_dict(part, strict=False)
        restore_optimizer(self._optimizer, resumed.state)
        metrics = dict(resumed.metrics)
        self.history = list(metrics.pop("history"))
        self.averaged.n_averaged.fill_(1)
        self._best = dataclasses.replace(resumed, metrics=metrics, provenance={}, state={})

    def _validation_lessons(self) -> Lessons:
        settings = self.stage.training.optimiser
        training = dataclasses.replace(
            self.stage.training,
            optimiser=dataclasses.replace(
                settings,
                bags=dataclasses.replace(settings.bags, rounds=settings.validation_rounds),
            ),
            fewest_cells=settings.bags.num_cells,
        )
        lessons = draw_lessons(self._validation, training, 0, settings.seed + 1)
        if not lessons.epoch.label_B.any():
            raise DataError(
                "the validation patients have no abnormal bag, so a reader of findings cannot be "
                "calibrated; give more of them or another split seed"
            )
        return lessons

    def _validate(self) -> dict[str, float]:
        scored = self._scored.eval()
        size = self.stage.training.optimiser.batch_size
        parts: dict[str, float] = {}
        with torch.no_grad():
            for batch, targets in batches(self._lessons, self._validation_bank, size):
                found = loss_of(_read(scored, batch), batch, targets)
                for name, value in found.items():
                    parts[name] = parts.get(name, 0.0) + float(value) * len(batch.label_B)
        parts = {name: value / len(self._lessons) for name, value in parts.items()}
        total = sum(WEIGHTS[name] * value for name, value in parts.items())
        return {METRIC: total, **{f"validation_{name}": value for name, value in parts.items()}}

    def _calibrate(self) -> dict[str, float]:
        scored = self._scored.eval()
        size = self.stage.training.optimiser.batch_size
        with torch.no_grad():
            readings = [
                _read(scored, batch)
                for batch, _ in batches(self._lessons, self._validation_bank, size)
            ]
        return calibrate(readings, self._lessons)


def _read(reader: Reader, batch: Batch) -> Reading:
    return reader.read(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK)


def require_start(
    path: str | Path, start: Checkpoint, form: ReaderConfig, parent: Checkpoint
) -> None:
    """Refuses a reader from which learning cannot start.

    Args:
        path: of the checkpoint.
        start: what it holds.
        form: of the reader that is to learn.
        parent: the HomNet below it.

    Raises:
        ConfigError: it is of another width, or stands on another HomNet.
    """
    if start.config != form or start.provenance.get("parent") != parent.version:
        raise ConfigError(
            f"{path} is of another width or stands on another HomNet; give the --checkpoint and "
            "the --width that it was trained with, or leave --start out"
        )


def learn(
    stage: ReaderStage,
    bank: PairBank,
    *,
    device: torch.device | str = "cpu",
    kept: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda line: None,
    advance: Callable[[int], None] = lambda bags: None,
) -> Checkpoint:
    """Trains a reader in this process and gives its best checkpoint, calibrated.

    Args:
        stage: what to train.
        bank: pairs of its patients.
        device: where.
        kept: directory that keeps the last checkpoint of the run, from which the same call goes on
            after an interruption; by default nothing is kept.
        report: is told the metrics of every epoch.
        advance: is told the bags of every batch.

    Raises:
        ConfigError, DataError, CheckpointError: see :class:`ReaderLearner`.
    """
    resumed = None
    if kept is not None and kept.is_dir():
        resumed = Checkpoint.load(kept, ReaderConfig.of_json)
    learner = ReaderLearner(stage, bank, device=device, resumed=resumed)
    while not learner.finished:
        line = learner.epoch(advance)
        if kept is not None:
            learner.checkpoint().save(kept)
        report(line)
    return dataclasses.replace(learner.checkpoint(), state={})


def _copies(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
