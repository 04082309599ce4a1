"""Indexes and banks of pairs, and drawing bags of them; see :mod:`homnet.bags.events` for events.

Shape suffixes: N pairs, B bags, K cells of a bag, G groups that bags are drawn from, P homologs,
C chromatids, L positions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from homnet.cohorts.pairs import pairs_of
from homnet.errors import DataError
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOME_INDEX, CHROMOSOMES


@dataclass(frozen=True)
class BagConfig:
    """Size and composition of bags."""

    num_cells: int = 5
    """Number of pairs in a bag, K (the paper's m = 5)."""
    rounds: int = 1
    """Number of uses of each pair per epoch; each round draws different bags."""
    over: Literal["patient", "people"] = "patient"
    """Source of a bag's pairs: one patient, or all people of a hospital (for normal sets with one
    or two cells per person, which allow only artificial abnormalities)."""


_INDEXED: Final = (
    "hospital",
    "patient_id",
    "cell_id",
    "chromosome",
    "band_level",
    "abnormal",
    "kind",
    "homolog",
    "start",
    "stop",
    "size_mb",
    "variant",
    "shown_kind",
    "segment_start_mb",
    "segment_stop_mb",
)
"""Cohort columns used to draw bags and events; :func:`homnet.reader.truth.with_segments` adds the
last three."""
_LENGTHS: Final = ("length_0", "length_1")


@dataclass(frozen=True, kw_only=True)
class PairIndex:
    """The assessable pairs of some patients, without darkness; bags are drawn from it.

    It takes 1/30 of the memory of the pairs, so every process of a cluster can hold the index of a
    whole cohort in the same order and draw the same bags.
    """

    frame: pd.DataFrame
    """One row per pair: hospital, patient_id, cell_id, chromosome (index 0..23), band (index 0..3),
    abnormal, kind, homolog, start, stop, size_mb, variant, and length_0 and length_1, the number of
    samples of each homolog."""
    not_assessed: Mapping[str, int] = field(default_factory=dict)
    """Number of chromosomes per patient excluded for lack of a homolog (mostly a male X or Y)."""

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def length_NP(self) -> NDArray[np.int64]:
        """Samples of each homolog (N, 2): the last position that is not background, plus one."""
        length_NP: NDArray[np.int64] = self.frame[list(_LENGTHS)].to_numpy(np.int64)
        return length_NP

    def numbered(self, *columns: str) -> NDArray[np.int64]:
        """Index (N) of each pair's combination of values, in sorted order of combinations."""
        return np.asarray(self.frame.groupby(list(columns), sort=True).ngroup(), np.int64)

    @classmethod
    def from_table(cls, table: pa.Table) -> "PairIndex":
        """Makes an index from the output of :func:`index_table`.

        Pairs without a second homolog are counted and excluded. Rows are sorted by hospital,
        patient, chromosome and cell, so the index does not depend on the order of reading.

        Raises:
            DataError: no pair is left.
        """
        frame, not_assessed, _ = _arranged(table)
        return PairIndex(frame=frame, not_assessed=not_assessed)

    def of_patients(self, patients: Iterable[str]) -> Self:
        """The pairs of some patients.

        Raises:
            DataError: there are no such pairs.
        """
        wanted = set(patients)
        keep = self.frame["patient_id"].isin(list(wanted)).to_numpy()
        left_out = {p: n for p, n in self.not_assessed.items() if p in wanted}
        return replace(self._where(keep), not_assessed=left_out)

    def normal(self) -> Self:
        """The structurally normal pairs, to which artificial abnormalities are applied.

        Raises:
            DataError: there are no such pairs.
        """
        return self._where(~self.frame["abnormal"].to_numpy())

    def rows(self, row_N: NDArray[np.int64]) -> "PairIndex":
        """The given rows; ``not_assessed`` is empty."""
        return PairIndex(frame=self.frame.iloc[row_N].reset_index(drop=True))

    def _where(self, keep: NDArray[np.bool_]) -> Self:
        if not keep.any():
            raise DataError(
                "no pair is left: the chosen patients have none with both homologs, or none normal"
            )
        return replace(self, frame=self.frame[keep].reset_index(drop=True))


@dataclass(frozen=True, kw_only=True)
class PairBank(PairIndex):
    """Pairs in memory: an index with the darkness of every pair."""

    pair_NPCL: NDArray[np.uint8]
    """Darkness (N, 2, 2, 512)."""

    @classmethod
    def from_table(cls, table: pa.Table) -> "PairBank":
        """Makes a bank from a cohort table; see :meth:`PairIndex.from_table`.

        Raises:
            DataError: no pair is left.
        """
        frame, not_assessed, order = _arranged(index_table(table))
        return PairBank(frame=frame, not_assessed=not_assessed, pair_NPCL=pairs_of(table)[order])

    @property
    def index(self) -> PairIndex:
        """The index of the bank, without darkness."""
        return PairIndex(frame=self.frame, not_assessed=self.not_assessed)

    def _where(self, keep: NDArray[np.bool_]) -> Self:
        return replace(super()._where(keep), pair_NPCL=self.pair_NPCL[keep])


def index_table(table: pa.Table) -> pa.Table:
    """Replaces the pairs of a cohort table by their lengths, and drops columns unused by bags.

    Args:
        table: rows of a cohort.

    Returns:
        The columns of :class:`PairIndex`, with chromosome and band level as in the cohort.
    """
    filled_NPL: NDArray[np.bool_] = np.asarray(pairs_of(table).any(axis=2))
    length_NP = filled_NPL.shape[-1] - filled_NPL[..., ::-1].argmax(axis=-1)
    length_NP = np.where(filled_NPL.any(axis=-1), length_NP, 0)
    slim = table.select([name for name in _INDEXED if name in table.column_names])
    for homolog, name in enumerate(_LENGTHS):
        slim = slim.append_column(name, pa.array(length_NP[:, homolog].astype(np.int16)))
    return slim


def _arranged(table: pa.Table) -> tuple[pd.DataFrame, dict[str, int], NDArray[np.int64]]:
    """Returns the sorted assessable rows, excluded chromosomes by patient, and original rows."""
    frame = table.to_pandas()
    frame["chromosome"] = frame["chromosome"].map(CHROMOSOME_INDEX).astype(np.int64)
    frame["band"] = frame.pop("band_level").map({b: i for i, b in enumerate(BAND_LEVELS)})
    assessed_N = frame["length_1"].to_numpy() > 0
    single = frame["patient_id"][~assessed_N].value_counts()
    frame = frame[assessed_N].sort_values(
        ["hospital", "patient_id", "chromosome", "cell_id"], kind="stable"
    )
    if frame.empty:
        raise DataError("no pair with both homologs is left; nothing can be assessed")
    not_assessed = {str(patient): int(count) for patient, count in single.items()}
    return frame.reset_index(drop=True), not_assessed, frame.index.to_numpy()


@dataclass(frozen=True)
class Bags:
    """Bags as rows of a bank. The first axis of every array is B."""

    row_BK: NDArray[np.int64]
    """Rows of the bank; 0 without meaning where ``mask_BK`` is false."""
    mask_BK: NDArray[np.bool_]
    """True where there is a pair, false at padding."""
    chromosome_B: NDArray[np.int64]
    """Index of the chromosome type, 0..23."""

    def __len__(self) -> int:
        return len(self.row_BK)

    def take(self, index: Any) -> Self:
        """Selects bags by index or slice."""
        return replace(self, **{name: value[index] for name, value in vars(self).items()})

    def describe(self, bank: PairIndex) -> pd.DataFrame:
        """One row per bag: hospital, patients, chromosome, num_pairs, band_level, and the labels.

        The labels ``abnormal``, ``kind`` and ``size_mb`` are those of the cohort. A bag is abnormal
        if one of its pairs is; its kind is "unspecified" if the cohort does not state it.
        """
        members = bank.frame.iloc[self.row_BK[self.mask_BK]]
        members = members.assign(bag=np.nonzero(self.mask_BK)[0])
        groups = members.groupby("bag", sort=True)
        kind = members[members["abnormal"].to_numpy()].groupby("bag")["kind"].first()
        described = pd.DataFrame(
            {
                "hospital": groups["hospital"].first(),
                "patients": groups["patient_id"].agg(lambda p: sorted(set(p))),
                "chromosome": [CHROMOSOMES[c] for c in self.chromosome_B],
                "num_pairs": self.mask_BK.sum(axis=1),
                "band_level": np.asarray(BAND_LEVELS)[
                    groups["band"].median().astype(int).to_numpy()
                ],
                "abnormal": groups["abnormal"].any(),
                "size_mb": groups["size_mb"].max(),
            }
        )
        described["kind"] = kind.reindex(described.index).fillna("unspecified")
        described.loc[~described["abnormal"], "kind"] = "normal"
        return described.reset_index(drop=True)


def draw_bags(bank: PairIndex, config: BagConfig, generator: np.random.Generator) -> Bags:
    """Draws the bags of one epoch: every pair is used ``rounds`` times.

    The pairs of a group (one patient or hospital, and one chromosome type) are shuffled and split
    into bags of K. A shorter last bag is filled with other pairs of its group. A group of fewer
    than K pairs gives one padded bag (``mask_BK`` false at padding).

    Args:
        bank: N pairs.
        config: K, rounds and the definition of a group.
        generator: random generator.

    Raises:
        DataError: K or rounds is below 1.
    """
    num_cells = config.num_cells
    if num_cells < 1 or config.rounds < 1:
        raise DataError(f"bags need num_cells and rounds of at least 1, got {config}")
    group_N = _groups(bank, config)
    parts = [_draw_round(group_N, num_cells, generator) for _ in range(config.rounds)]
    row_BK = np.concatenate([row for row, _ in parts])
    mask_BK = np.concatenate([mask for _, mask in parts])
    order = generator.permutation(len(row_BK))
    row_BK, mask_BK = row_BK[order], mask_BK[order]
    chromosome_B = bank.frame["chromosome"].to_numpy()[row_BK[:, 0]]
    return Bags(row_BK, mask_BK, chromosome_B)


def count_bags(bank: PairIndex, config: BagConfig) -> int:
    """The number of bags that :func:`draw_bags` draws."""
    size_G = np.bincount(_groups(bank, config))
    return config.rounds * int((-(-size_G // config.num_cells)).sum())


def _groups(bank: PairIndex, config: BagConfig) -> NDArray[np.int64]:
    """Index (N) of each pair's group; a bag has pairs of one group."""
    if config.over == "people":
        return bank.numbered("hospital", "chromosome")
    return bank.numbered("hospital", "patient_id", "chromosome")


def _draw_round(
    group_N: NDArray[np.int64], num_cells: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    shuffled_N = np.lexsort((generator.random(len(group_N)), group_N))
    size_G = np.bincount(group_N)
    first_G = np.concatenate([[0], np.cumsum(size_G)[:-1]])
    bags_G = -(-size_G // num_cells)
    group_B = np.repeat(np.arange(len(size_G)), bags_G)
    number_B = np.arange(len(group_B)) - np.repeat(np.cumsum(bags_G) - bags_G, bags_G)
    size_B = size_G[group_B]
    # The last bag starts earlier to stay within its group, and overlaps with the previous bag.
    begin_B = np.maximum(np.minimum(number_B * num_cells, size_B - num_cells), 0)
    place_BK = begin_B[:, None] + np.arange(num_cells)
    mask_BK = place_BK < size_B[:, None]
    row_BK = shuffled_N[first_G[group_B][:, None] + np.where(mask_BK, place_BK, 0)]
    return np.where(mask_BK, row_BK, 0), mask_BK


def summary(bank: PairIndex) -> Mapping[str, int]:
    """Counts of a bank for a printed table; the last one counts chromosomes."""
    return {
        "patients": int(bank.frame["patient_id"].nunique()),
        "cells": int(bank.frame.groupby(["patient_id", "cell_id"]).ngroups),
        "pairs": len(bank),
        "abnormal pairs": int(bank.frame["abnormal"].sum()),
        "not assessed": sum(bank.not_assessed.values()),
    }
