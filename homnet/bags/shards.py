"""Who holds which pairs: patients by worker, and windows of patients that pass through memory.

Bags are drawn from the index, which every worker holds whole; the darkness of the pairs is held by
the worker that owns the patient. An epoch is cut into *windows* of patients when there are more
pairs than one window may have, and bags and batches stay inside a window. Windows depend on the
seed, the epoch and the index, not on the workers: any number of them sees the same bags.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from homnet.bags.draw import BagConfig, PairBank, PairIndex
from homnet.bags.epochs import DeviceBank, Epoch
from homnet.cohorts.pairs import PAIR_BYTES
from homnet.errors import DataError

_GIB: Final = 2**30


class PairSource(Protocol):
    """Where workers get pairs from."""

    @property
    def index(self) -> PairIndex:
        """All pairs there are."""

    def banks(self, groups: Sequence[frozenset[str]]) -> Iterator[PairBank]:
        """The pairs of each group of patients, one group after the other.

        Only the group in use and the next one need to be in memory.
        """


class MemorySource:
    """Pairs that are in memory already."""

    def __init__(self, bank: PairBank) -> None:
        self._bank = bank

    @property
    def index(self) -> PairIndex:
        """All pairs there are."""
        return self._bank.index

    def banks(self, groups: Sequence[frozenset[str]]) -> Iterator[PairBank]:
        """The pairs of each group of patients."""
        return (self._bank.of_patients(group) for group in groups)


@dataclass(frozen=True)
class Window:
    """Patients whose pairs are in memory together."""

    number: int
    """Place in its epoch."""
    patients: frozenset[str]
    """Who."""
    row_N: NDArray[np.int64]
    """Their rows of the index, ascending."""


def windows(index: PairIndex, max_pairs: int, generator: np.random.Generator) -> list[Window]:
    """Cuts an index into windows of whole patients, in random order.

    Args:
        index: all pairs of the epoch.
        max_pairs: pairs of a window; a patient who has more is a window alone.
        generator: all randomness; not used when everything fits into one window.
    """
    if len(index) <= max_pairs:
        everybody = frozenset(index.frame["patient_id"])
        return [Window(0, everybody, np.arange(len(index)))]
    code_N, names = _patients(index)
    size_P = np.bincount(code_N)
    order = generator.permutation(len(names))
    window_P, number, filled = np.zeros(len(names), np.int64), 0, 0
    for patient in order:
        if filled and filled + size_P[patient] > max_pairs:
            number, filled = number + 1, 0
        window_P[patient] = number
        filled += size_P[patient]
    window_N = window_P[code_N]
    return [
        Window(w, frozenset(names[window_P == w]), np.nonzero(window_N == w)[0])
        for w in range(number + 1)
    ]


def shards(index: PairIndex, num_workers: int) -> list[frozenset[str]]:
    """Patients of each worker, disjoint, about equally many pairs each.

    The patient with most pairs goes first, always to the worker that has fewest.
    """
    code_N, names = _patients(index)
    size_P = np.bincount(code_N)
    held: list[list[str]] = [[] for _ in range(num_workers)]
    load = [(0, worker) for worker in range(num_workers)]
    for patient in np.argsort(-size_P, kind="stable"):
        pairs, worker = heapq.heappop(load)
        held[worker].append(str(names[patient]))
        heapq.heappush(load, (pairs + int(size_P[patient]), worker))
    return [frozenset(patients) for patients in held]


@dataclass(frozen=True)
class Residency:
    """How the workers of a run hold its pairs."""

    split: bool
    """Whether each patient is held by one worker; else each worker holds everybody, because bags
    mix people."""
    resident: bool
    """Whether a worker's pairs stay on its device; else they pass through it window by window."""

    @classmethod
    def of(
        cls, num_pairs: int, bags: BagConfig, *, num_workers: int, memory_gib: float
    ) -> "Residency":
        """Decides from sizes.

        Args:
            num_pairs: of training and validation together.
            bags: how bags are drawn.
            num_workers: of the run.
            memory_gib: what one worker may hold of pairs.
        """
        split = bags.over == "patient"
        share = num_pairs / (num_workers if split else 1)
        return cls(split=split, resident=share * PAIR_BYTES <= memory_gib * _GIB)

    def describe(self, num_pairs: int, window_pairs: int, num_workers: int) -> str:
        """What was decided, for a log."""
        size = f"{num_pairs:,} pairs ({num_pairs * PAIR_BYTES / _GIB:.2f} GiB)"
        whose = "its patients'" if self.split and num_workers > 1 else "all"
        if self.resident:
            return f"{size}: each of {num_workers} workers keeps {whose} pairs on its device"
        return (
            f"{size}: each of {num_workers} workers streams {whose} pairs in windows of "
            f"{window_pairs:,}"
        )


