"""Findings on one chromosome type of one patient: probability, kind, place, and cells.

A *finding* joins the calibrated probability of the bag model with the kind, place and cells from a
reader (:class:`FindingReader`). Without a reader, a finding states that kind and place were not
assessed (:func:`unread`).

Shape suffixes: G types of patients, N assessable pairs, P homologs (2), L sequence positions (512).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, Self, get_args

import numpy as np
from numpy.typing import NDArray

from homnet.bags.assessment import Assessment
from homnet.errors import DataError
from homnet.karyotype.bands import band_table
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOMES, SEQUENCE_LENGTH
from homnet.karyotype.kinds import NO_ABNORMALITY, SHOWN

Question = Literal["kind", "breakpoints", "cells"]
QUESTIONS: Final = get_args(Question)
"""Questions that a reader can answer: kind, place, and the cells and homologs that show it."""
NO_READER: Final = "no reader was used"
NOT_READ: Final = "not read: HomNet sees too little in it"

_DECIMALS: Final = 6
"""Decimals of scores in JSON: what is left of them differs by less than two machines do."""


@dataclass(frozen=True)
class BreakpointEstimate:
    """Breakpoint with an interval, on the reference chromosome of the type."""

    mb: float
    """Best estimate, megabases from the tip of the short arm."""
    low_mb: float
    """Lower end of the interval (90 % unless the reader's version says otherwise)."""
    high_mb: float
    """Upper end of the interval."""
    level: int
    """Band level of the bands below: the coarsest that shows the finding in most cells."""
    band: str
    """Band of ``mb``, as labelled in the band table of the level, for example ``"p14"``."""
    low_band: str
    """Band of ``low_mb``."""
    high_band: str
    """Band of ``high_mb``."""

    @classmethod
    def at(cls, chromosome: str, mb: float, low_mb: float, high_mb: float, level: int) -> Self:
        """Makes a breakpoint with its bands; the interval is clipped to the chromosome.

        Args:
            chromosome: type.
            mb: best estimate, megabases.
            low_mb: lower end.
            high_mb: upper end.
            level: 300, 400, 550 or 700.
        """
        bands = band_table(level)[chromosome]
        length_mb = bands.length_bp / 1e6
        places = [min(max(place, 0.0), length_mb) for place in (mb, low_mb, high_mb)]
        labels = [bands.at(bands.to_iscn(place * 1e6)).label for place in places]
        return cls(places[0], places[1], places[2], level, labels[0], labels[1], labels[2])

    def check(self, chromosome: str) -> None:
        """Checks that the places and bands exist on a chromosome.

        Raises:
            DataError: a place lies beyond the chromosome or out of order, or a band is unknown.
        """
        if self.level not in BAND_LEVELS:
            raise DataError(f"band level {self.level} is none of {BAND_LEVELS}")
        bands = band_table(self.level)[chromosome]
        length_mb = bands.length_bp / 1e6
        if not 0 <= self.low_mb <= self.mb <= self.high_mb <= length_mb + 1e-6:
            raise DataError(
                f"breakpoint {self.low_mb:g} <= {self.mb:g} <= {self.high_mb:g} Mb is not in order "
                f"on chromosome {chromosome}, which is {length_mb:.1f} Mb long"
            )
        labels = {band.label for band in bands.bands}
        for label in (self.band, self.low_band, self.high_band):
            if label not in labels:
                raise DataError(
                    f"chromosome {chromosome} has no band {label} at level {self.level}"
                )


@dataclass(frozen=True, eq=False)
class CellFinding:
    """The part of one cell in the finding on a type."""

    cell_id: str
    """Cell, unique within its patient."""
    band_level: int
    """Its band level."""
    probability: float | None = None
    """Calibrated probability that the pair of this cell is abnormal, at a prior of 0.5; None where
    not assessed."""
    homolog: int | None = None
    """Abnormal homolog: slot 0 or 1 in this cell; None where not assessed."""
    homolog_probability: float | None = None
    """Probability that it is this homolog, given that one of the two is, 0.5..1."""
    score_PL: NDArray[np.float32] | None = None
    """Probability at each position of both homologs (2, 512), 0..1, of belonging to the abnormal
    segment, at the positions of the cohort's sequences; 0 beyond the chromosome's end."""

    @property
    def looks_abnormal(self) -> bool:
        """Whether it is more likely abnormal than not; False where not assessed."""
        return (self.probability or 0.0) > 0.5

    def __post_init__(self) -> None:
        if self.band_level not in BAND_LEVELS:
            raise DataError(
                f"cell {self.cell_id}: band level {self.band_level} is none of {BAND_LEVELS}"
            )
        _check_probability(self.probability, f"cell {self.cell_id}: probability")
        _check_probability(self.homolog_probability, f"cell {self.cell_id}: homolog_probability")
        if self.homolog not in {None, 0, 1}:
            raise DataError(f"cell {self.cell_id}: homolog {self.homolog} is neither 0 nor 1")
        if (self.homolog is None) != (self.homolog_probability is None):
            raise DataError(
                f"cell {self.cell_id}: homolog and homolog_probability are given together or not "
                "at all"
            )
        score_PL = self.score_PL
        if score_PL is not None:
            if score_PL.shape != (2, SEQUENCE_LENGTH):
                raise DataError(
                    f"cell {self.cell_id}: scores are of shape {score_PL.shape}, expected "
                    f"{(2, SEQUENCE_LENGTH)}"
                )
            if not ((score_PL >= 0) & (score_PL <= 1)).all():
                raise DataError(f"cell {self.cell_id}: a score is not between 0 and 1")

    def to_json(self, *, scores: bool = True) -> dict[str, Any]:
        """The cell as plain JSON values; scores are optional and rounded to six decimals."""
        along = None
        if scores and self.score_PL is not None:
            along = np.round(self.score_PL.astype(np.float64), _DECIMALS).tolist()
        return {
            "cell_id": self.cell_id,
            "band_level": self.band_level,
            "probability": self.probability,
            "homolog": self.homolog,
            "homolog_probability": self.homolog_probability,
            "scores": along,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            DataError: a field is missing or out of range.
        """
        try:
            scores = content["scores"]
            return cls(
                cell_id=content["cell_id"],
                band_level=content["band_level"],
                probability=content["probability"],
                homolog=content["homolog"],
                homolog_probability=content["homolog_probability"],
                score_PL=None if scores is None else np.asarray(scores, np.float32),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not the finding of a cell: {error!r}") from None


@dataclass(frozen=True)
class NotAnswered:
    """A question about a type that was not answered."""

    question: Question
    """One of :data:`QUESTIONS`."""
    reason: str
    """Reason, as printed in a report."""
    cells: tuple[str, ...] = ()
    """Cells concerned; empty means all."""


@dataclass(frozen=True, eq=False)
class Finding:
    """Finding on one chromosome type of one patient."""

    hospital: str
    """Hospital."""
    patient_id: str
    """Patient."""
    chromosome: str
    """Type."""
    probability: float | None
    """Calibrated probability of the bag model that the type is abnormal, from all cells; None if no
    pair could be compared."""
    cells: tuple[CellFinding, ...] = ()
    """Assessed cells, in order of their names."""
    kinds: Mapping[str, float] = field(default_factory=dict)
    """Calibrated probability of each kind in :data:`SHOWN`, summing to 1; empty where not assessed.
    In a verdict they depend on the patient's other types."""
    start: BreakpointEstimate | None = None
    """Breakpoint nearer the tip of the short arm; None if not assessed, or if the abnormal segment
    extends to that tip."""
    stop: BreakpointEstimate | None = None
    """Breakpoint nearer the tip of the long arm; None likewise."""
    not_answered: tuple[NotAnswered, ...] = ()
    """What was not assessed, and why."""
    reader: str | None = None
    """Version of the reader; None without one."""

    def __post_init__(self) -> None:
        """Checks all fields; errors name the patient and the type."""
        try:
            self._check()
        except DataError as error:
            raise DataError(
                f"finding on chromosome {self.chromosome} of patient {self.patient_id}: {error}"
            ) from None

    @property
    def kind(self) -> str | None:
        """The most probable kind, ``"none"`` included; None where not assessed."""
        return max(self.kinds, key=lambda kind: self.kinds[kind]) if self.kinds else None

    @property
    def abnormal_kind(self) -> str | None:
        """The most probable kind, given an abnormality; None where not assessed."""
        found = {kind: share for kind, share in self.kinds.items() if kind != NO_ABNORMALITY}
        return max(found, key=lambda kind: found[kind]) if found else None

    def to_json(self, *, scores: bool = True) -> dict[str, Any]:
        """The finding as plain JSON values.

        Args:
            scores: whether to include the scores along the homologs, 1,024 numbers per cell.
        """
        return {
            "hospital": self.hospital,
            "patient_id": self.patient_id,
            "chromosome": self.chromosome,
            "probability": self.probability,
            "kinds": dict(self.kinds),
            "start": None if self.start is None else vars(self.start),
            "stop": None if self.stop is None else vars(self.stop),
            "cells": [cell.to_json(scores=scores) for cell in self.cells],
            "not_answered": [{**vars(one), "cells": list(one.cells)} for one in self.not_answered],
            "reader": self.reader,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            DataError: a field is missing, unknown or out of range.
        """
        try:
            values = dict(content)
            for name in ("start", "stop"):
                place = values[name]
                values[name] = None if place is None else BreakpointEstimate(**place)
            values["cells"] = tuple(CellFinding.from_json(cell) for cell in values["cells"])
            values["not_answered"] = tuple(
                NotAnswered(**{**one, "cells": tuple(one["cells"])})
                for one in values["not_answered"]
            )
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a finding: {error!r}") from None

    def _check(self) -> None:
        if self.chromosome not in CHROMOSOMES:
            raise DataError(f"'{self.chromosome}' is not 1..22, X or Y")
        _check_probability(self.probability, "probability")
        names = [cell.cell_id for cell in self.cells]
        if len(set(names)) < len(names):
            raise DataError("a cell is given twice")
        if self.kinds:
            if set(self.kinds) != set(SHOWN):
                raise DataError(
                    f"kinds are {', '.join(self.kinds)}; expected {', '.join(SHOWN)}, or none"
                )
            for kind, share in self.kinds.items():
                _check_probability(share, f"probability of {kind}")
            if not math.isclose(sum(self.kinds.values()), 1.0, abs_tol=1e-3):
                raise DataError(f"probabilities of kinds add up to {sum(self.kinds.values()):.4f}")
        for place in (self.start, self.stop):
            if place is not None:
                place.check(self.chromosome)
        if self.start is not None and self.stop is not None and self.start.mb > self.stop.mb:
            raise DataError(f"it starts at {self.start.mb:g} Mb and stops at {self.stop.mb:g} Mb")
        for one in self.not_answered:
            if one.question not in QUESTIONS:
                raise DataError(f"'{one.question}' is none of {', '.join(QUESTIONS)}")


class FindingReader(Protocol):
    """Determines kind and place of an abnormality, and the cells and homologs that show it."""

    @property
    def version(self) -> str:
        """Digest of the weights, by which reports and calibrations name the reader."""
        ...

    def __call__(self, assessment: Assessment) -> Sequence[Finding]:
        """Reads types of patients.

        Args:
            assessment: all pairs of some patients, type by type; its bags hold the sequences.

        Returns:
            One finding for each of ``assessment.types``, in their order, without a probability.
        """
        ...


def unread(
    assessment: Assessment,
    probability_G: Sequence[float | None],
    probability_N: NDArray[np.float64] | None = None,
    why: str = NO_READER,
) -> list[Finding]:
    """Makes findings without a reader: kind and place are not assessed.

    Args:
        assessment: all pairs of some patients.
        probability_G: calibrated probability that each type is abnormal, or None.
        probability_N: calibrated probability that each single pair is abnormal, or None.
        why: why no reader has read the types.

    Returns:
        One finding for each of ``assessment.types``, in their order.
    """
    missing: tuple[Question, ...] = ("kind", "breakpoints")
    type_N = assessment.type_N
    cells: list[list[CellFinding]] = [[] for _ in assessment.types]
    for n, g in enumerate(type_N.tolist()):
        cells[g].append(
            CellFinding(
                cell_id=assessment.cell_N[n],
                band_level=BAND_LEVELS[int(assessment.bags.level_N[n])],
                probability=None if probability_N is None else float(probability_N[n]),
            )
        )
    return [
        Finding(
            hospital=who.hospital,
            patient_id=who.patient_id,
            chromosome=who.chromosome,
            probability=probability,
            cells=tuple(found),
            not_answered=tuple(NotAnswered(question, why) for question in missing),
        )
        for who, probability, found in zip(assessment.types, probability_G, cells, strict=True)
    ]


def _check_probability(value: float | None, name: str) -> None:
    if value is not None and not 0 <= value <= 1:
        raise DataError(f"{name} {value} is not between 0 and 1")
