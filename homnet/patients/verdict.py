"""From the findings on 23 chromosome types to one verdict on a patient.

A verdict is one of three: abnormal, no abnormality found, or not assessed. The last is an answer
like the others: it says why, and it is counted. The evidence of the types is joined by
:func:`homnet.calibration.patients.combine` and compared with the hospital's threshold; a type then
has to show its abnormality in two cells, or it is no clone.

Shape suffixes: G types of patients, N assessable pairs.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from homnet.bags.assessment import REASONS, NotAssessed
from homnet.calibration.patients import NUM_TYPES
from homnet.errors import ConfigError
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.patients.clonality import MIN_CLONE, Clone
from homnet.patients.finding import Finding
from homnet.patients.naming import Draft

Decision = Literal["abnormal", "no_abnormality_found", "not_assessed"]
DECISIONS: Final[Mapping[Decision, str]] = {
    "abnormal": "Structural abnormality suspected",
    "no_abnormality_found": "No structural abnormality found",
    "not_assessed": "Not assessed",
}
AbstentionCode = Literal["too_few_cells", "poor_bands", "one_cell_only", "nothing_to_compare"]


@dataclass(frozen=True)
class VerdictConfig:
    """How careful verdicts are."""

    prevalence: float | None = None
    """Share of the laboratory's patients who carry a structural abnormality. Pre-training shows as
    many abnormal bags as normal ones, and a laboratory sees 1 to 5 % of patients, so that every
    probability depends on this setting; the verdict does not, as its threshold keeps a
    specificity. None takes that of the validation patients."""
    min_types: int = 18
    """Fewest types that must have cells enough, of 23, or the patient is not assessed."""
    min_band_level: int = 400
    """Lowest band level that half of a patient's cells must reach."""

    def __post_init__(self) -> None:
        """Refuses what cannot be."""
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise ConfigError(f"prevalence is {self.prevalence}; give a share between 0 and 1")
        if not 1 <= self.min_types <= NUM_TYPES:
            raise ConfigError(f"min_types is {self.min_types}; give 1 to {NUM_TYPES}")


@dataclass(frozen=True)
class Abstention:
    """Why a patient is not assessed."""

    code: AbstentionCode
    """Which rule."""
    text: str
    """In words, with the figures."""


@dataclass(frozen=True, eq=False)
class TypeVerdict:
    """One type of a patient: what was found, and what that comes to."""

    chromosome: str
    """Type."""
    finding: Finding | None
    """What was found; None where nothing could be compared."""
    evidence: float | None
    """Log likelihood ratio, abnormal over normal; None where the type does not count."""
    flagged: bool
    """Whether the patient's verdict rests on this type."""
    clone: Clone | None
    """Cells that show it."""
    draft: Draft | None
    """Draft of a name, of flagged types where a reader gave kind and place."""
    not_assessed: tuple[str, ...] = ()
    """What of it was not assessed, and why."""

    def to_json(self) -> dict[str, Any]:
        """The type as what ``json`` writes; scores along homologs are kept where it is flagged."""
        clone = self.clone
        return {
            "chromosome": self.chromosome,
            "probability": None if self.finding is None else self.finding.probability,
            "evidence": self.evidence,
            "flagged": self.flagged,
            "clone": None if clone is None else {**asdict(clone), "text": clone.describe()},
            "draft": None if self.draft is None else str(self.draft),
            "not_assessed": list(self.not_assessed),
            "finding": None if self.finding is None else self.finding.to_json(scores=self.flagged),
        }


