"""Answers: every type of every patient is in one, assessed or with the reason why not."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pytest

from homnet.bags.assessment import NOTHING_SENT, Assessment, assess
from homnet.calibration.likelihood_ratios import Scale
from homnet.cohorts.pairs import MEASURED, pairs_of
from homnet.imaging.extraction import ExtractionConfig
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.karyotype.kinds import SHOWN
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.patients.diagnostician import Diagnostician, read_types
from homnet.patients.finding import BreakpointEstimate, CellFinding, Finding
from homnet.patients.verdict import Decision
from homnet_serve.answers import Wanted, add_pages, patient_results
from homnet_serve.archives import ImagesOfBody
from homnet_serve.schemas import PatientResult, RefusedImage

MEASURED_SO = {"h1": ExtractionConfig(samples_per_px=2.0)}

TableOf = Callable[..., pa.Table]


@pytest.fixture(scope="module")
def checkpoint(family: Callable[..., list[Checkpoint]]) -> Checkpoint:
    (only,) = family(1)
    return only


def _answer(
    table: pa.Table,
    checkpoint: Checkpoint,
    sequences: Wanted = "none",
    reader: "_Reader | None" = None,
    refused: Mapping[tuple[str, str], list[RefusedImage]] = MappingProxyType({}),
) -> list[PatientResult]:
    assessment = assess(table.select(MEASURED.names))
    assessment = replace(
        assessment, left_out={**assessment.left_out, **dict.fromkeys(refused, NOTHING_SENT)}
    )
    evidence = Predictor.of_checkpoint(checkpoint).evidence(assessment.bags)
    judge = Diagnostician(checkpoint, reader="none" if reader is None else reader.version)
    findings = {}
    if reader is not None:
        findings = read_types(reader, assessment, judge.types_to_read("h1", assessment, evidence))
    verdicts = judge.judge("h1", assessment, evidence, findings)
    images = ImagesOfBody(table, refused=refused)
    return patient_results(verdicts, assessment, evidence, images, sequences=sequences)


def test_every_type_is_accounted_for(table_of: TableOf, checkpoint: Checkpoint) -> None:
    results = _answer(table_of(num_cells=3), checkpoint)
    assert [result.verdict.patient_id for result in results] == ["h1-p0", "h1-p1", "h1-p2"]
    for result in results:
        assert [t.chromosome for t in result.verdict.types] == list(CHROMOSOMES)[:23]
        for kind in result.verdict.types:
            assert (kind.finding is None) == bool(kind.not_assessed)
        assert [t.chromosome for t in result.evidence] == list(CHROMOSOMES)[:22]
        assert all(len(t.pairs) == t.num_pairs == 3 for t in result.evidence)
        PatientResult.model_validate(result.model_dump())


def test_logits_of_many_cells_are_averaged(table_of: TableOf, checkpoint: Checkpoint) -> None:
    table = table_of(num_patients=1, num_cells=15, chromosomes=("4",))
    (result,) = _answer(table, checkpoint)
    (only,) = result.evidence
    assert (only.num_pairs, only.num_bags) == (15, 2)
    cells = sorted(table["cell_id"].to_pylist())
    halves = [
        _answer(
            table.filter(pa.array([c in part for c in table["cell_id"].to_pylist()])), checkpoint
        )[0].evidence[0]
        for part in (cells[:8], cells[8:])
    ]
    assert only.logit == pytest.approx((8 * halves[0].logit + 7 * halves[1].logit) / 15, abs=1e-6)


@pytest.mark.parametrize("sequences", ["none", "flagged", "all"])
def test_sequences_are_repeated_where_asked(
    table_of: TableOf, checkpoint: Checkpoint, sequences: Wanted
) -> None:
    table = table_of(num_patients=1, num_cells=1)
    (before,) = _answer(table, checkpoint)
    found = [t.evidence for t in before.verdict.types if t.evidence is not None]
    threshold = float(np.median(found)) - np.log(len(found))
    half = {"h1": replace(checkpoint.patients["h1"], threshold=threshold)}
    (result,) = _answer(table, replace(checkpoint, patients=half), sequences)
    assert 0 < len(result.verdict.flagged) < 22
    for row, kind in enumerate(result.evidence):
        flagged = kind.chromosome in result.verdict.flagged
        wanted = sequences == "all" or (sequences == "flagged" and flagged)
        expected = base64.b64encode(pairs_of(table)[row].tobytes()).decode() if wanted else None
        assert kind.pairs[0].sequence == expected


def test_patients_of_whom_no_image_was_usable_are_in(
    table_of: TableOf, checkpoint: Checkpoint
) -> None:
    image = RefusedImage(row=2, cell_id="c", chromosome="1", homolog=0, reason="the image is empty")
    results = _answer(table_of(num_patients=1), checkpoint, refused={("h1", "h1-p9"): [image]})
    assert [result.verdict.patient_id for result in results] == ["h1-p0", "h1-p9"]
    assert results[1].verdict.decision == "not_assessed"
    assert [one.code for one in results[1].verdict.abstentions] == ["nothing_to_compare"]
    assert all(one.not_assessed for one in results[1].verdict.types)
    assert results[1].refused_images == [image]


class _Reader:
    """Says of every type that it lost its short arm, on the second homolog."""

    version = "reader-1"

    def __init__(self) -> None:
        self.asked: list[Assessment] = []

    def __call__(self, assessment: Assessment) -> list[Finding]:
        self.asked.append(assessment)
        score_PL = np.zeros((2, 512), np.float32)
        score_PL[1, 10:30] = score_PL[1, 500:] = 0.9
        type_N = np.repeat(assessment.type_B, assessment.bags.size_B)
        return [
            Finding(
                *who,
                probability=None,
                cells=tuple(
                    CellFinding(assessment.cell_N[n], 550, 0.9, 1, 0.8, score_PL)
                    for n in np.flatnonzero(type_N == g)
                ),
                kinds={kind: float(kind == "deletion") for kind in SHOWN},
                stop=BreakpointEstimate.at(who.chromosome, 20.0, 18.0, 22.0, 550),
                reader=self.version,
            )
            for g, who in enumerate(assessment.types)
        ]


def test_what_verdicts_rest_on_is_read_and_verdicts_stay(
    table_of: TableOf, checkpoint: Checkpoint
) -> None:
    table = table_of(num_patients=2, num_cells=12, chromosomes=("1", "4", "5", "9", "20"))
    plain, reader = _answer(table, checkpoint), _Reader()
    read = _answer(table, checkpoint, reader=reader)
    flagged = [
        (p.verdict.patient_id, t.chromosome) for p in plain for t in p.verdict.types if t.flagged
    ]
    assert flagged
    (asked,) = reader.asked
    assert [(who.patient_id, who.chromosome) for who in asked.types] == flagged
    # What reaches the reader are the pairs of these types and of no other.
    rows = table.select(["patient_id", "chromosome"]).take(asked.row_N).to_pylist()
    assert [(row["patient_id"], row["chromosome"]) for row in rows] == [
        one for one in flagged for _ in range(12)
    ]
    assert np.array_equal(asked.bags.pair_NPCL, pairs_of(table)[asked.row_N])
    for before, after in zip(plain, read, strict=True):
        assert before.verdict.decision == after.verdict.decision
        assert before.verdict.score == after.verdict.score
        assert before.verdict.flagged == after.verdict.flagged
        evidence = {one.chromosome: one for one in after.evidence}
        for kind in after.verdict.types:
            if not kind.flagged:
                continue
            assert kind.finding is not None
            assert kind.finding.reader == "reader-1"
            assert kind.draft is not None
            assert kind.draft.startswith(f"del({kind.chromosome})(p")
            assert kind.finding.start is None
            assert all(cell.homolog == 1 for cell in kind.finding.cells)
            for pair in evidence[kind.chromosome].pairs:
                assert pair.regions is not None
                assert [(r.homolog, r.start, r.stop) for r in pair.regions] == [
                    (1, 10, 30),
                    (1, 500, 512),
                ]
        PatientResult.model_validate(after.model_dump())


def test_pages_are_added_where_asked(table_of: TableOf, checkpoint: Checkpoint) -> None:
    table = table_of(num_patients=1)
    images = ImagesOfBody(table)
    assessment = assess(table.select(MEASURED.names))
    evidence = Predictor.of_checkpoint(checkpoint).evidence(assessment.bags)
    for threshold, decision in ((-20.0, "abnormal"), (20.0, "no_abnormality_found")):
        patients = {
            "h1": replace(checkpoint.patients["h1"], threshold=threshold, cell_scale=Scale(1e-6, 3))
        }
        verdicts = Diagnostician(replace(checkpoint, patients=patients)).judge(
            "h1", assessment, evidence
        )
        assert [one.decision for one in verdicts] == [decision]
        for pages, wanted in (("none", False), ("flagged", decision == "abnormal"), ("all", True)):
            (result,) = patient_results(verdicts, assessment, evidence, images)
            add_pages([result], verdicts, images, extraction=MEASURED_SO, pages=pages, most=9)
            assert (result.page is not None) == wanted
            if result.page is not None:
                assert result.page.startswith("<!DOCTYPE html>")
                assert "h1-p0" in result.page


def test_pages_are_for_the_most_urgent(table_of: TableOf, checkpoint: Checkpoint) -> None:
    table = table_of(num_patients=3)
    images = ImagesOfBody(table)
    assessment = assess(table.select(MEASURED.names))
    evidence = Predictor.of_checkpoint(checkpoint).evidence(assessment.bags)
    made = Diagnostician(checkpoint).judge("h1", assessment, evidence)
    decisions: tuple[Decision, ...] = ("no_abnormality_found", "abnormal", "abnormal")
    verdicts = [
        replace(one, decision=decision, probability=probability)
        for one, decision, probability in zip(made, decisions, (0.9, 0.5, 0.7), strict=True)
    ]
    for most, drawn in ((2, [False, True, True]), (1, [False, False, True])):
        results = patient_results(verdicts, assessment, evidence, images)
        add_pages(results, verdicts, images, extraction=MEASURED_SO, pages="all", most=most)
        assert [one.page is not None for one in results] == drawn
