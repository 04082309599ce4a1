"""Training of a reader: epochs and checkpoints. The HomNet below is frozen."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import torch

from homnet.bags.draw import PairBank
from homnet.bags.epochs import DeviceBank
from homnet.errors import ConfigError, DivergedError
from homnet.files import is_published
from homnet.locations import Location
from homnet.model.checkpoint import Checkpoint
from homnet.reader.lessons import Lessons, ReaderTraining, batches, draw_lessons
from homnet.reader.loss import Part, calibrate, loss_of, means
from homnet.reader.network import FROZEN, Reader, ReaderConfig, Reading
from homnet.training.optimisation import Weights, descend, learning_rate_at
from homnet.training.stage import require_patients

METRIC: Final = "validation_loss"


@dataclass(frozen=True)
class ReaderStage:
    """All settings of one training run of a reader, sent to its worker."""

    parent: str
    """Checkpoint of the HomNet below."""
    width: int
    """See :class:`homnet.reader.network.ReaderConfig`."""
    training: ReaderTraining
    """Optimisation settings."""
    train_patients: frozenset[str]
    """Patients to train on."""
    validation_patients: frozenset[str]
    """Patients for calibration and for selecting the best epoch."""
    start: str | None = None
    """Checkpoint of a reader on the same HomNet, with the initial weights; None for random ones."""
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Origin recorded in the checkpoint."""

    def __post_init__(self) -> None:
        require_patients(self.train_patients, self.validation_patients, self.provenance)


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
        """Prepares a run, or resumes one.

        Args:
            stage: what to train.
            bank: pairs of its patients, from a table with the columns of
                :func:`homnet.reader.truth.with_segments`.
            device: device to train on.
            resumed: last checkpoint of an interrupted run.

        Raises:
            ConfigError: the parent cannot be used below a reader, or the reader to start from has
                another HomNet.
            DataError: training or validation has no patients or nothing abnormal.
            CheckpointError: ``resumed`` lacks a weight or is of another reader.
        """
        settings = stage.training.optimiser
        self.stage, self.device = stage, torch.device(device)
        if settings.labels == "artificial":
            bank = bank.normal()
        self._train = bank.of_patients(stage.train_patients)
        validation = bank.of_patients(stage.validation_patients)
        self._bank = DeviceBank(self._train, self.device)
        self._validation_bank = DeviceBank(validation, self.device)
        parent = Checkpoint.load(stage.parent)
        self.config = ReaderConfig(model=cast(Any, parent.config), width=stage.width)
        torch.manual_seed(settings.seed)
        reader = self.config.build()
        reader.take_homnet(parent.weights)
        if stage.start is not None:
            start = Checkpoint.load(stage.start, ReaderConfig.of_json)
            require_start(stage.start, start, self.config, parent)
            reader.load_state_dict(dict(start.weights))
        self._lessons = draw_lessons(
            validation, stage.training.for_validation(), 0, settings.seed + 1
        )
        self._weights = Weights(reader.to(self.device), settings, unstored=FROZEN)
        self.history: list[dict[str, float]] = []
        self._best: Checkpoint | None = None
        if resumed is not None:
            self._restore(resumed)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return len(self.history) >= self.stage.training.optimiser.max_epochs

    def epoch(self, advance: Callable[[int], None] = lambda bags: None) -> dict[str, float]:
        """Trains one epoch and validates.

        Args:
            advance: called with the number of bags after each batch.

        Returns:
            ``epoch``, ``train_loss``, ``validation_loss`` and each of its parts; losses are means
            over all labels of the epoch, independent of the batch size.

        Raises:
            DataError: no training bag of the epoch is abnormal.
            DivergedError: a loss is not finite.
        """
        settings, number = self.stage.training.optimiser, len(self.history)
        lessons = draw_lessons(self._train, self.stage.training, number, settings.seed)
        num_steps = -(-len(lessons) // settings.batch_size)
        reader = self._weights.model.train()
        total: dict[str, Part] = {}
        batches_read = self._read(reader, lessons, self._bank, total)
        for step, (reading, parts) in enumerate(batches_read):
            descend(
                reader,
                self._weights.optimizer,
                [means(parts)["loss"]],
                learning_rate=learning_rate_at(
                    number * num_steps + step, settings.max_epochs * num_steps, settings
                ),
                clip_norm=settings.clip_norm,
            )
            self._weights.average()
            advance(len(reading.kind_BX))
        line = {"epoch": float(number), "train_loss": float(means(total)["loss"])}
        validated, readings = self._validate()
        line |= validated
        if not math.isfinite(line["train_loss"] + line[METRIC]):
            raise DivergedError(
                f"the reader's loss is {line['train_loss']:g} after epoch {number + 1}; lower "
                f"training.optimiser.learning_rate (now {settings.learning_rate:g})"
            )
        self.history.append(line)
        if all(line[METRIC] <= other[METRIC] for other in self.history):
            self._best = Checkpoint(
                self.config,
                self._weights.copies(),
                metrics={METRIC: line[METRIC], "calibration": self._calibrate(readings)},
            )
        return line

    def checkpoint(self) -> Checkpoint:
        """The best reader so far, with the state needed to resume the run."""
        best = self._best or Checkpoint(self.config, self._weights.copies())
        return dataclasses.replace(
            best,
            metrics={**best.metrics, "history": list(self.history)},
            provenance=dict(self.stage.provenance),
            state=self._weights.state(),
        )

    def _restore(self, resumed: Checkpoint) -> None:
        self._weights.restore(resumed.state)
        metrics = dict(resumed.metrics)
        self.history = list(metrics.pop("history"))
        self._best = dataclasses.replace(resumed, metrics=metrics, provenance={}, state={})

    def _validate(self) -> tuple[dict[str, float], list[Reading]]:
        """Validation loss with its parts, and the readings."""
        parts: dict[str, Part] = {}
        with torch.no_grad():
            found = self._read(
                self._weights.scored.eval(), self._lessons, self._validation_bank, parts
            )
            readings = [reading for reading, _ in found]
        return {f"validation_{name}": float(mean) for name, mean in means(parts).items()}, readings

    def _calibrate(self, readings: list[Reading]) -> dict[str, float]:
        mask_BK = torch.as_tensor(self._lessons.epoch.bags.mask_BK)
        return calibrate(readings, self._lessons.targets, mask_BK)

    def _read(
        self, reader: Reader, lessons: Lessons, bank: DeviceBank, total: dict[str, Part]
    ) -> Iterator[tuple[Reading, dict[str, Part]]]:
        """Reads bags batch by batch; the parts of each batch's loss are added to ``total``."""
        size = self.stage.training.optimiser.batch_size
        for batch, targets in batches(lessons, bank, size):
            reading = reader.read(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK)
            parts = loss_of(reading, targets, batch.mask_BK)
            for name, (loss, num) in parts.items():
                loss = loss.detach().double()
                before = total.get(name, (0.0, 0))
                total[name] = Part(before[0] + loss, before[1] + num)
            yield reading, parts


def require_start(
    path: str | Location, start: Checkpoint, form: ReaderConfig, parent: Checkpoint
) -> None:
    """Checks that training can start from a reader.

    Args:
        path: path of the checkpoint.
        start: content of the checkpoint.
        form: form of the reader to be trained.
        parent: HomNet below it.

    Raises:
        ConfigError: the reader has another width, or another HomNet.
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
    kept: Location | None = None,
    report: Callable[[dict[str, float]], None] = lambda line: None,
    advance: Callable[[int], None] = lambda bags: None,
) -> Checkpoint:
    """Trains a reader in this process and returns its best checkpoint, calibrated.

    Args:
        stage: what to train.
        bank: pairs of its patients.
        device: device to train on.
        kept: location for the last checkpoint of the run, from which the same call resumes after an
            interruption; by default nothing is kept.
        report: called with the metrics of every epoch.
        advance: called with the number of bags of every batch.

    Raises:
        ConfigError, DataError, CheckpointError: see :class:`ReaderLearner`.
    """
    resumed = None
    if kept is not None and is_published(kept):
        resumed = Checkpoint.load(kept, ReaderConfig.of_json)
    learner = ReaderLearner(stage, bank, device=device, resumed=resumed)
    while not learner.finished:
        line = learner.epoch(advance)
        if kept is not None:
            learner.checkpoint().save(kept)
        report(line)
    return dataclasses.replace(learner.checkpoint(), state={})
