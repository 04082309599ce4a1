"""From scores of types, cells and whole patients to evidence and thresholds, by hospital.

Everything here is fitted on validation patients: people of the hospital who are neither learnt from
nor tested on. *Healthy referrals* are those without an abnormal pair. Specificity refers to them,
because they came to the same laboratory for the same reasons as the carriers, and were prepared,
stained and photographed like them. Healthy people of a pre-training cohort are no substitute: they
come from one laboratory and have another number of cells.

*Evidence* is a log likelihood ratio, abnormal over normal, which does not depend on prevalence.
Prevalence enters in one place, as the setting
:attr:`homnet.patients.verdict.VerdictConfig.prevalence`.

Shape suffixes: N pairs, G types of patients, J patients.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, logsumexp

from homnet.calibration.labelled_scores import LabelledScores
from homnet.calibration.likelihood_ratios import Floats, Scale, fit_offsets, fit_scale, fit_weight
from homnet.errors import CheckpointError, DataError

ALL_HOSPITALS: Final = "all hospitals"
"""Name of the calibration for hospitals without their own."""
SPECIFICITY: Final = 0.99
"""Share of healthy referrals to be called normal, as in the published clinical figure."""
NO_READER_USED: Final = "none"
"""Version of the reader where none was used."""
FORMAT: Final = 2
"""Version of :meth:`PatientCalibration.to_json`; checkpoints ignore other versions. In the first,
logits of types were means over bags of up to ten cells."""
NUM_TYPES: Final = 23
"""Types of a karyotype; X and Y count as one."""


@dataclass(frozen=True)
class PatientCalibration:
    """How the scores of one hospital become evidence, probabilities and calls."""

    hospitals: tuple[str, ...]
    """Hospitals whose validation patients it was fitted on."""
    num_normal: int
    """Healthy referrals among them."""
    num_abnormal: int
    """Carriers of an abnormality among them."""
    type_scale: Scale
    """From logits of types, with offsets added, to evidence."""
    type_offsets: tuple[float, ...]
    """Offsets of the logits of the 24 types."""
    cell_scale: Scale
    """From logits of single cells to evidence."""
    patient_scale: Scale
    """From scores of :func:`combine` to evidence, for probabilities; the threshold needs none."""
    threshold: float
    """Patients are called abnormal from this score of :func:`combine` on."""
    specificity: float
    """Specificity that the threshold was set for."""
    types_per_patient: float
    """Mean number of abnormal types of an abnormal patient; a translocation changes two."""
    min_cells: int
    """Cells that a type needs to be counted, in the fit and in every verdict."""
    reader: str = NO_READER_USED
    """Version of the reader whose log odds count too."""
    read_weight: float = 0.0
    """Factor of these log odds before they are added to logits of types."""

    @property
    def prevalence(self) -> float:
        """Share of carriers among the validation patients."""
        return self.num_abnormal / (self.num_normal + self.num_abnormal)

    @property
    def supported_specificity(self) -> float:
        """Highest specificity that these healthy referrals can guarantee for the next one."""
        return self.num_normal / (self.num_normal + 1)

    @property
    def supported(self) -> bool:
        """Whether there were enough healthy referrals for :attr:`specificity`."""
        return self.supported_specificity >= self.specificity

    def type_evidence(
        self, logit_G: Floats, chromosome_G: NDArray[np.int64], read_G: Floats
    ) -> Floats:
        """Evidence of types.

        Args:
            logit_G: their logits.
            chromosome_G: their indices, 0..23.
            read_G: log odds of the reader.
        """
        moved_G = logit_G + np.asarray(self.type_offsets)[chromosome_G]
        return self.type_scale(moved_G + self.read_weight * read_G)

    def type_prior(self, prevalence: float) -> float:
        """Prior probability that a type is abnormal, at most 0.5."""
        return min(prevalence * self.types_per_patient / NUM_TYPES, 0.5)

    def type_probability(self, evidence_G: Floats, prevalence: float) -> Floats:
        """Probability that each type is abnormal."""
        return np.asarray(expit(evidence_G + logit(self.type_prior(prevalence))))

    def patient_probability(self, score: float, prevalence: float) -> float:
        """Probability that a patient with a score of :func:`combine` is abnormal."""
        return float(expit(self.patient_scale(np.array(score)) + logit(prevalence)))

    def to_json(self) -> dict[str, Any]:
        """The calibration as plain JSON values."""
        lists = {"hospitals": list(self.hospitals), "type_offsets": list(self.type_offsets)}
        return {"format": FORMAT, **asdict(self), **lists}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            CheckpointError: a field is missing or unknown.
        """
        scales = ("type_scale", "cell_scale", "patient_scale")
        content = {name: value for name, value in content.items() if name != "format"}
        try:
            lists = {name: tuple(content[name]) for name in ("hospitals", "type_offsets")}
            values: dict[str, Any] = {**content, **lists}
            return cls(**{**values, **{name: Scale(**content[name]) for name in scales}})
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"not a calibration of patients: {error!r}") from None


def combine(evidence_G: Floats, patient_G: NDArray[np.int64], num_patients: int) -> Floats:
    """Combines the types of each patient: the log likelihood ratio that one of them is abnormal.

    If exactly one type of a carrier is abnormal, each equally likely, the likelihood ratio of the
    patient is the mean of those of the types. Two abnormal types, as after a translocation, raise
    it above either of them alone.

    Args:
        evidence_G: log likelihood ratio of each type.
        patient_G: number of its patient, 0..num_patients - 1.
        num_patients: J.

    Returns:
        Scores (J); NaN for patients without a type.
    """
    score_J = np.full(num_patients, np.nan)
    for patient in np.unique(patient_G):
        own = evidence_G[patient_G == patient]
        score_J[patient] = logsumexp(own) - math.log(len(own))
    return score_J


