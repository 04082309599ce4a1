"""Indexes and banks of pairs, and drawing bags of them; see :mod:`homnet.bags.events` for events.

Bags are drawn *part* by part: a part is some consecutive patients of one file of a cohort. Each has
random numbers of its own, so its bags do not depend on which other parts a process draws. Any
number of processes can therefore draw an epoch together.

Shape suffixes: N pairs, B bags, K cells of a bag, G groups that bags are drawn from, Q parts,
P homologs, C chromatids, L positions.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import pairs_of
from homnet.errors import ConfigError, DataError, check_choices
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOME_INDEX, CHROMOSOMES
from homnet.seeding import generator


@dataclass(frozen=True)
class BagConfig:
    """Size and composition of bags."""

    num_cells: int = 5
    """Number of pairs in a bag, K (the paper's m = 5)."""
    rounds: int = 1
    """Number of uses of each pair per epoch; each round draws different bags."""
    over: Literal["patient", "people"] = "patient"
    """Source of a bag's pairs: one patient, or all people of a part (for normal sets with one or
    two cells per person, which allow only artificial abnormalities)."""

    def __post_init__(self) -> None:
        check_choices(self)
        if self.num_cells < 1 or self.rounds < 1:
            raise ConfigError(f"bags need num_cells and rounds of at least 1, got {self}")


PART_PAIRS: Final = 1024
"""Minimum number of pairs in a part (2 MiB), except in the last one of a file."""
_INDEXED: Final = (
    "file",
    "part",
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
    "samples_per_px",
)
"""Columns used to draw bags and events, of a cohort, of :func:`homnet.reader.truth.with_segments`
(shown_kind to segment_stop_mb) and of :func:`with_parts`."""
_LENGTHS: Final = ("length_0", "length_1")
_ORDER: Final = ["hospital", "file", "patient_id", "chromosome", "cell_id"]
"""Order of the rows of an index."""


@dataclass(frozen=True, kw_only=True)
class PairIndex:
    """The assessable pairs of some patients, without darkness; bags are drawn from it."""

    frame: pd.DataFrame
    """One row per pair: file, part and samples_per_px (see :func:`with_parts`), hospital,
    patient_id, cell_id, chromosome (index 0..23), band (index 0..3), abnormal, kind, homolog,
    start, stop, size_mb, variant, and length_0 and length_1, the number of samples of each
    homolog."""
    not_assessed: Mapping[str, int] = field(default_factory=dict)
    """Number of chromosomes per patient excluded for lack of a homolog (mostly a male X or Y)."""

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def codes(self) -> "Codes":
        """What drawing needs of the frame, as arrays."""
        return Codes.of(self.frame)

    @classmethod
    def from_table(cls, table: pa.Table) -> "PairIndex":
        """Makes an index from the output of :func:`index_table`.

        Pairs without a second homolog are counted and excluded. Rows are sorted by hospital, file,
        patient, chromosome and cell, so the index does not depend on the order of reading. A table
        without parts counts as one file per hospital.

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

    def in_parts_of_their_own(self) -> Self:
        """The same pairs, in parts of these people over all files of a hospital.

        Bags over people mix those of a part. The parts of whole files leave few of them to each,
        and bags of fewer pairs than were asked for.
        """
        frame = self.frame.drop(columns="part").assign(file=0).sort_values(_ORDER, kind="stable")
        order = frame.index.to_numpy()
        people = frame[["hospital", "patient_id"]].reset_index(drop=True)
        size = people.groupby(["hospital", "patient_id"]).size()
        left_out = size.index.get_level_values("patient_id").map(self.not_assessed)
        # As many rows as the table had, so that the parts are those of with_parts.
        size = size + left_out.fillna(0).astype(int).to_numpy()
        frame = frame.reset_index(drop=True).assign(part=_parts(people, size))
        return replace(self, frame=frame, pair_NPCL=self.pair_NPCL[order])

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


def rows_of_file(cohort: Cohort, number: int) -> pa.Table:
    """All rows of a file of a cohort, with the columns of :func:`with_parts`.

    Raises:
        CohortError: the file is damaged.
    """
    entry = cohort.files[number]
    return with_parts(cohort.read(entry), number, cohort.scale[entry.hospital])


def with_parts(table: pa.Table, file: int = 0, samples_per_px: float = math.nan) -> pa.Table:
    """Adds the columns ``file``, ``part`` and ``samples_per_px`` to all rows of a file of a cohort.

    A part is named after its first patient, as a number of 63 bits: which other files a cohort has
    does not change it.

    Args:
        table: rows with hospital and patient_id, before any patient is left out.
        file: number of the file in the cohort.
        samples_per_px: scale of its hospital; NaN if it is unknown.
    """
    people = table.select(["hospital", "patient_id"]).to_pandas()
    part = _parts(people, people.groupby(["hospital", "patient_id"]).size())
    for name, value in (("file", file), ("samples_per_px", float(samples_per_px))):
        table = table.append_column(name, pa.array(np.full(table.num_rows, value)))
    return table.append_column("part", pa.array(part.to_numpy(np.int64)))


def _parts(people: pd.DataFrame, size: "pd.Series[int]") -> "pd.Series[int]":
    """Part of each row.

    Args:
        people: hospital and patient_id of each row.
        size: number of rows of each of them, in order.
    """
    named = size.rename("size").reset_index()
    before = named.groupby("hospital")["size"].cumsum() - named["size"]
    first = named.groupby([named["hospital"], before // PART_PAIRS])["patient_id"].transform(
        "first"
    )
    named["part"] = [_part_number(*names) for names in zip(named["hospital"], first, strict=True)]
    return people.merge(named, how="left", on=["hospital", "patient_id"])["part"]


def _part_number(hospital: str, patient: str) -> int:
    name = f"{hospital}/{patient}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Codes:
    """Columns of an index as arrays; the rows of a part are contiguous, those of a person too."""

    type_N: NDArray[np.int64]
    """Index of the chromosome type."""
    person_N: NDArray[np.int64]
    """Number of the person, ascending."""
    cell_N: NDArray[np.int64]
    """Number of the cell."""
    part_N: NDArray[np.int64]
    """Place of the part among those of the index, ascending."""
    length_NP: NDArray[np.int64]
    """Samples of each homolog: the last position that is not background, plus one."""
    abnormal_N: NDArray[np.bool_]
    """Whether the cohort calls the pair abnormal."""
    kind_N: NDArray[np.object_]
    """Kind of the abnormality; "unspecified" if the cohort does not state it."""
    scale_N: NDArray[np.float64]
    """Samples per image pixel; NaN if unknown."""
    part_Q: NDArray[np.int64]
    """Number of each part."""
    edge_Q: NDArray[np.int64]
    """First row of each part, and the number of rows."""

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Self:
        """The codes of an index's frame."""
        part_N, person_N = _runs(frame["part"]), _runs(frame["part"], frame["patient_id"])
        cells = pd.DataFrame({"person": person_N, "cell": frame["cell_id"]})
        edge_Q = np.searchsorted(part_N, np.arange(part_N[-1] + 2))
        return cls(
            type_N=frame["chromosome"].to_numpy(np.int64),
            person_N=person_N,
            cell_N=np.asarray(cells.groupby(["person", "cell"]).ngroup(), np.int64),
            part_N=part_N,
            length_NP=frame[list(_LENGTHS)].to_numpy(np.int64),
            abnormal_N=frame["abnormal"].to_numpy(bool),
            kind_N=frame["kind"].fillna("unspecified").to_numpy(object),
            scale_N=frame["samples_per_px"].to_numpy(np.float64),
            part_Q=frame["part"].to_numpy(np.int64)[edge_Q[:-1]],
            edge_Q=edge_Q,
        )

    @cached_property
    def size_PT(self) -> NDArray[np.int64]:
        """Number of pairs of each person and type."""
        num_types = len(CHROMOSOMES)
        size_X = np.bincount(
            self.person_N * num_types + self.type_N,
            minlength=(self.person_N[-1] + 1) * num_types,
        )
        return size_X.reshape(-1, num_types)

    @cached_property
    def first_PT(self) -> NDArray[np.int64]:
        """First row of each person and type; the others follow."""
        size_X = self.size_PT.ravel()
        return (np.cumsum(size_X) - size_X).reshape(self.size_PT.shape)

    @cached_property
    def row_XT(self) -> NDArray[np.int64]:
        """Row of each cell (X) and type; -1 if the cell lacks the type."""
        row_XT = np.full((self.cell_N.max() + 1, len(CHROMOSOMES)), -1)
        row_XT[self.cell_N, self.type_N] = np.arange(len(self.type_N))
        return row_XT

    def rows(
        self, chosen_Q: NDArray[np.int64] | None, *, normal: bool = False
    ) -> NDArray[np.int64]:
        """Rows of some parts, given by their places in the index, or only their normal pairs.

        None stands for all parts.
        """
        if chosen_Q is None:
            row_N = np.arange(len(self.part_N))
        else:
            runs = [np.arange(self.edge_Q[q], self.edge_Q[q + 1]) for q in chosen_Q]
            row_N = np.concatenate([np.zeros(0, np.int64), *runs])
        return row_N[~self.abnormal_N[row_N]] if normal else row_N


def _runs(*columns: "pd.Series[Any]") -> NDArray[np.int64]:
    """Number (N) of the run of equal rows that each row is in, from 0."""
    changed_N = np.zeros(len(columns[0]), np.bool_)
    for column in columns:
        changed_N[1:] |= np.asarray(column.array[1:] != column.array[:-1], bool)
    return np.cumsum(changed_N)


def _arranged(table: pa.Table) -> tuple[pd.DataFrame, dict[str, int], NDArray[np.int64]]:
    """Returns the sorted assessable rows, excluded chromosomes by patient, and original rows."""
    frame = (table if "part" in table.column_names else with_parts(table)).to_pandas()
    frame["chromosome"] = frame["chromosome"].map(CHROMOSOME_INDEX).astype(np.int64)
    frame["band"] = frame.pop("band_level").map({b: i for i, b in enumerate(BAND_LEVELS)})
    assessed_N = frame["length_1"].to_numpy() > 0
    single = frame["patient_id"][~assessed_N].value_counts()
    frame = frame[assessed_N].sort_values(_ORDER, kind="stable")
    if frame.empty:
        raise DataError("no pair with both homologs is left; nothing can be assessed")
    not_assessed = {str(patient): int(count) for patient, count in single.items()}
    return frame.reset_index(drop=True), not_assessed, frame.index.to_numpy()


class Draws:
    """Random numbers of the bags or pairs of several parts, from one generator per part."""

    def __init__(
        self,
        seed: int,
        purpose: str,
        epoch: int,
        part_Q: NDArray[np.int64],
        size_Q: NDArray[np.int64],
    ) -> None:
        """Starts a generator for each part.

        Args:
            seed: seed of the run.
            purpose: what is drawn.
            epoch: number of the epoch.
            part_Q: number of each part.
            size_Q: number of its bags or pairs, which follow those of the part before.
        """
        edges = np.cumsum([0, *size_Q]).tolist()
        self._size = int(edges[-1])
        self._parts = [
            (generator(seed, purpose, epoch, int(part)), slice(*places))
            for part, places in zip(part_Q, pairwise(edges), strict=True)
        ]

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        """Numbers in [0, 1), of this shape for each bag or pair."""
        x: NDArray[np.float64] = np.empty((self._size, *shape))
        for own, places in self._parts:
            own.random(out=x[places])
        return x

    def normal(self, *shape: int) -> NDArray[np.float64]:
        """Standard normal numbers, of this shape for each bag or pair."""
        x: NDArray[np.float64] = np.empty((self._size, *shape))
        for own, places in self._parts:
            own.standard_normal(out=x[places])
        return x


@dataclass(frozen=True)
class Bags:
    """Bags as rows of a bank. The first axis of every array is B."""

    row_BK: NDArray[np.int64]
    """Rows of the bank; padding repeats the bag's first row."""
    mask_BK: NDArray[np.bool_]
    """True where there is a pair, false at padding."""
    chromosome_B: NDArray[np.int64]
    """Index of the chromosome type, 0..23."""

    def __len__(self) -> int:
        return len(self.row_BK)

    def take(self, index: Any) -> Self:
        """Selects bags by index or slice."""
        return replace(self, **{name: value[index] for name, value in vars(self).items()})

    def labels(self, bank: PairIndex) -> tuple[NDArray[np.bool_], NDArray[np.object_]]:
        """Whether each bag is abnormal (B), as one of its pairs is, and its kind (B) or "normal".

        Both are those of the cohort.
        """
        codes = bank.codes
        abnormal_BK = codes.abnormal_N[self.row_BK] & self.mask_BK
        abnormal_B: NDArray[np.bool_] = np.asarray(abnormal_BK.any(axis=1))
        kind_B = np.full(len(self), "normal", object)
        first_B = abnormal_BK[abnormal_B].argmax(axis=1)
        kind_B[abnormal_B] = codes.kind_N[self.row_BK[abnormal_B, first_B]]
        return abnormal_B, kind_B

    def describe(self, bank: PairIndex) -> pd.DataFrame:
        """One row per bag: hospital, patients, chromosome, num_pairs, band_level, and the labels.

        The labels ``abnormal``, ``kind`` and ``size_mb`` are those of the cohort.
        """
        members = bank.frame.iloc[self.row_BK[self.mask_BK]]
        members = members.assign(bag=np.nonzero(self.mask_BK)[0])
        groups = members.groupby("bag", sort=True)
        abnormal_B, kind_B = self.labels(bank)
        described = pd.DataFrame(
            {
                "hospital": groups["hospital"].first(),
                "patients": groups["patient_id"].agg(lambda p: sorted(set(p))),
                "chromosome": [CHROMOSOMES[c] for c in self.chromosome_B],
                "num_pairs": self.mask_BK.sum(axis=1),
                "band_level": np.asarray(BAND_LEVELS)[
                    groups["band"].median().astype(int).to_numpy()
                ],
                "abnormal": abnormal_B,
                "size_mb": groups["size_mb"].max(),
                "kind": kind_B,
            }
        )
        return described.reset_index(drop=True)


def draw_bags(
    bank: PairIndex,
    config: BagConfig,
    *,
    seed: int,
    epoch: int = 0,
    parts: NDArray[np.int64] | None = None,
) -> Bags:
    """Draws the bags of one epoch: every pair is used ``rounds`` times.

    The pairs of a group (one chromosome type of one patient, or of the people of one part) are
    shuffled and split into bags of K. A shorter last bag is filled with other pairs of its group. A
    group of fewer than K pairs gives one padded bag (``mask_BK`` false at padding).

    Args:
        bank: N pairs.
        config: K, rounds and the definition of a group.
        seed: seed of the run.
        epoch: number of the epoch.
        parts: places of the parts to draw, in ``bank.codes``; all by default.

    Returns:
        The bags, those of a part after those of the part before.
    """
    num_cells = config.num_cells
    codes = bank.codes
    chosen_Q = np.arange(len(codes.part_Q)) if parts is None else parts
    row_N = codes.rows(parts)
    group_N = _groups(codes, config)[row_N]
    draws = Draws(seed, "bags", epoch, codes.part_Q[chosen_Q], np.diff(codes.edge_Q)[chosen_Q])
    drawn = [_draw_round(group_N, draws.uniform(), num_cells) for _ in range(config.rounds)]
    row_BK = row_N[np.concatenate([row_BK for row_BK, _ in drawn])]
    mask_BK = np.concatenate([mask_BK for _, mask_BK in drawn])
    place_Q = np.empty(len(codes.part_Q), np.int64)
    place_Q[chosen_Q] = np.arange(len(chosen_Q))
    order_B = np.argsort(place_Q[codes.part_N[row_BK[:, 0]]], kind="stable")
    row_BK, mask_BK = row_BK[order_B], mask_BK[order_B]
    return Bags(row_BK, mask_BK, codes.type_N[row_BK[:, 0]])


def count_bags(bank: PairIndex, config: BagConfig) -> NDArray[np.int64]:
    """The number of bags (Q) that :func:`draw_bags` draws of each part."""
    codes = bank.codes
    group_N = _groups(codes, config)
    _, first_G, size_G = np.unique(group_N, return_index=True, return_counts=True)
    bags_G = config.rounds * -(-size_G // config.num_cells)
    return np.bincount(codes.part_N[first_G], bags_G, len(codes.part_Q)).astype(np.int64)


def _groups(codes: Codes, config: BagConfig) -> NDArray[np.int64]:
    """Number (N) of each pair's group; a bag has pairs of one group."""
    whose_N = codes.part_N if config.over == "people" else codes.person_N
    return whose_N * len(CHROMOSOMES) + codes.type_N


def _draw_round(
    group_N: NDArray[np.int64], random_N: NDArray[np.float64], num_cells: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pairs (B, K) and mask (B, K) of the bags of one round, given numbers in [0, 1) by pair."""
    # A group's number and a random fraction: one sort arranges groups and shuffles each.
    shuffled_N = np.argsort(group_N + random_N)
    of_shuffled_N = group_N[shuffled_N]
    first_G = np.flatnonzero(np.diff(of_shuffled_N, prepend=-1))
    size_G = np.diff(first_G, append=len(group_N))
    bags_G = -(-size_G // num_cells)
    group_B = np.repeat(np.arange(len(size_G)), bags_G)
    number_B = np.arange(len(group_B)) - np.repeat(np.cumsum(bags_G) - bags_G, bags_G)
    size_B = size_G[group_B]
    # The last bag starts earlier to stay within its group, and overlaps with the previous bag.
    begin_B = np.maximum(np.minimum(number_B * num_cells, size_B - num_cells), 0)
    place_BK = begin_B[:, None] + np.arange(num_cells)
    mask_BK = place_BK < size_B[:, None]
    return shuffled_N[first_G[group_B][:, None] + np.where(mask_BK, place_BK, 0)], mask_BK


def summary(bank: PairIndex) -> Mapping[str, int]:
    """Counts of a bank for a printed table; the last one counts chromosomes."""
    return {
        "patients": int(bank.frame["patient_id"].nunique()),
        "cells": int(bank.frame.groupby(["patient_id", "cell_id"]).ngroups),
        "pairs": len(bank),
        "abnormal pairs": int(bank.frame["abnormal"].sum()),
        "not assessed": sum(bank.not_assessed.values()),
    }
