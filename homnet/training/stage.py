"""Settings of one training run, and its bags, which are the same on all workers."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from homnet.bags.draw import BagConfig, PairIndex
from homnet.bags.epochs import Epoch, draw_epoch
from homnet.bags.plan import Plan, Window
from homnet.errors import ConfigError, DataError
from homnet.model.checkpoint import patient_digests
from homnet.model.contract import Form
from homnet.training.optimisation import TrainingConfig

P = TypeVar("P", bound=PairIndex)


def require_patients(
    train: frozenset[str], validation: frozenset[str], provenance: Mapping[str, Any]
) -> None:
    """Checks that no patient has two uses, and that the provenance names each with its use.

    Args:
        train: patients to train on.
        validation: patients to validate on.
        provenance: of the checkpoint to be made; one without patients is not compared.

    Raises:
        DataError: one of the checks fails.
    """
    shared = train & validation
    if shared:
        raise DataError(f"patient {min(shared)} is in both training and validation")
    for use, patients in (("learnt_from", train), ("validated_on", validation)):
        unnamed = set(patient_digests(patients)) - set(provenance.get(use, ()))
        if use in provenance and unnamed:
            raise DataError(
                f"{len(unnamed)} patients of the run are missing from '{use}' in its provenance, "
                "by which later tests refuse them"
            )


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
    """Origin recorded in the checkpoint; names its patients, by whom a later test is refused."""

    def __post_init__(self) -> None:
        require_patients(self.train_patients, self.validation_patients, self.provenance)

    def parts(self, pairs: P) -> tuple[P, P]:
        """Training pairs and validation pairs.

        Raises:
            DataError: either set is empty.
        """
        pairs = self.usable(pairs)
        return pairs.of_patients(self.train_patients), pairs.of_patients(self.validation_patients)

    def usable(self, pairs: P) -> P:
        """The pairs that suit the labels.

        Raises:
            DataError: there are none.
        """
        return pairs.normal() if self.training.labels == "artificial" else pairs

    @property
    def validation_bags(self) -> BagConfig:
        """Size and composition of the validation bags."""
        return dataclasses.replace(self.training.bags, rounds=self.training.validation_rounds)

    def windows(self, plan: Plan, epoch: int) -> list[Window]:
        """The windows of one epoch of training, with the parts whose turn it is.

        Raises:
            ConfigError: there are fewer parts than ``epochs_per_pass``.
        """
        size, seed = self.training.window_pairs, self.training.seed
        turns = self.training.epochs_per_pass
        if turns == 1:
            return plan.windows(size, seed=seed, epoch=epoch)
        if turns > len(plan):
            raise ConfigError(
                f"{self.name}: training.epochs_per_pass is {turns}, and the training set has "
                f"{len(plan)} parts; give at most as many"
            )
        # All epochs of a pass share its windows, so that each part has its turn.
        windows = plan.windows(size, seed=seed, epoch=epoch // turns)
        edges = np.cumsum([0, *(len(window.part_Q) for window in windows)])
        return [
            dataclasses.replace(window, part_Q=window.part_Q[(epoch - first) % turns :: turns])
            for window, first in zip(windows, edges, strict=False)
        ]

    def first_window(self, plan: Plan) -> Window:
        """The first window of a run with all its parts, not only those of the first epoch's turn.

        The model's template is measured on it.
        """
        size, seed = self.training.window_pairs, self.training.seed
        return plan.windows(size, seed=seed, epoch=0)[0]

    def num_bags(self, plan: Plan, epoch: int) -> int:
        """Number of bags in one epoch of training."""
        return sum(int(plan.bags_Q[w.part_Q].sum()) for w in self.windows(plan, epoch))

    def order(self, plan: Plan, window: Window, epoch: int) -> NDArray[np.int64]:
        """The bags (B) of a window in their order of use, as numbers in the order of drawing."""
        return plan.order(window, seed=self.training.seed, epoch=epoch)

    def steps(self, plan: Plan, windows: list[Window]) -> list[int]:
        """Number of global batches of each window."""
        bags = (int(plan.bags_Q[window.part_Q].sum()) for window in windows)
        return [-(-count // self.training.batch_size) for count in bags]

    def train_epoch(
        self, index: PairIndex, epoch: int, parts: NDArray[np.int64] | None = None
    ) -> Epoch:
        """Training bags of an epoch, part by part.

        Args:
            index: training pairs, from :meth:`parts`.
            epoch: number of the epoch.
            parts: places of the parts to draw, in ``index.codes``; all by default.
        """
        return self._draw(index, self.training.bags, self.training.seed, epoch, parts)

    def validation_epoch(self, index: PairIndex, parts: NDArray[np.int64] | None = None) -> Epoch:
        """The fixed set of validation bags, part by part; see :meth:`train_epoch`."""
        return self._draw(index, self.validation_bags, self.training.seed + 1, 0, parts)

    def require_classes(self, label_B: NDArray[np.bool_]) -> None:
        """Checks the labels of all validation bags.

        Raises:
            DataError: all bags have the same class.
        """
        if label_B.all() or not label_B.any():
            raise DataError(
                f"{self.name}: the validation bags are all of one class, so nothing can be "
                "validated; give more validation patients or another split seed"
            )

    def require_validation(self, pairs: PairIndex) -> None:
        """Checks before a training that it can be validated.

        Args:
            pairs: at least the pairs of its training and validation patients.

        Raises:
            DataError: it lacks pairs, or all validation bags have the same class.
        """
        _, validation = self.parts(pairs)
        self.require_classes(self.validation_epoch(validation).label_B)

    def _draw(
        self,
        index: PairIndex,
        bags: BagConfig,
        seed: int,
        epoch: int,
        parts: NDArray[np.int64] | None,
    ) -> Epoch:
        config = self.training
        events = config.events if config.labels == "artificial" else None
        return draw_epoch(index, bags, events, seed=seed, epoch=epoch, parts=parts)
