"""Calibrates scores of types, cells and patients to evidence and thresholds, per hospital.

Calibrations are fitted on validation patients: people of the hospital who are in neither the
training nor the test split. *Healthy referrals* are those without an abnormal pair. Specificity
refers to them: they were referred to the same laboratory for the same reasons as the carriers, and
were prepared, stained and imaged in the same way. Healthy people of a pre-training cohort are no
substitute: they come from one laboratory and have a different number of cells.

*Evidence* is a log likelihood ratio, abnormal over normal, which does not depend on prevalence.
Prevalence is a setting: :attr:`homnet.patients.verdict.VerdictConfig.prevalence`.

Shape suffixes: N pairs, G types of patients, J patients.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
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
"""Required share of healthy referrals called normal, as in the published clinical figure."""
NO_READER_USED: Final = "none"
"""Version of the reader if none was used."""
READ_SHARE: Final = 0.2
"""Share of the types of healthy referrals that a reader reads (LAB.md, 2026-11-28)."""
FORMAT: Final = 3
"""Version of :meth:`PatientCalibration.to_json`; checkpoints ignore other versions. Version 2 read
every type."""
NUM_TYPES: Final = 23
"""Number of chromosome types in a karyotype; X and Y count as one."""


@dataclass(frozen=True)
class PatientCalibration:
    """Converts the scores of one hospital to evidence, probabilities and calls."""

    hospitals: tuple[str, ...]
    """Hospitals whose validation patients it was fitted on."""
    num_normal: int
    """Number of healthy referrals among them."""
    num_abnormal: int
    """Number of carriers of an abnormality among them."""
    type_scale: Scale
    """Maps logits of types, with offsets added, to evidence."""
    type_offsets: tuple[float, ...]
    """Offsets of the logits of the 24 types."""
    cell_scale: Scale
    """Maps logits of single cells to evidence."""
    patient_scale: Scale
    """Maps scores of :func:`combine` to evidence for probabilities; the threshold is on scores."""
    threshold: float
    """Patients are called abnormal if their score of :func:`combine` is at least this."""
    specificity: float
    """Specificity that the threshold was set for."""
    types_per_patient: float
    """Mean number of abnormal types of an abnormal patient; a translocation changes two."""
    min_cells: int
    """Minimum number of cells of a type, in the fit and in every verdict."""
    reader: str = NO_READER_USED
    """Version of the reader whose log odds are included."""
    read_weight: float = 0.0
    """Factor of the reader's log odds in their sum with logits of types."""
    read_from: float | None = None
    """Types whose logit, with the offset added, is at least this are read; None reads all."""
    unread_evidence: float = 0.0
    """Evidence of the types below :attr:`read_from`, which are excluded without being read: the log
    ratio of the shares of abnormal and of normal types that are."""
    samples_per_px: float | None = None
    """Scale of the sequences it was fitted on; None if the hospitals have several."""

    @property
    def prevalence(self) -> float:
        """Share of carriers among the validation patients."""
        return self.num_abnormal / (self.num_normal + self.num_abnormal)

    @property
    def supported_specificity(self) -> float:
        """Highest specificity that this number of healthy referrals can guarantee."""
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
            logit_G: logits of the types.
            chromosome_G: indices of the types, 0..23.
            read_G: log odds of the reader; NaN for types that were not read.
        """
        moved_G = self._moved(logit_G, chromosome_G)
        evidence_G = self.type_scale(moved_G + self.read_weight * read_G)
        return np.where(np.isnan(read_G), self.unread_evidence, evidence_G)

    def to_read(
        self, logit_G: Floats, chromosome_G: NDArray[np.int64], num_cells_G: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which types (G) the reader has to read: HomNet's logit cannot exclude them.

        Args:
            logit_G: logits of the types.
            chromosome_G: indices of the types, 0..23.
            num_cells_G: number of cells of each type.
        """
        counted_G: NDArray[np.bool_] = num_cells_G >= self.min_cells
        if self.reader == NO_READER_USED:
            return np.zeros(len(logit_G), np.bool_)
        if self.read_from is None:
            return counted_G
        return np.asarray(counted_G & (self._moved(logit_G, chromosome_G) >= self.read_from))

    def _moved(self, logit_G: Floats, chromosome_G: NDArray[np.int64]) -> Floats:
        return np.asarray(logit_G + np.asarray(self.type_offsets)[chromosome_G])

    def type_prior(self, prevalence: float) -> float:
        """Prior probability that a type is abnormal, at most 0.5."""
        return min(prevalence * self.types_per_patient / NUM_TYPES, 0.5)

    def type_probability(self, evidence_G: Floats, prevalence: float) -> Floats:
        """Probability that each type is abnormal."""
        return np.asarray(expit(evidence_G + logit(self.type_prior(prevalence))))

    def patient_probability(self, score: float, prevalence: float) -> float:
        """Probability that a patient with a score of :func:`combine` is abnormal."""
        return float(expit(self.patient_scale(np.array(score)) + logit(prevalence)))

    def hospitals_for(self, hospital: str) -> list[str]:
        """:attr:`hospitals` as an answer to one of them may say it: no other one by name.

        Args:
            hospital: whose patients the answer is on.

        Returns:
            Its own name, if its patients were used, and the number of the others.
        """
        num_others = sum(name != hospital for name in self.hospitals)
        own = [hospital] if hospital in self.hospitals else []
        if not num_others:
            return own
        noun = "hospital" if num_others == 1 else "hospitals"
        return [*own, f"{num_others} other {noun}" if own else f"{num_others} {noun}"]

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
    patient is the mean of those of the types. Two abnormal types, as after a translocation, give a
    higher ratio than either of them alone.

    Args:
        evidence_G: log likelihood ratio of each type.
        patient_G: patient of each type, 0..num_patients - 1.
        num_patients: number of patients, J.

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

    Among n healthy referrals and the next one, all ranks are equally likely. So the next score
    exceeds the j-th lowest with a probability of at most 1 - j / (n + 1) (conformal prediction;
    Vovk 2005). With n below 1 / (1 - specificity) - 1 no threshold can guarantee the specificity;
    the threshold is then just above all scores. Scales and offsets that were fitted to the same
    patients make the scores of the next one a little less alike than this assumes.

    Args:
        normal_J: scores of healthy referrals.
        specificity: required specificity, below 1.

    Raises:
        DataError: there are no healthy referrals.
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
    read_share: float = READ_SHARE,
    pooled: PatientCalibration | None = None,
) -> PatientCalibration:
    """Fits a calibration on validation patients.

    Args:
        scores: scores of healthy referrals and carriers.
        min_cells: minimum number of cells of a type.
        specificity: specificity of the threshold, over patients.
        reader: version of the reader whose log odds are in the scores.
        read_share: share of the types of healthy referrals that are read; 1 reads all types.
        pooled: calibration of all hospitals, for the fit of one. Type offsets and the reader's
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
    else:  # one hospital has too few patients for 24 offsets; normal variation is similar
        read_weight, offsets = pooled.read_weight, pooled.type_offsets
    own_G = logit_G + np.asarray(offsets)[chromosome_G]
    read_from = None
    if reader != NO_READER_USED and read_share < 1 and not abnormal_G.all():
        read_from = float(np.quantile(own_G[~abnormal_G], 1 - read_share))
    chosen_G = np.ones(len(own_G), np.bool_) if read_from is None else own_G >= read_from
    # The scale gives the ratio among the types that are read; being read is evidence, too.
    of_read, of_unread = (_share_ratio(those_G, abnormal_G) for those_G in (chosen_G, ~chosen_G))
    moved_G = own_G + read_weight * read_G
    around = pooled.type_scale if pooled else None
    if around is not None and read_from is not None:
        around = replace(around, shift=around.shift - of_read)
    type_scale = fit_scale(moved_G[chosen_G], abnormal_G[chosen_G], around=around)
    if read_from is not None:
        type_scale = replace(type_scale, shift=type_scale.shift + of_read)
    evidence_G = np.where(chosen_G, type_scale(moved_G), of_unread)
    score_J = combine(evidence_G, scores.patient_G[counted_G], len(scores.hospital_J))
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
        read_from=read_from,
        unread_evidence=0.0 if read_from is None else of_unread,
    )


def _share_ratio(those_G: NDArray[np.bool_], abnormal_G: NDArray[np.bool_]) -> float:
    """Log ratio of the shares of abnormal and of normal types that are among ``those_G``."""
    shares = [
        (those_G[own_G].sum() + 0.5) / (own_G.sum() + 1) for own_G in (abnormal_G, ~abnormal_G)
    ]
    return float(math.log(shares[0] / shares[1]))


def fit_hospitals(
    scores: LabelledScores,
    *,
    min_cells: int,
    specificity: float = SPECIFICITY,
    reader: str = NO_READER_USED,
    read_share: float = READ_SHARE,
    min_patients: int = 5,
) -> dict[str, PatientCalibration]:
    """Fits a calibration for every hospital, and one for all hospitals together.

    A hospital gets the calibration of all hospitals if it has fewer than ``min_patients`` healthy
    referrals or carriers among its validation patients, or if its carriers have too few cells.
    :attr:`PatientCalibration.hospitals` shows which.

    Args:
        scores: scores of validation patients.
        min_cells: minimum number of cells of a type.
        specificity: specificity over patients.
        reader: version of the reader whose log odds are in the scores.
        read_share: share of the types of healthy referrals that are read; 1 reads all types.
        min_patients: minimum number of healthy referrals, and of carriers, for a calibration of a
            hospital's own.

    Raises:
        DataError: all hospitals together lack healthy referrals or carriers.
    """
    hospital_J = np.array(scores.hospital_J)
    settings: dict[str, Any] = {
        "min_cells": min_cells,
        "specificity": specificity,
        "reader": reader,
        "read_share": read_share,
    }
    pooled = fit_patients(scores, **settings)
    found = {ALL_HOSPITALS: pooled}
    for hospital in sorted(set(scores.hospital_J)):
        own_J = hospital_J == hospital
        carriers = int(scores.abnormal_J[own_J].sum())
        enough = min(carriers, int(own_J.sum()) - carriers) >= min_patients
        found[hospital] = pooled
        if enough:
            with contextlib.suppress(DataError):
                found[hospital] = fit_patients(scores.of(own_J), **settings, pooled=pooled)
    return found
