"""From the findings on 23 chromosome types to one verdict on a patient.

There are three verdicts: abnormal, no abnormality found, and not assessed. The last also has
reasons and is counted. The evidence of all types is combined by
:func:`homnet.calibration.patients.combine` and compared with the hospital's threshold. In addition,
two cells must show the abnormality of a type, or it is no clone. *Evidence* is a log likelihood
ratio, abnormal over normal.

Shape suffixes: G types of patients, N assessable pairs.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
URGENT_FIRST: Final[tuple[Decision, ...]] = ("abnormal", "not_assessed", "no_abnormality_found")
"""Order in which a person should look at patients."""
AbstentionCode = Literal[
    "too_few_cells", "poor_bands", "one_cell_only", "nothing_to_compare", "not_calibrated"
]


@dataclass(frozen=True)
class VerdictConfig:
    """Settings of verdicts and abstentions."""

    prevalence: float | None = None
    """Share of the laboratory's patients with a structural abnormality, typically 1 to 5 %; half of
    the bags of pre-training are abnormal. Every probability depends on it. The verdict does not,
    because its threshold is set for a specificity. None uses the share among the validation
    patients."""
    min_types: int = 18
    """Minimum number of types, out of 23, with enough cells; else the patient is not assessed."""
    min_band_level: int = 400
    """Band level that at least half of a patient's cells must reach."""

    def __post_init__(self) -> None:
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise ConfigError(f"prevalence is {self.prevalence}; give a share between 0 and 1")
        if not 1 <= self.min_types <= NUM_TYPES:
            raise ConfigError(f"min_types is {self.min_types}; give 1 to {NUM_TYPES}")


@dataclass(frozen=True)
class Abstention:
    """Reason for not assessing a patient."""

    code: AbstentionCode
    """Rule that applied."""
    text: str
    """Reason with its figures, as printed in a report."""


@dataclass(frozen=True, eq=False)
class TypeVerdict:
    """One type of a patient: finding, evidence, and part in the verdict."""

    chromosome: str
    """Type."""
    finding: Finding | None
    """The finding; None if no pair could be compared."""
    evidence: float | None
    """Log likelihood ratio, abnormal over normal; None if the type has too few cells."""
    flagged: bool
    """Whether the patient's verdict rests on this type."""
    clone: Clone | None
    """Cells that show the abnormality."""
    draft: Draft | None
    """Draft name of a flagged type, if a reader gave kind and place."""
    not_assessed: tuple[str, ...] = ()
    """What was not assessed of the type, with reasons."""

    def to_json(self) -> dict[str, Any]:
        """The type as plain JSON values; scores along homologs only if it is flagged."""
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


def by_evidence(types: Sequence[TypeVerdict]) -> list[TypeVerdict]:
    """The flagged types in descending order of evidence."""
    return sorted((one for one in types if one.flagged), key=lambda one: -(one.evidence or 0.0))


@dataclass(frozen=True, eq=False)
class PatientVerdict:
    """The verdict on a patient with its evidence."""

    hospital: str
    """Hospital."""
    patient_id: str
    """Patient."""
    decision: Decision
    """Verdict."""
    abstentions: tuple[Abstention, ...]
    """Reasons for not assessing the patient; empty for the other two decisions."""
    score: float | None
    """Combined evidence of all counted types; None if there are none."""
    threshold: float | None
    """Minimum score for the decision abnormal at this hospital; None without a calibration."""
    specificity: float | None
    """Share of healthy referrals that the threshold is set to call normal."""
    supported_specificity: float | None
    """Highest specificity that the number of healthy referrals behind the threshold supports."""
    probability: float | None
    """Calibrated probability of an abnormality at the prevalence below."""
    prevalence: float | None
    """Assumed share of carriers among the laboratory's patients."""
    types: tuple[TypeVerdict, ...]
    """Types 1 to 22, X, and Y if present, in this order."""
    cells: Mapping[str, int]
    """Band level of each cell."""
    notes: tuple[str, ...]
    """Conclusions from several types together, such as a suspected translocation, and what was
    noticed in the images."""
    versions: Mapping[str, str]
    """Versions of model, calibration and reader."""
    turned: Mapping[str, int] = field(default_factory=dict)
    """Number of cells with a chromosome that lay upside down in its image and was turned, by
    type."""
    num_levels_estimated: int = 0
    """Number of cells whose band level was estimated from their chromosomes."""

    @property
    def flagged(self) -> tuple[TypeVerdict, ...]:
        """Types that the verdict rests on, in descending order of evidence."""
        return tuple(by_evidence(self.types))

    @property
    def nearly(self) -> str | None:
        """The type with most evidence if no abnormality was found but a carrier is more likely.

        None for a probability below 0.5 or another decision.
        """
        short = self.decision == "no_abnormality_found" and (self.probability or 0.0) >= 0.5
        known = [one for one in self.types if one.evidence is not None]
        if not short or not known:
            return None
        return max(known, key=lambda one: one.evidence or 0.0).chromosome

    @property
    def band_levels(self) -> dict[int, int]:
        """Number of cells at each band level, ascending."""
        return dict(sorted(Counter(self.cells.values()).items()))

    def quality(self) -> dict[str, Any]:
        """What the verdict could rest on: cells, band levels, types with enough cells, turned."""
        return {
            "num_cells": len(self.cells),
            "band_levels": {str(level): count for level, count in self.band_levels.items()},
            "num_levels_estimated": self.num_levels_estimated,
            "num_types_assessed": sum(one.evidence is not None for one in self.types),
            "turned": dict(self.turned),
        }

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain JSON values."""
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
            "specificity": self.specificity,
            "supported_specificity": self.supported_specificity,
            "flagged": [one.chromosome for one in self.flagged],
            "quality": self.quality(),
            "notes": list(self.notes),
            "cells": dict(self.cells),
            "types": [one.to_json() for one in self.types],
            "versions": dict(self.versions),
        }


def flag_types(evidence_G: NDArray[np.float64], threshold: float) -> NDArray[np.bool_]:
    """Selects the types that an abnormal verdict rests on.

    These are the types that alone would reach the threshold if all others had a likelihood ratio of
    0. If there are none, it is the type with most evidence.

    Args:
        evidence_G: log likelihood ratio of each counted type.
        threshold: threshold of the patient's score.
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
    """Returns the reasons not to give a verdict.

    Args:
        cells: band level of each cell of the patient.
        num_counted: number of types with enough cells.
        min_cells: number of cells that a type needs to be counted.
        config: limits.
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
    """The reason not to give a verdict if no flagged type is a clone (two cells, ISCN); or None."""
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
    """Reasons why types or some of their cells were not assessed, by type, as printed in a report.

    Args:
        left_out: types and cells left out.
        compared: types with both homologs in other cells; if X is among them, the patient has two X
            chromosomes.
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
    """Types to report on: 1 to 22, X, and Y where the patient has one."""
    return tuple(name for name in CHROMOSOMES if name != "Y" or name in present)
