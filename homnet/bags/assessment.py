"""Bags of all pairs that a laboratory sends: all cells of each patient and chromosome type.

Shape suffixes: N assessable pairs, B bags, G types of patients, P homologs, C chromatids,
L positions.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from homnet.cohorts.pairs import (
    LEVEL_DOUBTED,
    LEVEL_ESTIMATED,
    SAME_PIXELS,
    THIRD_COPY,
    TURNED,
    pairs_of,
)
from homnet.cohorts.summary import has_flag
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOME_INDEX, CHROMOSOMES

MAX_CELLS: Final = 10
"""Maximum number of pairs in a bag. Eq. 10 sums over pairs, so larger bags would exceed the range
in which bag thresholds were chosen; 10 is the largest size tested (results/evaluate-images.json).
Patient verdicts do not depend on it (:func:`homnet.patients.scores.score_patients`), but for the
search over events, which looks at the bags of a type one by one."""

Reason = Literal["single_homolog", "no_pair"]
REASONS: Final[dict[Reason, str]] = {
    "single_homolog": "there is no second homolog to compare with, as with a male X or Y",
    "no_pair": "no chromosome of this type was sent",
}


class PatientType(NamedTuple):
    """One chromosome type of one patient."""

    hospital: str
    patient_id: str
    chromosome: str


@dataclass(frozen=True)
class NotAssessed:
    """A chromosome type, or some of its pairs, that is not assessed."""

    chromosome: str
    """Chromosome type."""
    cells: tuple[str, ...]
    """Cells whose pair is excluded; empty if no chromosome of the type was sent."""
    reason: Reason
    """Key of :data:`REASONS`."""


SAID: Final = (THIRD_COPY, TURNED, SAME_PIXELS, LEVEL_ESTIMATED, LEVEL_DOUBTED)
"""Quality flags that verdicts mention."""
NOTHING_SENT: Final = tuple(NotAssessed(name, (), "no_pair") for name in CHROMOSOMES)
"""Value for a patient without any pair."""


@dataclass(frozen=True)
class FlatBags:
    """Bags of any size without padding: the pairs of all bags, concatenated."""

    pair_NPCL: NDArray[np.uint8]
    """Darkness (N, 2, 2, 512)."""
    chromosome_N: NDArray[np.int64]
    """Index of the chromosome type, 0..23."""
    level_N: NDArray[np.int64]
    """Index of the band level, 0..3."""
    size_B: NDArray[np.int64]
    """Number of pairs in each bag: the first bag has the first ``size_B[0]`` pairs."""

    def __len__(self) -> int:
        return len(self.size_B)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The bags of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in ("pair_NPCL", "chromosome_N", "level_N", "size_B")
            }
        )

    def part(self, start: int, stop: int) -> Self:
        """Bags ``start`` to ``stop - 1``, as views."""
        first, last = int(self.size_B[:start].sum()), int(self.size_B[:stop].sum())
        return type(self)(
            self.pair_NPCL[first:last],
            self.chromosome_N[first:last],
            self.level_N[first:last],
            self.size_B[start:stop],
        )


@dataclass(frozen=True)
class Assessment:
    """The bags of some patients, and the pairs and types that are not assessed."""

    bags: FlatBags
    """All bags (B) with their pairs (N)."""
    type_B: NDArray[np.int64]
    """Index into ``types`` of each bag, ascending."""
    types: tuple[PatientType, ...]
    """Types with at least one assessable pair (G), sorted by hospital, patient and type."""
    cell_N: tuple[str, ...]
    """Cell of each pair."""
    row_N: NDArray[np.int64]
    """Row of each pair in the table."""
    left_out: Mapping[tuple[str, str], tuple[NotAssessed, ...]]
    """Pairs and types not assessed, by hospital and patient, for every patient of the table."""
    levels: Mapping[tuple[str, str], Mapping[str, int]]
    """Band level of each cell, by hospital and patient, in order of the cells' names."""
    flags: Mapping[str, Mapping[tuple[str, str], frozenset[tuple[str, str]]]] = field(
        default_factory=dict
    )
    """Types and cells with a quality flag of :data:`SAID`, by flag, and by hospital and patient."""

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The types of several assessments, in order, to be read in one pass.

        Types of different parts stay apart even if they have the same name; the same patient's
        ``left_out`` and ``levels`` would be overwritten, so they are empty.
        """
        before = np.cumsum([0, *(len(part.types) for part in parts)])
        return cls(
            bags=FlatBags.concatenate([part.bags for part in parts]),
            type_B=np.concatenate(
                [part.type_B + first for part, first in zip(parts, before, strict=False)]
            ),
            types=tuple(who for part in parts for who in part.types),
            cell_N=tuple(cell for part in parts for cell in part.cell_N),
            row_N=np.concatenate([part.row_N for part in parts]),
            left_out={},
            levels={},
        )

    def only(self, chosen_G: Sequence[int] | NDArray[np.int64]) -> Self:
        """The chosen types, given as ascending indices, without ``left_out`` and ``levels``."""
        kept_B = np.isin(self.type_B, chosen_G)
        kept_N = np.repeat(kept_B, self.bags.size_B)
        bags = FlatBags(
            self.bags.pair_NPCL[kept_N],
            self.bags.chromosome_N[kept_N],
            self.bags.level_N[kept_N],
            self.bags.size_B[kept_B],
        )
        return type(self)(
            bags=bags,
            type_B=np.searchsorted(chosen_G, self.type_B[kept_B]),
            types=tuple(self.types[g] for g in chosen_G),
            cell_N=tuple(np.asarray(self.cell_N, object)[kept_N]),
            row_N=self.row_N[kept_N],
            left_out={},
            levels={},
        )

    def flagged(self, flag: str, patient: tuple[str, str]) -> Mapping[str, int]:
        """Number of a patient's cells with a flag of :data:`SAID`, by type in karyogram order."""
        count = Counter(name for name, _ in self.flags.get(flag, {}).get(patient, ()))
        return {name: count[name] for name in CHROMOSOMES if name in count}

    def cells_flagged(self, flag: str, patient: tuple[str, str]) -> tuple[str, ...]:
        """A patient's cells with a flag of :data:`SAID`, by name."""
        return tuple(sorted({cell for _, cell in self.flags.get(flag, {}).get(patient, ())}))

    @property
    def type_N(self) -> NDArray[np.int64]:
        """Index into ``types`` of each pair, ascending."""
        return np.repeat(self.type_B, self.bags.size_B)

    def of_types(self, logit_B: NDArray[np.float64]) -> NDArray[np.float64]:
        """Logits (G) of types: the mean over a type's bags, weighted by the number of pairs."""
        size_B = self.bags.size_B
        total_G = np.bincount(self.type_B, size_B * logit_B, minlength=len(self.types))
        return np.asarray(total_G / np.bincount(self.type_B, size_B))


