"""Epochs: which bags with which events, from a seed and a number, the same for every worker."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from homnet.abnormality import KINDS, EventConfig, Events, EventTensors, apply_events, draw_events
from homnet.bags import BagConfig, Bags, PairBank, draw_bags
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
        self._level_N = torch.tensor(bank.frame["band"].to_numpy(), device=self.device)
        self._pair_NPCL = torch.tensor(bank.pair_NPCL, device=self.device)

    def batch(self, epoch: Epoch, index: slice | NDArray[np.int64]) -> Batch:
        """Assembles some bags of an epoch."""
        bags = epoch.bags.take(index)
        row_BK = torch.as_tensor(bags.row_BK).to(self.device)
        if epoch.events is None:
            x_BKPCL = self._pair_NPCL[row_BK]
        else:
            events = EventTensors.of(epoch.events.take(index), self.device)
            x_BKPCL = apply_events(self._pair_NPCL, row_BK, events)
        return Batch(
            x_BKPCL=x_BKPCL,
            mask_BK=torch.as_tensor(bags.mask_BK).to(self.device),
            chromosome_B=torch.as_tensor(bags.chromosome_B).to(self.device),
            level_BK=self._level_N[row_BK],
            label_B=torch.tensor(epoch.label_B[index], dtype=torch.float32, device=self.device),
        )

    def batches(self, epoch: Epoch, batch_size: int) -> Iterator[Batch]:
        """All bags of an epoch in order."""
        for start in range(0, len(epoch), batch_size):
            yield self.batch(epoch, slice(start, start + batch_size))
