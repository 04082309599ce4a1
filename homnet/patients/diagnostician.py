"""The one verdict on a patient: evidence and findings in, decision out.

A batch job computes evidence block by block, an endpoint through its queue; both call
:class:`Diagnostician` in two steps. It first says which types a reader has to read, then judges.

Shape suffixes: G types of patients, N assessable pairs, J patients.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import expit, logit

from homnet.bags.assessment import NOTHING_SENT, Assessment, NotAssessed, assess
from homnet.calibration.patients import (
    ALL_HOSPITALS,
    NO_READER_USED,
    PatientCalibration,
    combine,
)
from homnet.cohorts.pairs import LEVEL_ESTIMATED, MEASURED, TURNED
from homnet.errors import CheckpointError, DataError
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Evidence, Predictor
from homnet.patients.across_types import (
    missing_homologs,
    notes,
    of_one_clone,
    quality_notes,
    with_joint_draft,
    with_partners,
)
from homnet.patients.clonality import Clone, estimate_clone
from homnet.patients.finding import NO_READER, NOT_READ, Finding, FindingReader, unread
from homnet.patients.naming import draft_name
from homnet.patients.scores import LEAST_PROBABILITY, read_log_odds, score_patients
from homnet.patients.verdict import (
    Abstention,
    PatientVerdict,
    TypeVerdict,
    VerdictConfig,
    abstain,
    by_evidence,
    explain,
    flag_types,
    karyotype_types,
    one_cell_only,
)


class Diagnostician:
    """Gives verdicts on patients, from evidence that a batch job or an endpoint computed."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: VerdictConfig | None = None,
        *,
        reader: str = NO_READER_USED,
    ) -> None:
        """Takes the calibrations of a checkpoint.

        Args:
            checkpoint: model with calibrations of patients; a hospital without one is not assessed.
            config: limits and prevalence.
            reader: version of the reader that makes the findings, if there is one.

        Raises:
            CheckpointError: a calibration was fitted with another reader.
        """
        for hospital, one in checkpoint.patients.items():
            if one.reader not in {NO_READER_USED, reader}:
                raise CheckpointError(
                    f"the checkpoint was calibrated for {hospital} together with the reader "
                    f"{one.reader[:12]}, and its verdicts need that one (--findings); given is "
                    f"{reader[:12]}"
                )
        self._calibrations = checkpoint.patients
        self._config = config or VerdictConfig()
        self._model, self._reader = checkpoint.version, reader

    def check(self, model: str, reader: str) -> None:
        """Refuses evidence of another model, and findings of another reader.

        Raises:
            CheckpointError: a version is not the one that this was made for.
        """
        for what, given, own in (
            ("model", model, self._model),
            ("reader", reader, self._reader),
        ):
            if given != own:
                raise CheckpointError(
                    f"this Diagnostician was made for the {what} {own[:12]}, and given is "
                    f"{given[:12]}; use one checkpoint and one reader for both"
                )

    def calibration_of(self, hospital: str) -> PatientCalibration | None:
        """The calibration for a hospital's patients: its own, or that of all hospitals, or None."""
        return self._calibrations.get(hospital) or self._calibrations.get(ALL_HOSPITALS)

    def types_to_read(
        self, hospital: str, assessment: Assessment, evidence: Evidence
    ) -> NDArray[np.int64]:
        """Indices of a hospital's types that the reader has to read before :meth:`judge`.

        If the reader counts, these are the types that HomNet cannot exclude; otherwise the types
        that the verdicts rest on, whose kind and place are to be shown.

        Args:
            hospital: whose patients.
            assessment: pairs of whole patients, of this hospital and perhaps of others.
            evidence: scores of its bags.
        """
        calibration = self.calibration_of(hospital)
        if self._reader == NO_READER_USED or calibration is None:
            return np.zeros(0, np.int64)
        scores = score_patients(assessment, evidence)
        own_G = np.array([who.hospital == hospital for who in assessment.types], np.bool_)
        if calibration.reader != NO_READER_USED:
            chosen_G = calibration.to_read(scores.logit_G, scores.chromosome_G, scores.num_cells_G)
            return np.flatnonzero(chosen_G & own_G)
        flagged = {
            (verdict.patient_id, one.chromosome)
            for verdict in self.judge(hospital, assessment, evidence)
            for one in verdict.flagged
        }
        return np.array(
            [
                g
                for g, who in enumerate(assessment.types)
                if own_G[g] and (who.patient_id, who.chromosome) in flagged
            ],
            np.int64,
        )

    def judge(
        self,
        hospital: str,
        assessment: Assessment,
        evidence: Evidence,
        findings: Mapping[int, Finding] = MappingProxyType({}),
    ) -> list[PatientVerdict]:
        """Gives verdicts on the patients of a hospital, in order of their names.

        Args:
            hospital: whose patients.
            assessment: pairs of whole patients, of this hospital and perhaps of others.
            evidence: scores of its bags.
            findings: what the reader says, by index of the type (:meth:`types_to_read`).

        Raises:
            DataError: the reader counts, and a type that it has to read has no finding.
        """
        calibration = self.calibration_of(hospital)
        scores = score_patients(assessment, evidence)
        if calibration is not None and calibration.reader != NO_READER_USED:
            to_read_G = calibration.to_read(scores.logit_G, scores.chromosome_G, scores.num_cells_G)
            # Without its finding a type would count as one that HomNet can exclude.
            for g in np.flatnonzero(to_read_G).tolist():
                if assessment.types[g].hospital == hospital and g not in findings:
                    raise DataError(
                        f"{'/'.join(assessment.types[g])}: the reader has to read this type; "
                        "give its finding, from read_types"
                    )
        num_types = len(assessment.types)
        probability_G: Sequence[float | None] = [None] * num_types
        evidence_G, cell_N = np.full(num_types, np.nan), None
        if calibration is not None:
            reads = calibration.reader != NO_READER_USED
            read_G = read_log_odds(num_types, findings if reads else {}, reads=reads)
            evidence_G = calibration.type_evidence(scores.logit_G, scores.chromosome_G, read_G)
            probability_G = calibration.type_probability(
                evidence_G, self.prevalence_of(calibration)
            ).tolist()
            cell_N = expit(calibration.cell_scale(scores.logit_N))
        why = NOT_READ if self._reader != NO_READER_USED else NO_READER
        found = unread(assessment, probability_G, cell_N, why)
        for g, one in findings.items():
            found[g] = _completed(one, found[g])
        of_patient: dict[str, list[int]] = {
            patient: [] for where, patient in sorted(assessment.left_out) if where == hospital
        }
        for g, who in enumerate(assessment.types):
            if who.hospital == hospital:
                of_patient[who.patient_id].append(g)
        return [
            self._verdict(
                (hospital, patient),
                [found[g] for g in numbers],
                evidence_G[numbers],
                scores.num_cells_G[numbers],
                assessment,
                calibration,
            )
            for patient, numbers in of_patient.items()
        ]

    def prevalence_of(self, calibration: PatientCalibration) -> float:
        """Share of carriers that probabilities assume: the setting, or that of the calibration."""
        return self._config.prevalence or calibration.prevalence

    def _verdict(
        self,
        patient: tuple[str, str],
        findings: Sequence[Finding],
        evidence_G: NDArray[np.float64],
        num_cells_G: NDArray[np.int64],
        assessment: Assessment,
        calibration: PatientCalibration | None,
    ) -> PatientVerdict:
        if calibration is None:
            return self._uncalibrated(patient, findings, assessment)
        counted_G = num_cells_G >= calibration.min_cells
        cells = assessment.levels.get(patient, {})
        score, flagged_G = None, np.zeros(len(findings), np.bool_)
        if counted_G.any():
            own = evidence_G[counted_G]
            score = float(combine(own, np.zeros(len(own), np.int64), 1)[0])
            if score >= calibration.threshold:
                flagged_G[counted_G] = flag_types(own, calibration.threshold)
        findings = with_partners(findings, np.where(counted_G, evidence_G, np.nan))
        types = self._types(findings, evidence_G, counted_G, flagged_G, calibration)
        types, no_clones = of_one_clone(types)
        types = with_joint_draft(types)
        flagged = by_evidence(types)
        abstentions: list[Abstention] = abstain(
            cells=cells,
            num_counted=int(counted_G.sum()),
            min_cells=calibration.min_cells,
            config=self._config,
        )
        if flagged:
            lonely = one_cell_only(flagged)
            abstentions += [lonely] if lonely is not None else []
        left_out = assessment.left_out.get(patient, NOTHING_SENT)
        missing = missing_homologs(left_out, {one.chromosome for one in findings}, len(cells))
        prevalence = self.prevalence_of(calibration)
        return PatientVerdict(
            hospital=patient[0],
            patient_id=patient[1],
            decision="not_assessed"
            if abstentions
            else "abnormal"
            if flagged
            else "no_abnormality_found",
            abstentions=tuple(abstentions),
            score=score,
            threshold=calibration.threshold,
            specificity=calibration.specificity,
            supported_specificity=calibration.supported_specificity,
            probability=None
            if score is None
            else calibration.patient_probability(score, prevalence),
            prevalence=prevalence,
            types=_complete(types, left_out),
            cells=cells,
            notes=(
                *notes(flagged, missing, len(cells)),
                *no_clones,
                *quality_notes(assessment, patient),
            ),
            versions=self._versions(patient[0], calibration),
            turned=assessment.flagged(TURNED, patient),
            num_levels_estimated=len(assessment.cells_flagged(LEVEL_ESTIMATED, patient)),
        )

    def _uncalibrated(
        self, patient: tuple[str, str], findings: Sequence[Finding], assessment: Assessment
    ) -> PatientVerdict:
        """The answer for a hospital without a calibration: never another rule."""
        cells = assessment.levels.get(patient, {})
        types = [
            TypeVerdict(
                one.chromosome,
                one,
                None,
                flagged=False,
                clone=None,
                draft=None,
                not_assessed=("no calibration",),
            )
            for one in findings
        ]
        return PatientVerdict(
            hospital=patient[0],
            patient_id=patient[1],
            decision="not_assessed",
            abstentions=(
                Abstention(
                    "not_calibrated",
                    f"the model has no calibration of patients for {patient[0]}, and without one "
                    "there is no threshold; run jobs/diagnose.py calibrate with patients of this "
                    "hospital",
                ),
            ),
            score=None,
            threshold=None,
            specificity=None,
            supported_specificity=None,
            probability=None,
            prevalence=self._config.prevalence,
            types=_complete(types, assessment.left_out.get(patient, NOTHING_SENT)),
            cells=cells,
            notes=quality_notes(assessment, patient),
            versions=self._versions(patient[0], None),
            turned=assessment.flagged(TURNED, patient),
            num_levels_estimated=len(assessment.cells_flagged(LEVEL_ESTIMATED, patient)),
        )

    def _versions(self, hospital: str, calibration: PatientCalibration | None) -> dict[str, str]:
        return {
            "model": self._model,
            "calibration": "none" if calibration is None else calibration_digest(calibration),
            "calibrated_on": "nobody"
            if calibration is None
            else " and ".join(calibration.hospitals_for(hospital)),
            "reader": self._reader,
        }

    @staticmethod
    def _types(
        findings: Sequence[Finding],
        evidence_G: NDArray[np.float64],
        counted_G: NDArray[np.bool_],
        flagged_G: NDArray[np.bool_],
        calibration: PatientCalibration,
    ) -> list[TypeVerdict]:
        found = []
        for finding, evidence, counted, flagged in zip(
            findings, evidence_G.tolist(), counted_G.tolist(), flagged_G.tolist(), strict=True
        ):
            too_few = (
                f"too few cells: both homologs in {len(finding.cells)}, and "
                f"{calibration.min_cells} are needed"
            )
            found.append(
                TypeVerdict(
                    chromosome=finding.chromosome,
                    finding=finding,
                    evidence=evidence if counted else None,
                    flagged=flagged,
                    clone=_clone(finding),
                    draft=draft_name(finding) if flagged else None,
                    not_assessed=() if counted else (too_few,),
                )
            )
        return found


