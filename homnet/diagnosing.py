"""From a patient's pairs to a verdict: scores, findings, rules.

Shape suffixes: G types of patients, N assessable pairs, J patients.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit

from homnet.assessment import NOTHING_SENT, Assessment, assess
from homnet.checkpoint import Checkpoint
from homnet.chromosomes import CHROMOSOME_INDEX
from homnet.clonality import Clone, estimate_clone
from homnet.errors import CheckpointError, DataError
from homnet.finding import Finding, FindingReader, unread
from homnet.joint import JointModel, score_jointly
from homnet.labelled_scores import LabelledScores
from homnet.nomenclature_draft import draft_name
from homnet.patient_calibration import (
    ALL_HOSPITALS,
    PatientCalibration,
    combine,
)
from homnet.patient_notes import missing_homologs, notes
from homnet.patient_verdict import (
    Abstention,
    PatientVerdict,
    TypeVerdict,
    VerdictConfig,
    abstain,
    explain,
    flag_types,
    karyotype_types,
    one_cell_only,
)
from homnet.predictor import Predictor

_LEAST_PROBABILITY: Final = 1e-6
"""A cell's probability is kept this far from 0 and 1 before its odds are taken."""


@dataclass(frozen=True)
class PatientScores:
    """Uncalibrated scores of all pairs of some patients."""

    assessment: Assessment
    """The pairs, type by type."""
    logit_G: NDArray[np.float64]
    """Logit of each type, all cells together."""
    logit_N: NDArray[np.float64]
    """Logit of each pair, as a bag of one."""

    @property
    def num_cells_G(self) -> NDArray[np.int64]:
        """Assessable cells of each type."""
        sizes = np.bincount(
            self.assessment.type_B,
            self.assessment.bags.size_B,
            minlength=len(self.assessment.types),
        )
        return np.asarray(sizes, np.int64)

    @property
    def chromosome_G(self) -> NDArray[np.int64]:
        """Index of each type, 0..23."""
        names = [who.chromosome for who in self.assessment.types]
        return np.array([CHROMOSOME_INDEX[name] for name in names], np.int64)

    @property
    def type_N(self) -> NDArray[np.int64]:
        """Type of each pair."""
        return np.repeat(self.assessment.type_B, self.assessment.bags.size_B)


def score_patients(model: JointModel, table: pa.Table) -> PatientScores:
    """Scores types and single cells in one pass.

    Args:
        model: of the patients' hospital.
        table: pairs that passed :func:`homnet.pair_checks.check_measured`, whole patients.
    """
    assessment = assess(table)
    bags = assessment.bags
    evidence = score_jointly([model], bags, np.zeros(len(bags), np.int64))
    # Eq. 10 adds pairs up, so a bag of one is what its pair adds, and the bias.
    bias = float(model.model.bag.bag.bias.item())
    return PatientScores(assessment, assessment.of_types(evidence.logit_B), evidence.added_N + bias)


def labelled_scores(scores: PatientScores, table: pa.Table) -> LabelledScores:
    """Puts the truth of a cohort beside scores.

    Args:
        scores: of the table.
        table: with the column ``abnormal``. Patients without an assessable pair are left out.
    """
    assessment = scores.assessment
    abnormal_N = table["abnormal"].to_numpy()[assessment.row_N]
    type_N = scores.type_N
    patients = list(dict.fromkeys((who.hospital, who.patient_id) for who in assessment.types))
    number = {patient: j for j, patient in enumerate(patients)}
    patient_G = np.array(
        [number[who.hospital, who.patient_id] for who in assessment.types], np.int64
    )
    # A patient is a carrier also where the abnormal type is not assessable.
    frame = table.select(["hospital", "patient_id", "abnormal"]).to_pandas()
    carriers = frame.groupby(["hospital", "patient_id"])["abnormal"].any()
    return LabelledScores(
        hospital_J=tuple(hospital for hospital, _ in patients),
        abnormal_J=np.array([bool(carriers[patient]) for patient in patients], np.bool_),
        patient_G=patient_G,
        chromosome_G=scores.chromosome_G,
        num_cells_G=scores.num_cells_G,
        logit_G=scores.logit_G,
        abnormal_G=np.bincount(type_N, abnormal_N, minlength=len(assessment.types)) > 0,
        patient_N=patient_G[type_N],
        logit_N=scores.logit_N,
        abnormal_N=abnormal_N,
    )


