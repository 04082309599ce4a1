"""Turns verdicts and the evidence behind them into the results of an answer."""

import base64
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from homnet.bags.assessment import Assessment
from homnet.imaging.extraction import ExtractionConfig
from homnet.model.predictor import Evidence
from homnet.patients.finding import CellFinding
from homnet.patients.verdict import URGENT_FIRST, PatientVerdict
from homnet.report.patient_page import render_patient
from homnet_serve.archives import ImagesOfBody
from homnet_serve.errors import given_up
from homnet_serve.schemas import (
    PairEvidence,
    PatientResult,
    Region,
    TypeEvidence,
    Verdict,
)
from homnet_serve.shares import Stopped

Wanted = Literal["none", "flagged", "all"]
"""Which types' sequences, or which patients' pages, an answer includes."""


def patient_results(
    verdicts: Sequence[PatientVerdict],
    assessment: Assessment,
    evidence: Evidence,
    images: ImagesOfBody,
    *,
    sequences: Wanted = "none",
    stopped: Stopped = lambda: False,
) -> list[PatientResult]:
    """One result per patient, in the order of the verdicts.

    Args:
        verdicts: verdicts on the patients.
        assessment: the bags.
        evidence: their scores.
        images: what became of the images that were sent.
        sequences: types whose sequences to include.
        stopped: called before every patient.

    Raises:
        RequestError: ``stopped`` returned True.
    """
    of_patient: dict[tuple[str, str], list[int]] = {}
    for g, who in enumerate(assessment.types):
        of_patient.setdefault((who.hospital, who.patient_id), []).append(g)
    logit_G = assessment.of_types(evidence.logit_B)
    bags_G = np.bincount(assessment.type_B, minlength=len(logit_G))
    pairs_G = np.bincount(assessment.type_B, assessment.bags.size_B).astype(int)
    stop_G = np.cumsum(pairs_G)
    results = []
    for verdict in verdicts:
        if stopped():
            raise given_up()
        patient = (verdict.hospital, verdict.patient_id)
        flagged = {one.chromosome for one in verdict.flagged}
        cells = {
            (one.chromosome, cell.cell_id): cell
            for one in verdict.flagged
            if one.finding is not None
            for cell in one.finding.cells
        }
        types = []
        for g in of_patient.get(patient, ()):
            name = assessment.types[g].chromosome
            drawn = sequences == "all" or (sequences == "flagged" and name in flagged)
            types.append(
                TypeEvidence.model_construct(
                    chromosome=name,
                    num_pairs=int(pairs_G[g]),
                    num_bags=int(bags_G[g]),
                    logit=float(logit_G[g]),
                    pairs=[
                        PairEvidence.model_construct(
                            cell_id=assessment.cell_N[n],
                            weight=float(evidence.weight_N[n]),
                            added_logit=float(evidence.added_N[n]),
                            sequence=_encoded(assessment.bags.pair_NPCL[n]) if drawn else None,
                            regions=_regions(cells.get((name, assessment.cell_N[n]))),
                        )
                        for n in range(int(stop_G[g] - pairs_G[g]), int(stop_G[g]))
                    ],
                )
            )
        results.append(
            PatientResult.model_construct(
                verdict=Verdict.model_validate(verdict.to_json()),
                evidence=types,
                refused_images=images.refused.get(patient, []),
                noted_images=images.noted.get(patient, []),
                karyograms=images.karyograms.get(patient, []),
                page=None,
            )
        )
    return results


def add_pages(
    results: Sequence[PatientResult],
    verdicts: Sequence[PatientVerdict],
    images: ImagesOfBody,
    *,
    extraction: Mapping[str, ExtractionConfig],
    pages: Wanted,
    most: int,
    stopped: Stopped = lambda: False,
) -> None:
    """Adds the pages of patients: the same that ``jobs/diagnose.py patients`` writes.

    Args:
        results: results to add pages to.
        verdicts: verdicts on the same patients.
        images: their pairs, and the images that were sent.
        extraction: how the images of each hospital were measured.
        pages: none; or of patients with anything but "no abnormality found"; or of all.
        most: maximum number of pages; the most urgent patients have theirs.
        stopped: called before every page.

    Raises:
        RequestError: ``stopped`` returned True.
    """
    wanted = [
        (verdict, result)
        for verdict, result in zip(verdicts, results, strict=True)
        if pages == "all" or (pages == "flagged" and verdict.decision != "no_abnormality_found")
    ]
    wanted.sort(key=lambda one: (URGENT_FIRST.index(one[0].decision), -(one[0].probability or 0.0)))
    for verdict, result in wanted[:most]:
        if stopped():
            raise given_up()
        result.page = render_patient(
            verdict,
            images.table,
            samples_per_px=extraction[verdict.hospital].samples_per_px,
            extraction=extraction[verdict.hospital],
            images=images.of_patient(verdict.hospital, verdict.patient_id),
            sent=images.sent(verdict.hospital, verdict.patient_id),
        )


def _regions(cell: CellFinding | None) -> list[Region] | None:
    """Runs of samples that belong to the abnormality with probability 0.5 or more."""
    if cell is None or cell.score_PL is None:
        return None
    edges_PX = np.diff(cell.score_PL >= 0.5, axis=1, prepend=False, append=False)
    found = []
    for homolog, edges_X in enumerate(edges_PX):
        for start, stop in np.flatnonzero(edges_X).reshape(-1, 2).tolist():
            found.append(Region(homolog=homolog, start=start, stop=stop))
    return found


def _encoded(pair_PCL: NDArray[np.uint8]) -> str:
    return base64.b64encode(pair_PCL.tobytes()).decode()
