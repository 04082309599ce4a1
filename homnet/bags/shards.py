"""Distribution of pairs over workers, and windows of patients for streaming.

Every worker holds the whole index, from which bags are drawn. The darkness of a pair is held by the
worker of its patient. An epoch with more pairs than fit into one window is split into *windows* of
patients; bags and batches stay within a window. Windows depend on the seed, the epoch and the
index, so any number of workers gets the same bags.
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
    """Source of the workers' pairs."""

    @property
    def index(self) -> PairIndex:
        """Index of all pairs."""

    def banks(self, groups: Sequence[frozenset[str]]) -> Iterator[PairBank]:
        """Pairs of each group of patients, in order; needs only this and the next in memory."""


class MemorySource:
    """Source of pairs that are already in memory."""

    def __init__(self, bank: PairBank) -> None:
        self._bank = bank

    @property
    def index(self) -> PairIndex:
        """Index of all pairs."""
        return self._bank.index

    def banks(self, groups: Sequence[frozenset[str]]) -> Iterator[PairBank]:
        """The pairs of each group of patients."""
        return (self._bank.of_patients(group) for group in groups)


@dataclass(frozen=True)
class Window:
    """Patients whose pairs are in memory together."""

    number: int
    """Number within the epoch."""
    patients: frozenset[str]
    """Ids of the patients."""
    row_N: NDArray[np.int64]
    """Rows of their pairs in the index, ascending."""


def windows(index: PairIndex, max_pairs: int, generator: np.random.Generator) -> list[Window]:
    """Splits an index into windows of whole patients, in random order.

    Args:
        index: all pairs of the epoch.
        max_pairs: maximum size of a window; a patient with more pairs is alone in a window.
        generator: random generator; unused if all pairs fit into one window.
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
    """Patients of each worker, disjoint, with about equal numbers of pairs.

    Patients are assigned in descending order of pairs, each to the worker with the fewest pairs.
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
    """Distribution and storage of a run's pairs over its workers."""

    split: bool
    """Whether one worker holds each patient; else bags mix people and all workers hold all."""
    resident: bool
    """Whether a worker's pairs stay on its device; else they are streamed in windows."""

    @classmethod
    def of(
        cls, num_pairs: int, bags: BagConfig, *, num_workers: int, memory_gib: float
    ) -> "Residency":
        """Chooses the residency by size.

        Args:
            num_pairs: number of training and validation pairs.
            bags: composition of bags.
            num_workers: number of workers of the run.
            memory_gib: memory limit for the pairs of one worker, in GiB.
        """
        split = bags.over == "patient"
        share = num_pairs / (num_workers if split else 1)
        return cls(split=split, resident=share * PAIR_BYTES <= memory_gib * _GIB)

    def describe(self, num_pairs: int, window_pairs: int, num_workers: int) -> str:
        """One line for a log."""
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
        """Assigns patients to workers; reads no pairs.

        Args:
            source: source of pairs; may have more than the index.
            index: pairs that the rows of bags refer to.
            residency: distribution of pairs.
            rank: rank of this worker.
            world: number of workers.
            device: device of this worker.
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
        """Rank (B) of the worker of each bag of an epoch."""
        if self._worker_N is None:
            return np.arange(len(epoch)) % self._world
        return self._worker_N[epoch.bags.row_BK[:, 0]]

    def banks(self, parts: Sequence[Window]) -> Iterator[DeviceBank | None]:
        """This worker's pairs of each window, on its device; None for windows without any.

        Raises:
            DataError: the pairs of the source do not match the index.
        """
        if not self._resident:
            yield from self._read([self._patients & part.patients for part in parts])
            return
        if self._kept is None and self._patients:
            (self._kept,) = self._read([self._patients])
        for _ in parts:
            yield self._kept

    def once(self, parts: Sequence[Window]) -> Iterator[DeviceBank]:
        """Every pair of this worker once, in one or more banks."""
        # Resident pairs are all in one bank, shared by all windows.
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
    """Patient index (N) of each pair, and the sorted patient ids."""
    names, code_N = np.unique(index.frame["patient_id"].to_numpy(object), return_inverse=True)
    return code_N, names