def threshold_for_specificity(normal_J: Floats, specificity: float) -> float:
    """The lowest threshold that guarantees a specificity for the next healthy referral.

    Of n healthy referrals and the next one, each is as likely as any other to be the highest, so
    the j-th lowest score is exceeded by the next with a probability of at most 1 - j / (n + 1)
    (conformal prediction; Vovk 2005). With n below 1 / (1 - specificity) - 1 no threshold can
    guarantee it; the threshold then lies just above all scores.

    Args:
        normal_J: scores of healthy referrals.
        specificity: wanted, below 1.

    Raises:
        DataError: there are none.
    """
    if not len(normal_J):
        raise DataError("a threshold needs healthy referrals among the validation patients")
    ordered = np.sort(normal_J)
    place = min(math.ceil(specificity * (len(ordered) + 1) - 1e-9), len(ordered))
    return float(np.nextafter(ordered[place - 1], np.inf))


def fit_patients(
    scores: LabelledScores,
    *,
    min_cells: int,
    specificity: float = SPECIFICITY,
    reader: str = NO_READER_USED,
    pooled: PatientCalibration | None = None,
) -> PatientCalibration:
    """Fits a calibration on validation patients.

    Args:
        scores: of healthy referrals and carriers.
        min_cells: cells that a type needs to be counted.
        specificity: of patients, for the threshold.
        reader: version of the reader whose log odds the scores hold.
        pooled: calibration of all hospitals, for the fit of one: type offsets and the reader's
            weight are taken from it, and scales are fitted around its scales.

    Raises:
        DataError: there is no healthy referral or no carrier, or no type has enough cells.
    """
    counted_G = scores.num_cells_G >= min_cells
    if not counted_G.any():
        raise DataError(f"no type of any validation patient has {min_cells} cells; lower min_cells")
    logit_G, abnormal_G = scores.logit_G[counted_G], scores.abnormal_G[counted_G]
    chromosome_G = scores.chromosome_G[counted_G]
    read_G = scores.read_G[counted_G]
    if pooled is None:
        read_weight = fit_weight(logit_G, read_G, abnormal_G)
        offsets = fit_offsets(logit_G + read_weight * read_G, abnormal_G, chromosome_G)
    else:  # one hospital has too few patients for 24 offsets, and normal variation is alike
        read_weight, offsets = pooled.read_weight, pooled.type_offsets
    moved_G = logit_G + read_weight * read_G + np.asarray(offsets)[chromosome_G]
    type_scale = fit_scale(moved_G, abnormal_G, around=pooled.type_scale if pooled else None)
    score_J = combine(type_scale(moved_G), scores.patient_G[counted_G], len(scores.hospital_J))
    judged_J = np.isfinite(score_J)
    normal_J = judged_J & ~scores.abnormal_J
    num_abnormal = int((judged_J & scores.abnormal_J).sum())
    return PatientCalibration(
        hospitals=tuple(sorted(set(scores.hospital_J))),
        num_normal=int(normal_J.sum()),
        num_abnormal=num_abnormal,
        type_scale=type_scale,
        type_offsets=offsets,
        cell_scale=fit_scale(
            scores.logit_N, scores.abnormal_N, around=pooled.cell_scale if pooled else None
        ),
        patient_scale=fit_scale(
            score_J[judged_J],
            scores.abnormal_J[judged_J],
            around=pooled.patient_scale if pooled else None,
        ),
        threshold=threshold_for_specificity(score_J[normal_J], specificity),
        specificity=specificity,
        types_per_patient=float(abnormal_G.sum() / max(num_abnormal, 1)),
        min_cells=min_cells,
        reader=reader,
        read_weight=read_weight,
    )


def fit_hospitals(
    scores: LabelledScores,
    *,
    min_cells: int,
    specificity: float = SPECIFICITY,
    reader: str = NO_READER_USED,
    min_patients: int = 5,
    leave_out: bool = False,
) -> dict[str, PatientCalibration]:
    """A calibration for every hospital, and one for all of them together.

    A hospital gets that of all hospitals if its validation patients include fewer than
    ``min_patients`` healthy referrals or carriers, or if its carriers have too few cells to be
    counted; :attr:`PatientCalibration.hospitals` shows it.

    Args:
        scores: of validation patients.
        min_cells: cells that a type needs to be counted.
        specificity: of patients.
        reader: version of the reader whose log odds the scores hold.
        min_patients: fewest of either kind for a calibration of a hospital's own.
        leave_out: fit each hospital's calibration on the patients of all others: the situation of
            a hospital without labelled patients.

    Raises:
        DataError: all hospitals together lack healthy referrals or carriers.
    """
    hospital_J = np.array(scores.hospital_J)
    settings: dict[str, Any] = {
        "min_cells": min_cells,
        "specificity": specificity,
        "reader": reader,
    }
    pooled = fit_patients(scores, **settings)
    found = {ALL_HOSPITALS: pooled}
    for hospital in sorted(set(scores.hospital_J)):
        own_J = hospital_J == hospital
        carriers = int(scores.abnormal_J[own_J].sum())
        enough = min(carriers, int(own_J.sum()) - carriers) >= min_patients
        if leave_out:
            found[hospital] = fit_patients(scores.of(~own_J), **settings)
            continue
        found[hospital] = pooled
        if enough:
            with contextlib.suppress(DataError):
                found[hospital] = fit_patients(scores.of(own_J), **settings, pooled=pooled)
    return found