def assess(table: pa.Table, max_cells: int = MAX_CELLS) -> Assessment:
    """Makes bags of all pairs of each patient and type.

    A type with more than ``max_cells`` pairs is split into the smallest possible number of bags,
    with sizes that differ by at most one and cells in order of name. Row order is irrelevant.

    Args:
        table: pairs that passed :func:`homnet.cohorts.checks.check_measured`.
        max_cells: maximum number of pairs in a bag.
    """
    code = {
        name: _ranks(table[name].combine_chunks().dictionary_encode())
        for name in ("hospital", "patient_id", "cell_id")
    }
    chromosome = np.array(
        [CHROMOSOME_INDEX[name] for name in table["chromosome"].to_pylist()], np.int64
    )
    order = np.lexsort((code["cell_id"], chromosome, code["patient_id"], code["hospital"]))
    pair_NPCL = pairs_of(table)
    assessable = np.asarray(pair_NPCL[:, 1].any(axis=(1, 2)))
    row_N = order[assessable[order]]

    key = np.stack([code["hospital"], code["patient_id"], chromosome], axis=1)
    new = (key[row_N][1:] != key[row_N][:-1]).any(axis=1)
    type_N = np.concatenate([[0], np.cumsum(new)]) if len(row_N) else np.zeros(0, np.int64)
    size_G = np.bincount(type_N)
    bags_G = -(-size_G // max_cells)
    type_B = np.repeat(np.arange(len(size_G)), bags_G)
    number_B = np.arange(len(type_B)) - np.repeat(np.cumsum(bags_G) - bags_G, bags_G)
    # If the pairs of a type cannot be divided evenly, its first bags get one more pair.
    size_B = size_G[type_B] // bags_G[type_B] + (number_B < size_G[type_B] % bags_G[type_B])

    first_G = row_N[np.cumsum(size_G) - size_G]
    rows = table.select(list(PatientType._fields)).take(first_G)
    types = tuple(PatientType(**row) for row in rows.to_pylist())
    cells = np.asarray(table["cell_id"].to_pylist(), object)
    level = np.searchsorted(np.asarray(BAND_LEVELS), table["band_level"].to_numpy())
    return Assessment(
        bags=FlatBags(pair_NPCL[row_N], chromosome[row_N], level[row_N].astype(np.int64), size_B),
        type_B=type_B,
        types=types,
        cell_N=tuple(cells[row_N]),
        row_N=row_N,
        left_out=_left_out(table, order, assessable, types),
        levels=_levels(table),
        flags={flag: _flagged(table, flag) for flag in SAID},
    )


def _flagged(table: pa.Table, flag: str) -> dict[tuple[str, str], frozenset[tuple[str, str]]]:
    """Types and cells with a quality flag, for each patient."""
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    if "quality" not in table.schema.names:
        return {}
    rows = table.filter(has_flag(pc.struct_field(table["quality"], "flags"), flag))
    columns = ("hospital", "patient_id", "chromosome", "cell_id")
    for hospital, patient, name, cell in zip(
        *(rows[column].to_pylist() for column in columns), strict=True
    ):
        found.setdefault((hospital, patient), set()).add((name, cell))
    return {patient: frozenset(seen) for patient, seen in found.items()}


def _levels(table: pa.Table) -> dict[tuple[str, str], dict[str, int]]:
    """Band level of each cell of each patient."""
    columns = ("hospital", "patient_id", "cell_id", "band_level")
    rows = set(zip(*(table[name].to_pylist() for name in columns), strict=True))
    found: dict[tuple[str, str], dict[str, int]] = {}
    for hospital, patient, cell, level in sorted(rows):
        found.setdefault((hospital, patient), {})[cell] = int(level)
    return found


def _left_out(
    table: pa.Table,
    order: NDArray[np.int64],
    assessable: NDArray[np.bool_],
    types: tuple[PatientType, ...],
) -> dict[tuple[str, str], tuple[NotAssessed, ...]]:
    """Pairs and types not assessed, for every patient, in order of type."""
    single: dict[PatientType, list[str]] = {}
    rows = table.select(["hospital", "patient_id", "chromosome", "cell_id"])
    for who in rows.take(order[~assessable[order]]).to_pylist():
        name = PatientType(who["hospital"], who["patient_id"], who["chromosome"])
        single.setdefault(name, []).append(who["cell_id"])
    there = {*types, *single}
    patients = sorted({(name.hospital, name.patient_id) for name in there})
    left_out: dict[tuple[str, str], tuple[NotAssessed, ...]] = {}
    for patient in patients:
        found = []
        for chromosome in CHROMOSOMES:
            name = PatientType(*patient, chromosome)
            if name in single:
                found.append(NotAssessed(chromosome, tuple(single[name]), "single_homolog"))
            elif name not in there:
                found.append(NotAssessed(chromosome, (), "no_pair"))
        left_out[patient] = tuple(found)
    return left_out


def _ranks(column: pa.DictionaryArray) -> NDArray[np.int64]:
    """Rank of each value among the sorted distinct values."""
    values = np.asarray(column.dictionary.to_pylist(), object)
    rank = np.unique(values, return_inverse=True)[1]
    ranks: NDArray[np.int64] = rank[column.indices.to_numpy()]
    return ranks