def diagnose(
    judge: Diagnostician,
    predictor: Predictor,
    table: pa.Table,
    reader: FindingReader | None = None,
) -> list[PatientVerdict]:
    """Gives verdicts on a block of patients of one hospital, from pairs to decision.

    Args:
        judge: with the calibrations of the model.
        predictor: the model, a HomNet.
        table: all pairs of some patients, as in :data:`homnet.cohorts.pairs.MEASURED`. Truth
            columns are ignored.
        reader: the reader whose version ``judge`` was given.

    Raises:
        DataError: the table mixes hospitals.
        CheckpointError: the model is not HomNet, or model and reader are not those of ``judge``.
    """
    judge.check(predictor.version, NO_READER_USED if reader is None else reader.version)
    hospitals = table["hospital"].unique().to_pylist()
    if len(hospitals) != 1:
        raise DataError(f"give the patients of one hospital at a time, not of {hospitals}")
    assessment = assess(table)
    evidence = predictor.evidence(assessment.bags)
    findings: Mapping[int, Finding] = {}
    if reader is not None:
        chosen_G = judge.types_to_read(hospitals[0], assessment, evidence)
        findings = read_types(reader, assessment, chosen_G)
    return judge.judge(hospitals[0], assessment, evidence, findings)


def verdicts_on_unseen(
    judge: Diagnostician, hospital: str, patients: Sequence[str]
) -> list[PatientVerdict]:
    """Verdicts on patients of a hospital of whom no picture could be used: not assessed."""
    nobody = assess(MEASURED.empty_table())
    left_out = {(hospital, patient): NOTHING_SENT for patient in patients}
    return judge.judge(hospital, replace(nobody, left_out=left_out), Evidence.concatenate([]))


