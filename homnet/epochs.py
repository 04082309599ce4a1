"""Epochs: which bags with which events, from a seed and a number, the same for every worker."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from homnet.abnormality import KINDS, EventConfig, Events, EventTensors, apply_events, draw_events
from homnet.bags import BagConfig, Bags, PairBank, draw_bags
from homnet.bands import FINEST_LEVEL, band_table
from homnet.chromosomes import CHROMOSOMES
from homnet.seeding import generator


@dataclass(frozen=True)
class Epoch:
    """The bags of one epoch in the order in which they are used."""

    bags: Bags
    """B bags."""
    events: Events | None
    """Their artificial events; None where the labels are those of the cohort."""
    label_B: NDArray[np.bool_]
    """True is abnormal."""
    kind_B: NDArray[np.object_]
    """Kind of each bag, ``"normal"`` for the normal ones."""

    def __len__(self) -> int:
        return len(self.bags)

    def describe(self, bank: PairBank) -> pd.DataFrame:
        """One line per bag as of :meth:`homnet.bags.Bags.describe`, with this epoch's labels.

        ``event_fraction`` is the size of an artificial event as a share of the chromosome;
        ``size_mb`` that share in megabases, or what the cohort says. Whole chromosomes
        (Robertsonian, wrong pair) have neither.
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
    bank: PairBank,
    bag_config: BagConfig,
    event_config: EventConfig | None,
    *,
    seed: int,
    epoch: int,
) -> Epoch:
    """Draws an epoch.

    Args:
        bank: pairs; structurally normal ones where artificial events are wanted.
        bag_config: how bags are drawn.
        event_config: artificial events; None takes the labels of the cohort.
        seed: of the run.
        epoch: number of the epoch.

    Raises:
        DataError, ConfigError: see :func:`draw_bags` and :func:`draw_events`.
    """
    bags = draw_bags(bank, bag_config, generator(seed, "bags", epoch))
    if event_config is None:
        described = bags.describe(bank)
        return Epoch(
            bags, None, described["abnormal"].to_numpy(bool), described["kind"].to_numpy(object)
        )
    events = draw_events(bank, bags, event_config, generator(seed, "events", epoch))
    kinds = np.asarray(KINDS, dtype=object)[events.kind_B]
    return Epoch(bags, events, events.abnormal_B, kinds)


@dataclass(frozen=True)
class Batch:
    """Bags as the model takes them, on its device."""

    x_BKPCL: torch.Tensor
    mask_BK: torch.Tensor
    chromosome_B: torch.Tensor
    level_BK: torch.Tensor
    label_B: torch.Tensor


class DeviceBank:
    """A bank on a device as uint8: batches are gathered and corrupted there."""

    def __init__(self, bank: PairBank, device: torch.device | str) -> None:
        self.bank = bank
        self.device = torch.device(device)
        # Copies: a bank's bytes may be a read-only view of shared memory.
        self.level_N = torch.tensor(bank.frame["band"].to_numpy(), device=self.device)
        self.pair_NPCL = torch.tensor(bank.pair_NPCL, device=self.device)

    def load(self, epoch: Epoch) -> "LoadedEpoch":
        """Puts the bags of an epoch on the device; after that a batch needs nothing of the host."""
        return LoadedEpoch(self, epoch)


class LoadedEpoch:
    """The bags of an epoch on the device of their bank."""

    def __init__(self, bank: DeviceBank, epoch: Epoch) -> None:
        self._bank = bank
        bags, device = epoch.bags, bank.device
        self._row_BK = torch.tensor(bags.row_BK, device=device)
        self._mask_BK = torch.tensor(bags.mask_BK, device=device)
        self._chromosome_B = torch.tensor(bags.chromosome_B, device=device)
        self._label_B = torch.tensor(epoch.label_B, dtype=torch.float32, device=device)
        self._events = None if epoch.events is None else EventTensors.of(epoch.events, device)

    def __len__(self) -> int:
        return len(self._row_BK)

    def batch(self, index: slice | NDArray[np.int64]) -> Batch:
        """Assembles some of the bags."""
        chosen: Any = (
            index if isinstance(index, slice) else torch.as_tensor(index).to(self._bank.device)
        )
        row_BK = self._row_BK[chosen]
        pair_NPCL = self._bank.pair_NPCL
        return Batch(
            x_BKPCL=pair_NPCL[row_BK]
            if self._events is None
            else apply_events(pair_NPCL, row_BK, self._events.take(chosen)),
            mask_BK=self._mask_BK[chosen],
            chromosome_B=self._chromosome_B[chosen],
            level_BK=self._bank.level_N[row_BK],
            label_B=self._label_B[chosen],
        )

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All bags in order."""
        for start in range(0, len(self), batch_size):
            yield self.batch(slice(start, start + batch_size))
