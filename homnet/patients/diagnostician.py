"""From a patient's pairs to a verdict: scores, findings, rules.

Shape suffixes: G types of patients, N assessable pairs, J patients.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit

from homnet.bags.assessment import NOTHING_SENT, Assessment
from homnet.calibration.patients import (
    ALL_HOSPITALS,
    NO_READER_USED,
    PatientCalibration,
    combine,
)
from homnet.errors import CheckpointError, DataError
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.patients.across_types import missing_homologs, notes, with_partners
from homnet.patients.clonality import Clone, estimate_clone
from homnet.patients.finding import Finding, FindingReader, unread
from homnet.patients.naming import draft_name
from homnet.patients.scores import LEAST_PROBABILITY, score_patients
from homnet.patients.verdict import (
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


class Diagnostician:
    """Gives verdicts on patients of the hospitals for which a checkpoint is calibrated."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: VerdictConfig | None = None,
        reader: FindingReader | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Takes a checkpoint with a patient calibration, and optionally a reader.

        Raises:
            CheckpointError: it has no patient calibration, or its model is not HomNet.
        """
        if not checkpoint.patients:
            raise CheckpointError(
                "the checkpoint is not calibrated for whole patients, or was by another version; "
                "run jobs/diagnose.py calibrate first and give its output"
            )
        self._patients = checkpoint.patients
        self._config = config or VerdictConfig()
        self._reader = reader
        self._predictor = Predictor.of_checkpoint(checkpoint, device)
        self._predictor.homnet()

    def calibration_of(self, hospital: str) -> PatientCalibration:
        """The calibration for a hospital's patients: its own, or else that of all hospitals.

        Raises:
            CheckpointError: there is none, or it was fitted with another reader.
        """
        found = self._patients.get(hospital) or self._patients.get(ALL_HOSPITALS)
        if found is None:
            raise CheckpointError(
                f"the checkpoint has no calibration of patients for {hospital}; run "
                "jobs/diagnose.py calibrate with it"
            )
        version = NO_READER_USED if self._reader is None else self._reader.version
        if found.reader not in {NO_READER_USED, version}:
            raise CheckpointError(
                f"the checkpoint was calibrated for {hospital} together with the reader "
                f"{found.reader[:12]}, and its verdicts need that one (--findings); given is "
                f"{version[:12]}"
            )
        return found

    def __call__(self, table: pa.Table) -> list[PatientVerdict]:
        """Gives verdicts on whole patients, in order of their names.

        Args:
            table: all pairs of some patients of one hospital, as in
                :data:`homnet.cohorts.pairs.MEASURED`. Truth columns are ignored.

        Raises:
            DataError: the table mixes hospitals.
            CheckpointError: there is no calibration for the hospital.
        """
        hospitals = table["hospital"].unique().to_pylist()
        if len(hospitals) != 1:
            raise DataError(f"give the patients of one hospital at a time, not of {hospitals}")
        calibration = self.calibration_of(hospitals[0])
        scores = score_patients(self._predictor, table, self._reader)
        assessment = scores.assessment
        prevalence = self._config.prevalence or calibration.prevalence
        evidence_G = calibration.type_evidence(scores.logit_G, scores.chromosome_G, scores.read_G)
        probability_G = calibration.type_probability(evidence_G, prevalence)
        cell_N = expit(calibration.cell_scale(scores.logit_N))
        found = unread(assessment, probability_G, cell_N)
        if scores.read:
            found = [_completed(one, own) for one, own in zip(scores.read, found, strict=True)]
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
        findings = with_partners(findings, np.where(counted_G, evidence_G, np.nan))
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
                "model": self._predictor.version,
                "calibration": calibration_digest(calibration),
                "calibrated_on": ", ".join(calibration.hospitals),
                "reader": NO_READER_USED if self._reader is None else self._reader.version,
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