def read_types(
    reader: FindingReader, assessment: Assessment, chosen_G: NDArray[np.int64]
) -> dict[int, Finding]:
    """Reads some types of an assessment.

    Args:
        reader: finds kinds and places.
        assessment: pairs of whole patients.
        chosen_G: indices of the types, ascending.

    Returns:
        The findings by index of the type, for :meth:`Diagnostician.judge`.
    """
    if not len(chosen_G):
        return {}
    findings = reader(assessment.only(chosen_G))
    return dict(zip(chosen_G.tolist(), findings, strict=True))


def _complete(
    types: Sequence[TypeVerdict], left_out: Sequence[NotAssessed]
) -> tuple[TypeVerdict, ...]:
    """All types of a karyogram in order, each with the reasons why it was not assessed."""
    verdicts = {one.chromosome: one for one in types}
    reasons = explain(left_out, verdicts)
    present = [*verdicts, *(one.chromosome for one in left_out if one.cells)]
    complete = []
    for chromosome in karyotype_types(present):
        one = verdicts.get(chromosome)
        if one is None:
            one = TypeVerdict(chromosome, None, None, flagged=False, clone=None, draft=None)
        more = reasons.get(chromosome, ())
        complete.append(replace(one, not_assessed=(*one.not_assessed, *more)))
    return tuple(complete)


def calibration_digest(calibration: PatientCalibration) -> str:
    """SHA-256 digest by which reports name a calibration."""
    content = json.dumps(calibration.to_json(), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _clone(finding: Finding) -> Clone:
    """Estimates the clone of a finding from the probability of each cell."""
    probability_K = np.array(
        [cell.probability for cell in finding.cells if cell.probability is not None], float
    )
    odds_K = logit(np.clip(probability_K, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY))
    return estimate_clone(np.asarray(odds_K))


def _completed(read: Finding, own: Finding) -> Finding:
    """Replaces a reader's probabilities of type and cells by HomNet's calibrated ones.

    Clones need these: the reader's probability of a cell depends on the other cells and on the
    share of abnormal bags in its training.
    """
    of_cell = {cell.cell_id: cell.probability for cell in own.cells}
    given = {cell.cell_id for cell in read.cells}
    cells = [replace(cell, probability=of_cell.get(cell.cell_id)) for cell in read.cells]
    cells += [cell for cell in own.cells if cell.cell_id not in given]
    ordered = tuple(sorted(cells, key=lambda cell: cell.cell_id))
    return replace(read, probability=own.probability, cells=ordered)