@dataclass(frozen=True, eq=False)
class PatientVerdict:
    """What is said of a patient."""

    hospital: str
    """Hospital."""
    patient_id: str
    """Patient."""
    decision: Decision
    """Verdict."""
    abstentions: tuple[Abstention, ...]
    """Why the patient is not assessed; empty for the other verdicts."""
    score: float | None
    """Evidence of all types together; None without any."""
    threshold: float
    """Score from which a patient of this hospital is called abnormal."""
    probability: float | None
    """Calibrated probability of an abnormality at the prevalence below."""
    prevalence: float
    """Share of carriers among the laboratory's patients that was assumed."""
    types: tuple[TypeVerdict, ...]
    """All types that the patient has, and those that are missing, in their order."""
    cells: Mapping[str, int]
    """Band level of each cell."""
    notes: tuple[str, ...]
    """What follows from several types together, such as a suggested translocation."""
    versions: Mapping[str, str]
    """Model, calibration and reader."""

    @property
    def flagged(self) -> tuple[TypeVerdict, ...]:
        """The types that the verdict rests on, the most suspicious first."""
        found = [one for one in self.types if one.flagged]
        return tuple(sorted(found, key=lambda one: -(one.evidence or 0.0)))

    @property
    def nearly(self) -> str | None:
        """The type with most evidence, of a patient short of the threshold but likely a carrier.

        None for all who are less likely a carrier than not, and all who are called abnormal.
        """
        short = self.decision == "no_abnormality_found" and (self.probability or 0.0) >= 0.5
        known = [one for one in self.types if one.evidence is not None]
        if not short or not known:
            return None
        return max(known, key=lambda one: one.evidence or 0.0).chromosome

    @property
    def band_levels(self) -> dict[int, int]:
        """Cells by band level."""
        return dict(sorted(Counter(self.cells.values()).items()))

    def to_json(self) -> dict[str, Any]:
        """The verdict as what ``json`` writes."""
        return {
            "hospital": self.hospital,
            "patient_id": self.patient_id,
            "use": "Research use only. Not for diagnosis.",
            "decision": self.decision,
            "verdict": DECISIONS[self.decision],
            "abstentions": [asdict(one) for one in self.abstentions],
            "probability": self.probability,
            "prevalence": self.prevalence,
            "score": self.score,
            "threshold": self.threshold,
            "notes": list(self.notes),
            "cells": dict(self.cells),
            "types": [one.to_json() for one in self.types],
            "versions": dict(self.versions),
        }


def flag_types(evidence_G: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """The types that a patient's verdict rests on, given that it is abnormal.

    A type that would carry the patient over the threshold by itself, all others being silent; if
    none would, the strongest.

    Args:
        evidence_G: log likelihood ratio of each counted type.
        threshold: of the patient's score.
    """
    alone_G: NDArray[np.bool_] = evidence_G - np.log(len(evidence_G)) >= threshold
    if not alone_G.any():
        alone_G[int(evidence_G.argmax())] = True
    return alone_G


def abstain(
    *,
    cells: Mapping[str, int],
    num_counted: int,
    min_cells: int,
    config: VerdictConfig,
) -> list[Abstention]:
    """What speaks against giving a verdict at all.

    Args:
        cells: band level of each cell of the patient.
        num_counted: types with cells enough.
        min_cells: cells that a type needs to be counted.
        config: the limits.
    """
    found = []
    if num_counted == 0 and not cells:
        found.append(Abstention("nothing_to_compare", "no pair of homologs was sent"))
    elif num_counted < config.min_types:
        found.append(
            Abstention(
                "too_few_cells",
                f"too few cells: only {num_counted} of {NUM_TYPES} types have both homologs in "
                f"{min_cells} cells or more, and {config.min_types} are needed",
            )
        )
    clear = sum(level >= config.min_band_level for level in cells.values())
    if cells and 2 * clear < len(cells):
        found.append(
            Abstention(
                "poor_bands",
                f"poor bands: {clear} of {len(cells)} cells reach {config.min_band_level} bands, "
                "and half of them must",
            )
        )
    return found


def one_cell_only(flagged: Sequence[TypeVerdict]) -> Abstention | None:
    """Refuses a verdict that rests on single cells: ISCN asks for two."""
    if any(one.clone is not None and one.clone.clonal for one in flagged):
        return None
    where = ", ".join(one.chromosome for one in flagged)
    return Abstention(
        "one_cell_only",
        f"no clone: chromosome {where} looks abnormal, but fewer than {MIN_CLONE} cells show it; "
        "look at more cells",
    )


def explain(
    left_out: Sequence[NotAssessed], compared: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Why types, or some cells of them, were not assessed, by type and in words.

    Args:
        left_out: what was left out.
        compared: types of which other cells have both homologs; an X among them is a woman's.
    """
    found: dict[str, tuple[str, ...]] = {}
    for one in left_out:
        number = len(one.cells)
        text = REASONS[one.reason]
        if number and (one.chromosome in compared or one.chromosome not in {"X", "Y"}):
            text = f"one homolog only in {number} cell{'s' if number > 1 else ''}, left out"
        found[one.chromosome] = (text,)
    return found


def karyotype_types(present: Sequence[str]) -> tuple[str, ...]:
    """The types to report on: 1 to 22 and X, and Y where the patient has one."""
    return tuple(name for name in CHROMOSOMES if name != "Y" or name in present)
