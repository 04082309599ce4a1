"""The order of an epoch: which files are shuffled together, and which worker has which bags.

An epoch is split into *windows* of whole files, so that each file is read once. The bags of a
window are shuffled together and cut into global batches; a batch is never of two windows. Windows
and their order depend on the seed, the epoch and the plan, but not on the number of workers.

Shape suffixes: Q parts, B bags.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from homnet.bags.draw import BagConfig, PairIndex, count_bags
from homnet.seeding import generator


@dataclass(frozen=True)
class Plan:
    """The parts that a run draws bags from, in the order of the files. It has no pairs."""

    part_Q: NDArray[np.int64]
    """Number of each part, see :func:`homnet.bags.draw.with_parts`."""
    file_Q: NDArray[np.int64]
    """Number of its file."""
    hospital_Q: NDArray[np.object_]
    """Its hospital."""
    pairs_Q: NDArray[np.int64]
    """Number of pairs that are used."""
    bags_Q: NDArray[np.int64]
    """Number of bags in an epoch."""

    @classmethod
    def of(cls, index: PairIndex, config: BagConfig) -> Self:
        """The plan of an index."""
        first_Q = index.codes.edge_Q[:-1]
        return cls(
            part_Q=index.codes.part_Q,
            file_Q=index.frame["file"].to_numpy(np.int64)[first_Q],
            hospital_Q=index.frame["hospital"].to_numpy(object)[first_Q],
            pairs_Q=np.diff(index.codes.edge_Q),
            bags_Q=count_bags(index, config),
        )

    @classmethod
    def concatenate(cls, plans: Sequence[Self]) -> Self:
        """The plan of several files, given the plan of each."""
        names = cls.__dataclass_fields__
        return cls(**{name: np.concatenate([getattr(p, name) for p in plans]) for name in names})

    def __len__(self) -> int:
        return len(self.part_Q)

    @property
    def num_pairs(self) -> int:
        """Number of pairs that are used."""
        return int(self.pairs_Q.sum())

    @property
    def num_bags(self) -> int:
        """Number of bags in an epoch."""
        return int(self.bags_Q.sum())

    def windows(self, max_pairs: int, *, seed: int, epoch: int) -> list["Window"]:
        """Splits an epoch into windows of whole files, in random order.

        Args:
            max_pairs: maximum number of pairs in a window; a larger file is alone in one.
            seed: seed of the run.
            epoch: number of the epoch.
        """
        files, inverse_Q = np.unique(self.file_Q, return_inverse=True)
        size_F = np.bincount(inverse_Q, self.pairs_Q)
        order = np.arange(len(files))
        if self.num_pairs > max_pairs:
            order = generator(seed, "windows", epoch).permutation(len(files))
        groups: list[list[int]] = [[]]
        filled = 0
        for file in order:
            if groups[-1] and filled + size_F[file] > max_pairs:
                groups.append([])
                filled = 0
            groups[-1].append(int(file))
            filled += size_F[file]
        return [
            Window(
                number,
                tuple(int(files[file]) for file in group),
                np.concatenate([np.flatnonzero(inverse_Q == file) for file in group]),
            )
            for number, group in enumerate(groups)
        ]

    def order(self, window: "Window", *, seed: int, epoch: int) -> NDArray[np.int64]:
        """The bags (B) of a window in their order of use, as numbers in the order of drawing."""
        num_bags = int(self.bags_Q[window.part_Q].sum())
        return generator(seed, "order", epoch, window.number).permutation(num_bags)

    def worker_Q(self, num_workers: int) -> NDArray[np.int64]:
        """The worker of each part if pairs stay on the workers: those of a file in turns."""
        start = np.flatnonzero(np.diff(self.file_Q, prepend=-1))
        size = np.diff(start, append=len(self))
        place_Q = np.arange(len(self)) - np.repeat(start, size)
        return (place_Q + np.repeat(np.arange(len(start)), size)) % num_workers


@dataclass(frozen=True)
class Window:
    """Files whose bags are shuffled together."""

    number: int
    """Number within the epoch."""
    files: tuple[int, ...]
    """Numbers of the files, in the order of reading."""
    part_Q: NDArray[np.int64]
    """Places of their parts in the plan, in this order."""
