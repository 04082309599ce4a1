"""Lessons of a reader: bags with their truth, in which random cells are hidden.

The truth comes from a cohort (simulated people with abnormalities) or from artificial
abnormalities in normal pairs.

Shape suffixes: B bags, K cells.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import Batch, DeviceBank, Epoch, draw_epoch
from homnet.bags.events import EventConfig
from homnet.errors import ConfigError, DataError
from homnet.karyotype.kinds import NO_ABNORMALITY
from homnet.reader.truth import KIND_CODE, Targets
from homnet.seeding import generator
from homnet.training.optimisation import TrainingConfig


@dataclass(frozen=True)
class ReaderTraining:
    """Settings for training a reader."""

    optimiser: TrainingConfig = TrainingConfig(
        learning_rate=2e-3,
        batch_size=32,
        max_epochs=2,
        schedule="cosine",
        weight_decay=0.01,
        averaging=0.98,
        labels="cohort",
        bags=BagConfig(num_cells=5),
        events=EventConfig(min_fraction=0.05),
        validation_rounds=1,
    )
    """Optimizer, schedule and batches, and whether labels are the cohort's own abnormalities or
    artificial ones in its normal pairs. There is no early stopping; precision, compile,
    checkpoint_steps, window_pairs and epochs_per_pass have no effect."""
    max_normal_share: float = 0.4
    """Maximum share of normal bags in an epoch; cohorts have far more."""
    fewest_cells: int = 1
    """Minimum number of cells kept per bag; the number is random, so that all sizes are trained."""

    def __post_init__(self) -> None:
        if not 0 < self.max_normal_share < 1:
            raise ConfigError(f"max_normal_share must be in (0, 1), got {self.max_normal_share}")
        if not 1 <= self.fewest_cells <= self.optimiser.bags.num_cells:
            raise ConfigError(
                f"fewest_cells must be 1..{self.optimiser.bags.num_cells}, got {self.fewest_cells}"
            )

    def for_validation(self) -> Self:
        """The same settings for validation bags, in which no cell is hidden."""
        settings = self.optimiser
        bags = dataclasses.replace(settings.bags, rounds=settings.validation_rounds)
        return dataclasses.replace(
            self,
            optimiser=dataclasses.replace(settings, bags=bags),
            fewest_cells=settings.bags.num_cells,
        )


@dataclass(frozen=True)
class Lessons:
    """Bags with their truth."""

    epoch: Epoch
    targets: Targets

    def __len__(self) -> int:
        return len(self.epoch)

    def take(self, index: NDArray[np.int64]) -> "Lessons":
        """Some of the bags."""
        return Lessons(self.epoch.take(index), self.targets.take(index))


def draw_lessons(bank: PairBank, training: ReaderTraining, number: int, seed: int) -> Lessons:
    """Draws the bags of an epoch, drops some of the normal ones, and hides random cells.

    Args:
        bank: pairs; only normal ones if abnormalities are artificial.
        training: settings of bags and abnormalities.
        number: number of the epoch.
        seed: seed of the run.

    Raises:
        DataError: no bag is abnormal.
    """
    settings = training.optimiser
    events = settings.events if settings.labels == "artificial" else None
    epoch = draw_epoch(bank, settings.bags, events, seed=seed, epoch=number)
    draw = generator(seed, "lessons", number)
    abnormal = np.nonzero(epoch.label_B)[0]
    if not len(abnormal):
        raise DataError(
            f"none of the bags of {bank.frame['patient_id'].nunique()} patients is abnormal, so a "
            "reader can neither learn from them nor be calibrated on them; give more patients with "
            "an abnormality or another split seed"
        )
    normal = np.nonzero(~epoch.label_B)[0]
    share = training.max_normal_share
    most = math.ceil(len(abnormal) * share / (1 - share))
    chosen = draw.permutation(np.concatenate([abnormal, draw.permutation(normal)[:most]]))
    lessons = Lessons(epoch, Targets.of(epoch, bank)).take(chosen)
    return _with_hidden_cells(lessons, training.fewest_cells, draw)


def _with_hidden_cells(lessons: Lessons, fewest: int, draw: np.random.Generator) -> Lessons:
    bags, targets = lessons.epoch.bags, lessons.targets
    most = bags.mask_BK.shape[1]
    wanted_B = draw.integers(fewest, most + 1, len(lessons))
    rank_BK = np.where(bags.mask_BK, draw.random(bags.mask_BK.shape), 2.0)
    place_BK = rank_BK.argsort(axis=1).argsort(axis=1)
    mask_BK: NDArray[np.bool_] = np.asarray(bags.mask_BK & (place_BK < wanted_B[:, None]))
    abnormal_BK: NDArray[np.bool_] = np.asarray(targets.abnormal_BK & mask_BK)
    # If only normal cells of a mosaic are left, the bag is normal.
    nothing_B: NDArray[np.bool_] = np.asarray(
        targets.abnormal_BK.any(axis=1) & ~abnormal_BK.any(axis=1)
    )
    kind_B = np.where(nothing_B, KIND_CODE[NO_ABNORMALITY], targets.kind_B)
    segment_B2 = np.where(nothing_B[:, None], np.nan, targets.segment_B2)
    return Lessons(
        dataclasses.replace(lessons.epoch, bags=dataclasses.replace(bags, mask_BK=mask_BK)),
        dataclasses.replace(targets, kind_B=kind_B, segment_B2=segment_B2, abnormal_BK=abnormal_BK),
    )


def batches(lessons: Lessons, bank: DeviceBank, batch_size: int) -> Iterator[tuple[Batch, Targets]]:
    """Batches of bags on the device of ``bank``, with their truth."""
    loaded = bank.load(lessons.epoch)
    for start in range(0, len(lessons), batch_size):
        part = slice(start, start + batch_size)
        yield loaded.batch(part), lessons.targets.take(part)
