"""Settings of one training run, and its bags, which are the same on all workers."""

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from homnet.bags.draw import BagConfig, PairIndex
from homnet.bags.epochs import Epoch, draw_epoch
from homnet.bags.shards import Window, windows
from homnet.errors import DataError
from homnet.model.contract import Form
from homnet.seeding import generator
from homnet.training.optimisation import TrainingConfig

P = TypeVar("P", bound=PairIndex)


@dataclass(frozen=True)
class Stage:
    """All settings of one training run, sent to the workers."""

    name: str
    """Name of the run; a run with the same name and storage resumes."""
    model: Form
    """Form of the model."""
    training: TrainingConfig
    """Optimisation settings."""
    train_patients: frozenset[str]
    """Patients to train on."""
    validation_patients: frozenset[str]
    """Patients for early stopping and calibration."""
    parent: str | None = None
    """Checkpoint to start from, with its frozen parts; None starts from random weights."""
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Origin recorded in the checkpoint."""

    def __post_init__(self) -> None:
        shared = self.train_patients & self.validation_patients
        if shared:
            raise DataError(f"patient {min(shared)} is in both training and validation")

    def parts(self, pairs: P) -> tuple[P, P]:
        """Training pairs and validation pairs.

        Raises:
            DataError: either set is empty.
        """
        if self.training.labels == "artificial":
            pairs = pairs.normal()
        return pairs.of_patients(self.train_patients), pairs.of_patients(self.validation_patients)

    def train_windows(self, index: PairIndex, epoch: int) -> list[Window]:
        """The windows of one epoch, the same for every worker."""
        config = self.training
        return windows(index, config.window_pairs, generator(config.seed, "windows", epoch))

    def train_epoch(self, index: PairIndex, epoch: int, window: Window | None = None) -> Epoch:
        """Bags of a window (default: whole index) as rows of ``index``, equal for all workers."""
        if window is None:
            window = Window(0, frozenset(index.frame["patient_id"]), np.arange(len(index)))
        return self._draw(index, window, self.training.bags, self.training.seed, epoch)

    def validation_windows(self, index: PairIndex) -> list[Window]:
        """The windows of the validation bags."""
        config = self.training
        return windows(index, config.window_pairs, generator(config.seed + 1, "windows"))

    def validation_epochs(self, index: PairIndex) -> list[Epoch]:
        """The fixed set of validation bags, window by window.

        Raises:
            DataError: all bags have the same class.
        """
        config = self.training
        bags = dataclasses.replace(config.bags, rounds=config.validation_rounds)
        epochs = [
            self._draw(index, window, bags, config.seed + 1, 0)
            for window in self.validation_windows(index)
        ]
        label_B = np.concatenate([epoch.label_B for epoch in epochs])
        if label_B.all() or not label_B.any():
            raise DataError(
                f"{self.name}: the validation bags are all of one class, so nothing can be "
                "validated; give more validation patients or another split seed"
            )
        return epochs

    def _draw(
        self, index: PairIndex, window: Window, bags: BagConfig, seed: int, epoch: int
    ) -> Epoch:
        config = self.training
        events = config.events if config.labels == "artificial" else None
        part = index.rows(window.row_N)
        drawn = draw_epoch(part, bags, events, seed=seed, epoch=epoch, window=window.number)
        return drawn.renumbered(window.row_N)
