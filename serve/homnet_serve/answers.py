"""Turns scores into the results of an answer."""

import base64
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from homnet.bags.assessment import NOTHING_SENT, REASONS, Assessment
from homnet.model.predictor import Evidence, Predictor
from homnet.patients.finding import CellFinding, Finding, FindingReader
from homnet.patients.naming import draft_name
from homnet_serve.schemas import (
    Breakpoint,
    ModelOfHospital,
    NotAssessedType,
    PairEvidence,
    PatientResult,
    RefusedImage,
    Region,
    TypeFinding,
    TypeResult,
)

Sequences = Literal["none", "flagged", "all"]
"""Types whose sequences an answer includes, for drawing."""


def describe_model(hospital: str, version: str, predictor: Predictor) -> ModelOfHospital:
    """The description of a hospital's model in answers."""
    calibration = predictor.of(hospital)
    content = json.dumps(dataclasses.asdict(calibration), sort_keys=True).encode()
    return ModelOfHospital(
        hospital=hospital,
        version=version,
        weights=predictor.version,
        calibration=hashlib.sha256(content).hexdigest(),
        calibrated=hospital in predictor.calibration,
        threshold=calibration.threshold,
        temperature=calibration.temperature,
    )


def patient_results(
    assessment: Assessment,
    evidence: Evidence,
    predictors: Mapping[str, Predictor],
    *,
    sequences: Sequences = "none",
    refused: Mapping[tuple[str, str], list[RefusedImage]] | None = None,
    reader: FindingReader | None = None,
) -> list[PatientResult]:
    """One result per patient, sorted by hospital and name.

    Args:
        assessment: the bags.
        evidence: their scores.
        predictors: models that gave the scores, by hospital.
        sequences: types whose sequences to include.
        refused: images without a sequence, by hospital and patient.
        reader: reads kind and place of findings on abnormal types.
    """
    refused = refused or {}
    types = _type_results(assessment, evidence, predictors, sequences)
    if reader is not None:
        _read_findings(assessment, types, reader)
    found: dict[tuple[str, str], list[TypeResult]] = {
        patient: [] for patient in sorted({*assessment.left_out, *refused})
    }
    for kind, result in zip(assessment.types, types, strict=True):
        found[kind.hospital, kind.patient_id].append(result)
    return [
        PatientResult(
            hospital=patient[0],
            patient_id=patient[1],
            flagged=[result.chromosome for result in results if result.abnormal],
            types=results,
            not_assessed=[
                NotAssessedType(
                    chromosome=left.chromosome,
                    cells=list(left.cells),
                    reason=left.reason,
                    explanation=REASONS[left.reason],
                )
                for left in assessment.left_out.get(patient, NOTHING_SENT)
            ],
            refused_images=refused.get(patient, []),
        )
        for patient, results in found.items()
    ]


def _type_results(
    assessment: Assessment,
    evidence: Evidence,
    predictors: Mapping[str, Predictor],
    sequences: Sequences,
) -> list[TypeResult]:
    logit_G = assessment.of_types(evidence.logit_B)
    bags_G = np.bincount(assessment.type_B, minlength=len(logit_G))
    pairs_G = np.bincount(assessment.type_B, assessment.bags.size_B).astype(int)
    stop_G = np.cumsum(pairs_G)
    results = []
    for g, kind in enumerate(assessment.types):
        predictor = predictors[kind.hospital]
        probability = float(predictor.probabilities(logit_G[g], kind.hospital))
        abnormal = probability >= predictor.of(kind.hospital).threshold
        drawn = sequences == "all" or (sequences == "flagged" and abnormal)
        results.append(
            TypeResult.model_construct(
                chromosome=kind.chromosome,
                num_pairs=int(pairs_G[g]),
                num_bags=int(bags_G[g]),
                logit=float(logit_G[g]),
                probability=probability,
                abnormal=abnormal,
                pairs=[
                    PairEvidence.model_construct(
                        cell_id=assessment.cell_N[n],
                        weight=float(evidence.weight_N[n]),
                        added_logit=float(evidence.added_N[n]),
                        sequence=_encoded(assessment.bags.pair_NPCL[n]) if drawn else None,
                    )
                    for n in range(int(stop_G[g] - pairs_G[g]), int(stop_G[g]))
                ],
            )
        )
    return results


def _read_findings(
    assessment: Assessment, types: Sequence[TypeResult], reader: FindingReader
) -> None:
    """Adds the reader's findings to abnormal types; verdicts do not change."""
    flagged = [g for g, result in enumerate(types) if result.abnormal]
    if not flagged:
        return
    probability_G = np.array([types[g].probability for g in flagged])
    findings = reader(assessment.only(flagged), probability_G)
    for g, finding in zip(flagged, findings, strict=True):
        types[g].finding = _type_finding(finding)
        cells = {cell.cell_id: cell for cell in finding.cells}
        for pair in types[g].pairs:
            cell = cells[pair.cell_id]
            pair.homolog, pair.homolog_probability = cell.homolog, cell.homolog_probability
            pair.regions = _regions(cell)


def _type_finding(finding: Finding) -> TypeFinding:
    draft = draft_name(finding)
    start, stop = (
        None if place is None else Breakpoint(**vars(place))
        for place in (finding.start, finding.stop)
    )
    return TypeFinding(
        draft=None if draft is None else str(draft),
        kinds=dict(finding.kinds),
        start=start,
        stop=stop,
        reader=finding.reader or "",
    )


def _regions(cell: CellFinding) -> list[Region]:
    """Runs of samples that belong to the abnormality with probability 0.5 or more."""
    if cell.score_PL is None:
        return []
    edges_PX = np.diff(cell.score_PL >= 0.5, axis=1, prepend=False, append=False)
    found = []
    for homolog, edges_X in enumerate(edges_PX):
        for start, stop in np.flatnonzero(edges_X).reshape(-1, 2).tolist():
            found.append(Region(homolog=homolog, start=start, stop=stop))
    return found


def _encoded(pair_PCL: NDArray[np.uint8]) -> str:
    return base64.b64encode(pair_PCL.tobytes()).decode()
