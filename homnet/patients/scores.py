"""Uncalibrated scores of patients' types and single cells, from a model and a reader.

Shape suffixes: G types of patients, N assessable pairs, J patients.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import logit

from homnet.bags.assessment import Assessment, assess
from homnet.calibration.labelled_scores import LabelledScores
from homnet.karyotype.chromosomes import CHROMOSOME_INDEX
from homnet.karyotype.kinds import NO_ABNORMALITY
from homnet.model.predictor import Predictor
from homnet.patients.finding import Finding, FindingReader

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
    """Logit of each pair, as a bag of one."""
    read: tuple[Finding, ...] = ()
    """The reader's findings on each type, all with probability 0; empty without a reader."""

    @property
    def read_G(self) -> NDArray[np.float64]:
        """The reader's log odds that each type shows an abnormality; zeros without a reader."""
        if not self.read:
            return np.zeros(len(self.logit_G))
        # A finding without kinds has even odds.
        normal_G = np.array([one.kinds.get(NO_ABNORMALITY, 0.5) for one in self.read])
        return np.asarray(-logit(np.clip(normal_G, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)))

    @property
    def num_cells_G(self) -> NDArray[np.int64]:
        """Number of assessable cells of each type."""
        return np.bincount(self.assessment.type_N, minlength=len(self.assessment.types))

    @property
    def chromosome_G(self) -> NDArray[np.int64]:
        """Index of each type, 0..23."""
        names = [who.chromosome for who in self.assessment.types]
        return np.array([CHROMOSOME_INDEX[name] for name in names], np.int64)


def score_patients(
    predictor: Predictor, table: pa.Table, reader: FindingReader | None = None
) -> PatientScores:
    """Scores types and single cells in one pass, and reads the types if there is a reader.

    The logit of a bag is a sum over its pairs (Eq. 10), so its spread grows with the number of
    cells, and no single scale fits patients with 6 and with 20 cells. The sum over all cells of a
    type is therefore divided by the square root of their number, as for independent cells, and
    multiplied by the root of five. Cells are not independent, but no alternative tried was better
    (LAB.md, 2026-11-27).

    Args:
        predictor: HomNet predictor of the patients' hospital.
        table: pairs of whole patients that passed :func:`homnet.cohorts.checks.check_measured`.
        reader: determines kinds and places; optional.
    """
    assessment = assess(table)
    evidence = predictor.evidence(assessment.bags)
    # The logit of a bag of one is the contribution of its pair plus the bias.
    bias = float(predictor.homnet().bag.bag.bias.item())
    size_G, added_G = (
        np.bincount(assessment.type_N, weights, minlength=len(assessment.types))
        for weights in (None, evidence.added_N)
    )
    logit_G = np.asarray(added_G * np.sqrt(_REFERENCE_CELLS / size_G) + bias, np.float64)
    read: tuple[Finding, ...] = ()
    if reader is not None and assessment.types:
        read = tuple(reader(assessment, np.zeros(len(assessment.types))))
    return PatientScores(assessment, logit_G, evidence.added_N + bias, read)


def labelled_scores(scores: PatientScores, table: pa.Table) -> LabelledScores:
    """Joins scores with the truth of a cohort.

    Args:
        scores: scores of the pairs in ``table``.
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
        read_G=scores.read_G,
        abnormal_G=np.bincount(type_N, abnormal_N, minlength=len(assessment.types)) > 0,
        patient_N=patient_G[type_N],
        logit_N=scores.logit_N,
        abnormal_N=abnormal_N,
    )
