"""Uncalibrated scores of patients' types and single cells, from HomNet and a reader.

Shape suffixes: G types of patients, N assessable pairs, J patients.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import logit

from homnet.bags.assessment import Assessment
from homnet.calibration.labelled_scores import LabelledScores
from homnet.karyotype.chromosomes import CHROMOSOME_INDEX
from homnet.karyotype.kinds import NO_ABNORMALITY
from homnet.model.predictor import Evidence
from homnet.patients.finding import Finding

_REFERENCE_CELLS: Final = 5
"""Number of cells at which the logit of a type equals that of its bag; the training bag size."""
LEAST_PROBABILITY: Final = 1e-6
"""Probabilities are clipped to this distance from 0 and 1 before computing odds."""


@dataclass(frozen=True)
class PatientScores:
    """Uncalibrated scores of all pairs of some patients."""

    assessment: Assessment
    """The pairs, type by type."""
    logit_G: NDArray[np.float64]
    """Logit of each type, from all cells (see :func:`score_patients`)."""
    logit_N: NDArray[np.float64]
    """What each pair adds to the logit of its bag, plus the bias: its logit as a bag of one, or
    with a search over events, at the place that its whole bag points to."""

    @property
    def num_cells_G(self) -> NDArray[np.int64]:
        """Number of assessable cells of each type."""
        return np.bincount(self.assessment.type_N, minlength=len(self.assessment.types))

    @property
    def chromosome_G(self) -> NDArray[np.int64]:
        """Index of each type, 0..23."""
        names = [who.chromosome for who in self.assessment.types]
        return np.array([CHROMOSOME_INDEX[name] for name in names], np.int64)


def score_patients(assessment: Assessment, evidence: Evidence) -> PatientScores:
    """Scores types and single cells from what each pair adds to the logit of its bag.

    The logit of a bag is a sum over its pairs (Eq. 10), so its spread grows with the number of
    cells, and no single scale fits patients with 6 and with 20 cells. The sum over all cells of a
    type is therefore divided by the square root of their number, as for independent cells, and
    multiplied by the root of five. Cells are not independent, but no alternative tried was better
    (LAB.md, 2026-11-27).

    Args:
        assessment: pairs of whole patients.
        evidence: scores of its bags, by the HomNet of the patients' hospital.
    """
    type_N, num_types = assessment.type_N, len(assessment.types)
    size_G = np.bincount(type_N, minlength=num_types)
    added_G = np.bincount(type_N, evidence.added_N, minlength=num_types)
    # All bags of a type were scored by one model.
    bias_G = np.zeros(num_types)
    bias_G[assessment.type_B] = evidence.bias_B
    logit_G = np.asarray(added_G * np.sqrt(_REFERENCE_CELLS / size_G) + bias_G, np.float64)
    return PatientScores(assessment, logit_G, evidence.added_N + bias_G[type_N])


def read_log_odds(
    num_types: int, findings: Mapping[int, Finding], *, reads: bool
) -> NDArray[np.float64]:
    """The reader's log odds (G) that each type shows an abnormality.

    Args:
        num_types: number of types, G.
        findings: findings on the types that were read, by index of the type.
        reads: whether a reader counts. Types without a finding are then NaN, otherwise 0.
    """
    odds_G = np.full(num_types, np.nan if reads else 0.0)
    for g, one in findings.items():
        # A finding without kinds has even odds.
        normal = one.kinds.get(NO_ABNORMALITY, 0.5)
        odds_G[g] = -logit(np.clip(normal, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
    return odds_G


def labelled_scores(
    scores: PatientScores, read_G: NDArray[np.float64], table: pa.Table
) -> LabelledScores:
    """Joins scores with the truth of a cohort.

    Args:
        scores: scores of the pairs in ``table``.
        read_G: the reader's log odds of each type; zeros without a reader.
        table: pairs with the column ``abnormal``. Patients without an assessable pair are left out.
    """
    assessment = scores.assessment
    abnormal_N = table["abnormal"].to_numpy()[assessment.row_N]
    type_N = assessment.type_N
    patients = list(dict.fromkeys((who.hospital, who.patient_id) for who in assessment.types))
    number = {patient: j for j, patient in enumerate(patients)}
    patient_G = np.array(
        [number[who.hospital, who.patient_id] for who in assessment.types], np.int64
    )
    # A patient is a carrier even if the abnormal type cannot be assessed.
    frame = table.select(["hospital", "patient_id", "abnormal"]).to_pandas()
    carriers = frame.groupby(["hospital", "patient_id"])["abnormal"].any()
    return LabelledScores(
        hospital_J=tuple(hospital for hospital, _ in patients),
        abnormal_J=np.array([bool(carriers[patient]) for patient in patients], np.bool_),
        patient_G=patient_G,
        chromosome_G=scores.chromosome_G,
        num_cells_G=scores.num_cells_G,
        logit_G=scores.logit_G,
        read_G=read_G,
        abnormal_G=np.bincount(type_N, abnormal_N, minlength=len(assessment.types)) > 0,
        patient_N=patient_G[type_N],
        logit_N=scores.logit_N,
        abnormal_N=abnormal_N,
    )