class Shard:
    """The part of an index that one worker holds, on its device."""

    def __init__(
        self,
        source: PairSource,
        index: PairIndex,
        *,
        residency: Residency,
        rank: int,
        world: int,
        device: torch.device,
    ) -> None:
        """Prepares reading; nothing is read yet.

        Args:
            source: where pairs come from; may hold more than the index.
            index: the pairs that bags number.
            residency: who holds what.
            rank: of this worker.
            world: number of workers.
            device: of this worker.
        """
        self._source, self._index, self._device = source, index, device
        self._resident = residency.resident
        self._world = world
        self._worker_N: NDArray[np.int64] | None = None
        self._patients = frozenset(index.frame["patient_id"])
        if residency.split:
            of_workers = shards(index, world)
            worker_of = {name: w for w, names in enumerate(of_workers) for name in names}
            worker_N = index.frame["patient_id"].map(worker_of)
            self._worker_N = np.asarray(worker_N, np.int64)
            self._patients = of_workers[rank]
        self._kept: DeviceBank | None = None

    def worker_of_bags(self, epoch: Epoch) -> NDArray[np.int64]:
        """Which worker each bag (B) of an epoch belongs to."""
        if self._worker_N is None:
            return np.arange(len(epoch)) % self._world
        return self._worker_N[epoch.bags.row_BK[:, 0]]

    def banks(self, parts: Sequence[Window]) -> Iterator[DeviceBank | None]:
        """This worker's pairs of each window on its device; None where it has none.

        Raises:
            DataError: the source does not give what the index says.
        """
        if not self._resident:
            yield from self._read([self._patients & part.patients for part in parts])
            return
        if self._kept is None and self._patients:
            (self._kept,) = self._read([self._patients])
        for _ in parts:
            yield self._kept

    def once(self, parts: Sequence[Window]) -> Iterator[DeviceBank]:
        """Every pair of this worker once, bank by bank."""
        # Pairs that stay are all in one bank, which every window gets.
        banks = self.banks(parts[:1] if self._resident else parts)
        return (bank for bank in banks if bank is not None)

    def _read(self, groups: Sequence[frozenset[str]]) -> Iterator[DeviceBank | None]:
        banks = self._source.banks([group for group in groups if group])
        for group in groups:
            yield self._placed(next(banks), group) if group else None

    def _placed(self, bank: PairBank, patients: frozenset[str]) -> DeviceBank:
        frame = self._index.frame
        row_N = np.nonzero(frame["patient_id"].isin(list(patients)).to_numpy())[0]
        wanted = frame.iloc[row_N]
        if not wanted["abnormal"].any():  # an index of normal pairs
            bank = bank.normal()
        same = len(bank) == len(row_N) and all(
            np.array_equal(bank.frame[key], wanted[key])
            for key in ("patient_id", "cell_id", "chromosome")
        )
        if not same:
            raise DataError("the cohort was changed while it was read; make it again")
        return DeviceBank(bank, self._device, row_N)


def _patients(index: PairIndex) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Number of each pair's patient, and the patients by number."""
    names, code_N = np.unique(index.frame["patient_id"].to_numpy(object), return_inverse=True)
    return code_N, names
