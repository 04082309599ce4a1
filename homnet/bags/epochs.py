"""Epochs: bags and events, determined by seed and epoch number.

Shape suffixes: N pairs, B bags, K cells of a bag, P homologs, C chromatids, L positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from homnet.bags.draw import BagConfig, Bags, PairBank, PairIndex, draw_bags
from homnet.bags.events import EventConfig, Events, EventTensors, apply_events, draw_events
from homnet.cohorts.pairs import PAIR_SHAPE
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.karyotype.kinds import ARTIFICIAL

_KIND_NAMES: Final = np.asarray(ARTIFICIAL, dtype=object)


@dataclass(frozen=True)
class Epoch:
    """The bags of one epoch, or of some parts of it."""

    bags: Bags
    """B bags."""
    events: Events | None
    """Artificial events of the bags; None if the labels are those of the cohort."""
    label_B: NDArray[np.bool_]
    """Whether each bag is abnormal."""
    kind_B: NDArray[np.object_]
    """Kind of each bag, ``"normal"`` for normal bags."""

    def __len__(self) -> int:
        return len(self.bags)

    def take(self, index: Any) -> Self:
        """Some of the bags, by index or slice."""
        events = None if self.events is None else self.events.take(index)
        bags = self.bags.take(index)
        return replace(
            self, bags=bags, events=events, label_B=self.label_B[index], kind_B=self.kind_B[index]
        )

    def describe(self, bank: PairIndex) -> pd.DataFrame:
        """One row per bag, as in :meth:`homnet.bags.draw.Bags.describe`, with this epoch's labels.

        ``event_fraction`` is the size of an artificial event as a share of the chromosome.
        ``size_mb`` is that share in megabases, or the size stated in the cohort. Both are NaN for
        events of whole chromosomes (Robertsonian, wrong pair).
        """
        frame = self.bags.describe(bank)
        frame["abnormal"], frame["kind"] = self.label_B, self.kind_B
        frame["event_fraction"] = np.nan
        if self.events is not None:
            table = band_table(FINEST_LEVEL)
            type_mb = np.array([table[name].length_bp / 1e6 for name in CHROMOSOMES])
            fraction_B = np.where(self.events.fraction_B < 1, self.events.fraction_B, np.nan)
            frame["event_fraction"] = fraction_B
            frame["size_mb"] = fraction_B * type_mb[self.bags.chromosome_B]
        frame.loc[~frame["abnormal"], ["event_fraction", "size_mb"]] = np.nan
        return frame


def draw_epoch(
    bank: PairIndex,
    bag_config: BagConfig,
    event_config: EventConfig | None,
    *,
    seed: int,
    epoch: int,
    parts: NDArray[np.int64] | None = None,
) -> Epoch:
    """Draws an epoch, or some parts of it.

    Args:
        bank: pairs; all structurally normal if events are artificial.
        bag_config: size and composition of bags.
        event_config: artificial events; None to use the labels of the cohort.
        seed: seed of the run.
        epoch: number of the epoch.
        parts: see :func:`homnet.bags.draw.draw_bags`.

    Returns:
        The bags, those of a part after those of the part before.

    Raises:
        DataError, ConfigError: see :func:`draw_bags` and :func:`draw_events`.
    """
    bags = draw_bags(bank, bag_config, seed=seed, epoch=epoch, parts=parts)
    if event_config is None:
        return Epoch(bags, None, *bags.labels(bank))
    events = draw_events(bank, bags, event_config, seed=seed, epoch=epoch)
    return Epoch(bags, events, events.abnormal_B, _KIND_NAMES[events.kind_B])


@dataclass(frozen=True)
class Batch:
    """Model inputs of some bags, on the model's device; see :meth:`HomNet.forward`."""

    x_BKPCL: torch.Tensor
    mask_BK: torch.Tensor
    chromosome_B: torch.Tensor
    level_BK: torch.Tensor
    label_B: torch.Tensor
    """Float; 1 is abnormal."""

    def split(self, num_bags: int) -> "list[Batch]":
        """Cuts the batch into parts of at most this many bags; an empty one is its only part."""
        cut = [value.split(num_bags) for value in vars(self).values()]
        return [Batch(*part) for part in zip(*cut, strict=True)]


class DeviceBank:
    """A bank on a device as uint8; batches are gathered and events applied there."""

    def __init__(self, bank: PairBank, device: torch.device | str) -> None:
        """Moves a bank to a device."""
        self.device = torch.device(device)
        self.level_N = torch.tensor(bank.frame["band"].to_numpy(), device=self.device)
        self.chromosome_N = torch.tensor(bank.frame["chromosome"].to_numpy(), device=self.device)
        # Copies: the bank may be a read-only view of shared memory.
        self.pair_NPCL = torch.tensor(bank.pair_NPCL, device=self.device)

    def load(self, epoch: Epoch) -> "LoadedEpoch":
        """Moves bags of an epoch to the device; batches then need no data from the host."""
        return LoadedEpoch(self, epoch)


class LoadedEpoch:
    """Bags of an epoch on the device of their bank."""

    def __init__(self, bank: DeviceBank, epoch: Epoch) -> None:
        self._bank = bank
        bags, device = epoch.bags, bank.device
        self._row_BK = torch.tensor(bags.row_BK, device=device)
        self._mask_BK = torch.tensor(bags.mask_BK, device=device)
        self._chromosome_B = torch.tensor(bags.chromosome_B, device=device)
        self._label_B = torch.tensor(epoch.label_B, dtype=torch.float32, device=device)
        self._events = None
        if epoch.events is not None:
            self._events = EventTensors.of(epoch.events, device)
            self._donor_BK2 = torch.tensor(epoch.events.donor_BK2, device=device)

    def __len__(self) -> int:
        return len(self._row_BK)

    def batch(self, index: slice | NDArray[np.int64]) -> Batch:
        """Gathers bags by slice or index."""
        chosen: Any = (
            index if isinstance(index, slice) else torch.as_tensor(index).to(self._bank.device)
        )
        row_BK = self._row_BK[chosen]
        pair_NPCL = self._bank.pair_NPCL
        return Batch(
            x_BKPCL=pair_NPCL[row_BK]
            if self._events is None
            else apply_events(
                pair_NPCL, row_BK, self._donor_BK2[chosen], self._events.take(chosen)
            ),
            mask_BK=self._mask_BK[chosen],
            chromosome_B=self._chromosome_B[chosen],
            level_BK=self._bank.level_N[row_BK],
            label_B=self._label_B[chosen],
        )

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All bags in order, in batches; the last one may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.batch(slice(start, start + batch_size))


def empty_batch(num_cells: int, device: torch.device) -> Batch:
    """One bag without pairs, for a worker that has no bag in a global batch."""
    return Batch(
        x_BKPCL=torch.zeros((1, num_cells, *PAIR_SHAPE), dtype=torch.uint8, device=device),
        mask_BK=torch.zeros((1, num_cells), dtype=torch.bool, device=device),
        chromosome_B=torch.zeros(1, dtype=torch.long, device=device),
        level_BK=torch.zeros((1, num_cells), dtype=torch.long, device=device),
        label_B=torch.zeros(1, device=device),
    )
