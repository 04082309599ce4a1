"""Epochs: bags and events, determined by seed and epoch number, the same for every worker.

Shape suffixes: N pairs, B bags, K cells of a bag, P homologs, C chromatids, L positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from homnet.bags.draw import BagConfig, Bags, PairBank, PairIndex, draw_bags
from homnet.bags.events import EventConfig, Events, EventTensors, apply_events, draw_events
from homnet.cohorts.pairs import PAIR_SHAPE
from homnet.errors import DataError
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.karyotype.kinds import ARTIFICIAL
from homnet.seeding import generator


@dataclass(frozen=True)
class Epoch:
    """The bags of one epoch, in order of use."""

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

    def renumbered(self, row_N: NDArray[np.int64]) -> Self:
        """The same bags in a larger index, where row i becomes row ``row_N[i]``."""
        events = self.events
        if events is not None:
            events = replace(events, donor_row_BK=row_N[events.donor_row_BK])
        return replace(self, bags=replace(self.bags, row_BK=row_N[self.bags.row_BK]), events=events)

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
    window: int = 0,
) -> Epoch:
    """Draws an epoch, or one window of it.

    Args:
        bank: pairs; all structurally normal if events are artificial.
        bag_config: size and composition of bags.
        event_config: artificial events; None to use the labels of the cohort.
        seed: seed of the run.
        epoch: number of the epoch.
        window: number of the window, if ``bank`` has only some of the epoch's patients.

    Raises:
        DataError, ConfigError: see :func:`draw_bags` and :func:`draw_events`.
    """
    part = (epoch, "window", window) if window else (epoch,)
    bags = draw_bags(bank, bag_config, generator(seed, "bags", *part))
    if event_config is None:
        described = bags.describe(bank)
        return Epoch(
            bags, None, described["abnormal"].to_numpy(bool), described["kind"].to_numpy(object)
        )
    events = draw_events(bank, bags, event_config, generator(seed, "events", *part))
    kinds = np.asarray(ARTIFICIAL, dtype=object)[events.kind_B]
    return Epoch(bags, events, events.abnormal_B, kinds)


@dataclass(frozen=True)
class Batch:
    """Model inputs of some bags, on the model's device; see :meth:`HomNet.forward`."""

    x_BKPCL: torch.Tensor
    mask_BK: torch.Tensor
    chromosome_B: torch.Tensor
    level_BK: torch.Tensor
    label_B: torch.Tensor
    """Float; 1 is abnormal."""


class DeviceBank:
    """A bank on a device as uint8; batches are gathered and events applied there."""

    def __init__(
        self,
        bank: PairBank,
        device: torch.device | str,
        row_N: NDArray[np.int64] | None = None,
    ) -> None:
        """Moves a bank to a device.

        Args:
            bank: pairs.
            device: target device.
            row_N: ascending rows of the bank's pairs in a larger index, if epochs refer to rows of
                that index. By default they refer to rows of the bank.
        """
        self.device = torch.device(device)
        self._row_N = row_N
        self.level_N = torch.tensor(bank.frame["band"].to_numpy(), device=self.device)
        self.chromosome_N = torch.tensor(bank.frame["chromosome"].to_numpy(), device=self.device)
        # Copies: the bank may be a read-only view of shared memory.
        self.pair_NPCL = torch.tensor(bank.pair_NPCL, device=self.device)

    def load(self, epoch: Epoch, chosen: NDArray[np.int64] | None = None) -> "LoadedEpoch":
        """Moves bags of an epoch to the device; batches then need no data from the host.

        Args:
            epoch: the epoch.
            chosen: indices of the bags to load; all by default.

        Raises:
            DataError: a pair of these bags is not in this bank.
        """
        if chosen is not None:
            events = None if epoch.events is None else epoch.events.take(chosen)
            epoch = Epoch(
                epoch.bags.take(chosen), events, epoch.label_B[chosen], epoch.kind_B[chosen]
            )
        if self._row_N is not None:
            epoch = self._local(epoch, self._row_N)
        return LoadedEpoch(self, epoch)

    @staticmethod
    def _local(epoch: Epoch, row_N: NDArray[np.int64]) -> Epoch:
        """The epoch with rows of the bank instead of rows of the index."""
        local = np.full(int(row_N[-1]) + 1, -1)
        local[row_N] = np.arange(len(row_N))
        bags, events = epoch.bags, epoch.events

        def found(row_BK: NDArray[np.int64], needed_BK: NDArray[np.bool_]) -> NDArray[np.int64]:
            # Padding may refer to rows of any patient: replace them by a row of the bank.
            row_BK = np.where(needed_BK, row_BK, row_N[0])
            place_BK: NDArray[np.int64] = local[np.minimum(row_BK, len(local) - 1)]
            if (place_BK < 0).any() or row_BK.max(initial=0) >= len(local):
                raise DataError("bags need pairs that this part of the cohort does not hold")
            return place_BK

        if events is not None:
            donor_row_BK = found(events.donor_row_BK, bags.mask_BK)
            events = replace(events, donor_row_BK=donor_row_BK)
        return replace(
            epoch, bags=replace(bags, row_BK=found(bags.row_BK, bags.mask_BK)), events=events
        )


class LoadedEpoch:
    """Bags of an epoch on the device of their bank."""

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
        """Gathers bags by slice or index."""
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