class Diagnostician:
    """Gives verdicts on the patients of hospitals that one checkpoint is calibrated for."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: VerdictConfig | None = None,
        reader: FindingReader | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Takes a checkpoint that was calibrated for patients.

        Raises:
            CheckpointError: it was not, or it is no HomNet.
        """
        if not checkpoint.patients:
            raise CheckpointError(
                "the checkpoint is not calibrated for whole patients; run "
                "jobs/diagnose.py calibrate first and give its output"
            )
        self._patients = checkpoint.patients
        self._config = config or VerdictConfig()
        self._reader = reader
        self._model = JointModel(
            Predictor(
                checkpoint.build(),
                checkpoint.calibration,
                version=checkpoint.version,
                device=device,
            )
        )

    def calibration_of(self, hospital: str) -> PatientCalibration:
        """The calibration that a hospital's patients are judged by.

        Raises:
            CheckpointError: there is none, not even one of all hospitals.
        """
        found = self._patients.get(hospital) or self._patients.get(ALL_HOSPITALS)
        if found is None:
            raise CheckpointError(
                f"the checkpoint has no calibration of patients for {hospital}; run "
                "jobs/diagnose.py calibrate with it"
            )
        return found

    def __call__(self, table: pa.Table) -> list[PatientVerdict]:
        """Verdicts on whole patients, by hospital and name.

        Args:
            table: all pairs of some patients of one hospital, as of
                :data:`homnet.pairs.MEASURED`. Truth is not looked at.

        Raises:
            DataError: the table mixes hospitals.
            CheckpointError: there is no calibration for the hospital.
        """
        hospitals = table["hospital"].unique().to_pylist()
        if len(hospitals) != 1:
            raise DataError(f"give the patients of one hospital at a time, not of {hospitals}")
        calibration = self.calibration_of(hospitals[0])
        scores = score_patients(self._model, table)
        assessment = scores.assessment
        prevalence = self._config.prevalence or calibration.prevalence
        evidence_G = calibration.type_evidence(scores.logit_G, scores.chromosome_G)
        probability_G = calibration.type_probability(evidence_G, prevalence)
        cell_N = expit(calibration.cell_scale(scores.logit_N))
        found = unread(assessment, probability_G, cell_N)
        if self._reader is not None and found:
            read = self._reader(assessment, probability_G)
            found = [_completed(one, own) for one, own in zip(read, found, strict=True)]
        rows = table.select(["patient_id", "cell_id", "band_level"]).to_pandas()
        cells = {
            str(patient): dict(zip(own["cell_id"], own["band_level"].astype(int), strict=True))
            for patient, own in rows.drop_duplicates(["patient_id", "cell_id"])
            .sort_values("cell_id")
            .groupby("patient_id")
        }
        of_patient: dict[str, list[int]] = {patient: [] for patient in cells}
        for g, who in enumerate(assessment.types):
            of_patient[who.patient_id].append(g)
        return [
            self._verdict(
                hospitals[0],
                patient,
                cells[patient],
                [found[g] for g in numbers],
                evidence_G[numbers],
                scores.num_cells_G[numbers],
                assessment,
                calibration,
            )
            for patient, numbers in sorted(of_patient.items())
        ]

    def _verdict(
        self,
        hospital: str,
        patient_id: str,
        cells: dict[str, int],
        findings: Sequence[Finding],
        evidence_G: NDArray[np.float64],
        num_cells_G: NDArray[np.int64],
        assessment: Assessment,
        calibration: PatientCalibration,
    ) -> PatientVerdict:
        counted_G = num_cells_G >= calibration.min_cells
        left_out = assessment.left_out.get((hospital, patient_id), NOTHING_SENT)
        prevalence = self._config.prevalence or calibration.prevalence
        score, flagged_G = None, np.zeros(len(findings), np.bool_)
        if counted_G.any():
            own = evidence_G[counted_G]
            score = float(combine(own, np.zeros(len(own), np.int64), 1)[0])
            if score >= calibration.threshold:
                flagged_G[counted_G] = flag_types(own, calibration.threshold)
        types = self._types(findings, evidence_G, counted_G, flagged_G, calibration)
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
        flagged = sorted(
            (one for one in types if one.flagged), key=lambda one: -(one.evidence or 0.0)
        )
        abstentions: list[Abstention] = abstain(
            cells=cells,
            num_counted=int(counted_G.sum()),
            min_cells=calibration.min_cells,
            config=self._config,
        )
        if flagged:
            lonely = one_cell_only(flagged)
            abstentions += [lonely] if lonely is not None else []
        missing = missing_homologs(left_out, len(cells))
        return PatientVerdict(
            hospital=hospital,
            patient_id=patient_id,
            decision="not_assessed"
            if abstentions
            else "abnormal"
            if flagged
            else "no_abnormality_found",
            abstentions=tuple(abstentions),
            score=score,
            threshold=calibration.threshold,
            probability=None
            if score is None
            else calibration.patient_probability(score, prevalence),
            prevalence=prevalence,
            types=tuple(complete),
            cells=cells,
            notes=notes(flagged, missing, len(cells)),
            versions={
                "model": self._model.predictor.version,
                "calibration": calibration_digest(calibration),
                "calibrated_on": ", ".join(calibration.hospitals),
                "reader": "none" if self._reader is None else self._reader.version,
            },
        )

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
            reasons = [one.reason for one in finding.not_answered if one.question == "abnormal"]
            if not counted:
                reasons.append(
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
                    not_assessed=tuple(reasons),
                )
            )
        return found


def calibration_digest(calibration: PatientCalibration) -> str:
    """What a report names as the calibration."""
    content = json.dumps(calibration.to_json(), sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _clone(finding: Finding) -> Clone:
    """The cells that show an abnormality, from the odds of each."""
    probability_K = np.array(
        [cell.probability for cell in finding.cells if cell.probability is not None], float
    )
    odds_K = logit(np.clip(probability_K, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY))
    return estimate_clone(np.asarray(odds_K))


def _completed(read: Finding, own: Finding) -> Finding:
    """A reader's finding, with HomNet's own evidence of each cell.

    Clones are judged by it, and with them the verdict, which no reader changes: its cells know of
    each other and of how often its lessons were abnormal.
    """
    of_cell = {cell.cell_id: cell.probability for cell in own.cells}
    given = {cell.cell_id for cell in read.cells}
    cells = [replace(cell, probability=of_cell.get(cell.cell_id)) for cell in read.cells]
    cells += [cell for cell in own.cells if cell.cell_id not in given]
    return replace(read, cells=tuple(sorted(cells, key=lambda cell: cell.cell_id)))
