"""Answers: every type of every patient is in one, assessed or with the reason why not."""

import base64
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import expit

from homnet.bags.assessment import Assessment, assess
from homnet.calibration.bags import Calibration
from homnet.cohorts.pairs import MEASURED, pairs_of
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.karyotype.kinds import SHOWN
from homnet.model.network import HomNet, HomNetConfig
from homnet.model.predictor import Predictor
from homnet.patients.finding import BreakpointEstimate, CellFinding, Finding, FindingReader
from homnet_serve.answers import Sequences, describe_model, patient_results
from homnet_serve.schemas import PatientResult, RefusedImage

TableOf = Callable[..., pa.Table]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    model = HomNet(HomNetConfig(width=8, pair_width=8))
    calibration = {"h1": Calibration(threshold=0.5, temperature=0.25)}
    return Predictor(model, calibration, version="v")


def _answer(
    table: pa.Table,
    predictor: Predictor,
    sequences: Sequences = "none",
    reader: FindingReader | None = None,
) -> list[PatientResult]:
    assessment = assess(table.select(MEASURED.names))
    evidence = predictor.evidence(assessment.bags)
    predictors = dict.fromkeys(("h1", "h2"), predictor)
    return patient_results(
        assessment,
        evidence,
        predictors,
        sequences=sequences,
        reader=reader,
    )


def test_every_type_is_accounted_for(table_of: TableOf, predictor: Predictor) -> None:
    results = _answer(table_of(num_cells=3), predictor)
    assert [result.patient_id for result in results] == ["h1-p0", "h1-p1", "h1-p2"]
    for result in results:
        said = [t.chromosome for t in result.types] + [n.chromosome for n in result.not_assessed]
        assert said == list(CHROMOSOMES)
        assert all(len(t.pairs) == t.num_pairs == 3 for t in result.types)
        assert all(n.explanation for n in result.not_assessed)
        PatientResult.model_validate(result.model_dump())


def test_verdicts_are_those_of_the_hospital(table_of: TableOf, predictor: Predictor) -> None:
    own, foreign = (_answer(table_of(name, num_patients=1), predictor)[0] for name in ("h1", "h2"))
    for mine, other in zip(own.types, foreign.types, strict=True):
        assert mine.logit == pytest.approx(other.logit, abs=1e-6)
        assert mine.probability == pytest.approx(expit(mine.logit / 0.25))
        assert other.probability == pytest.approx(expit(other.logit))
        assert mine.abnormal == (mine.probability >= 0.5)
    assert own.flagged == [t.chromosome for t in own.types if t.abnormal]


def test_logits_of_many_cells_are_averaged(table_of: TableOf, predictor: Predictor) -> None:
    table = table_of(num_patients=1, num_cells=15, chromosomes=("4",))
    (result,) = _answer(table, predictor)
    (only,) = result.types
    assert (only.num_pairs, only.num_bags) == (15, 2)
    cells = sorted(table["cell_id"].to_pylist())
    halves = [
        _answer(
            table.filter(pa.array([c in part for c in table["cell_id"].to_pylist()])), predictor
        )[0].types[0]
        for part in (cells[:8], cells[8:])
    ]
    assert only.logit == pytest.approx((8 * halves[0].logit + 7 * halves[1].logit) / 15, abs=1e-6)


@pytest.mark.parametrize("sequences", ["none", "flagged", "all"])
def test_sequences_are_repeated_where_asked(
    table_of: TableOf, predictor: Predictor, sequences: Sequences
) -> None:
    table = table_of(num_patients=1, num_cells=1)
    (before,) = _answer(table, predictor)
    median = float(np.median([kind.probability for kind in before.types]))
    calibration = {"h1": Calibration(threshold=median, temperature=0.25)}
    split = Predictor(predictor.model, calibration, version="v")
    (result,) = _answer(table, split, sequences)
    assert 0 < len(result.flagged) < 22
    for row, kind in enumerate(result.types):
        wanted = sequences == "all" or (sequences == "flagged" and kind.abnormal)
        expected = base64.b64encode(pairs_of(table)[row].tobytes()).decode() if wanted else None
        assert kind.pairs[0].sequence == expected


def test_patients_of_whom_no_image_was_usable_are_in(
    table_of: TableOf, predictor: Predictor
) -> None:
    assessment = assess(table_of(num_patients=1).select(MEASURED.names))
    evidence = predictor.evidence(assessment.bags)
    image = RefusedImage(row=2, cell_id="c", chromosome="1", homolog=0, reason="the image is empty")
    results = patient_results(
        assessment, evidence, {"h1": predictor}, refused={("h1", "h1-p9"): [image]}
    )
    assert [result.patient_id for result in results] == ["h1-p0", "h1-p9"]
    assert len(results[1].not_assessed) == 24
    assert results[1].refused_images == [image]


def test_a_model_is_described_by_its_digests(predictor: Predictor) -> None:
    own, other = (describe_model(name, "version", predictor) for name in ("h1", "h2"))
    assert (own.version, own.weights, own.calibrated) == ("version", "v", True)
    assert (other.calibrated, other.threshold, other.temperature) == (False, 0.5, 1.0)
    assert own.calibration != other.calibration


class _Reader:
    """Says of every type that it lost its short arm, on the second homolog."""

    version = "reader-1"

    def __init__(self) -> None:
        self.asked: list[tuple[Assessment, list[float]]] = []

    def __call__(self, assessment: Assessment, probability_G: np.ndarray) -> list[Finding]:
        self.asked.append((assessment, probability_G.tolist()))
        score_PL = np.zeros((2, 512), np.float32)
        score_PL[1, 10:30] = score_PL[1, 500:] = 0.9
        type_N = np.repeat(assessment.type_B, assessment.bags.size_B)
        return [
            Finding(
                *who,
                probability=float(probability),
                cells=tuple(
                    CellFinding(assessment.cell_N[n], 550, 0.9, 1, 0.8, score_PL)
                    for n in np.flatnonzero(type_N == g)
                ),
                kinds={kind: float(kind == "deletion") for kind in SHOWN},
                stop=BreakpointEstimate.at(who.chromosome, 20.0, 18.0, 22.0, 550),
                reader=self.version,
            )
            for g, (who, probability) in enumerate(
                zip(assessment.types, probability_G, strict=True)
            )
        ]


def test_only_abnormal_types_are_read_and_their_verdicts_stay(
    table_of: TableOf, predictor: Predictor
) -> None:
    table = table_of(num_patients=2, num_cells=12, chromosomes=("1", "4", "5", "9", "20"))
    untold = [t.probability for p in _answer(table, predictor) for t in p.types]
    half = Calibration(threshold=float(np.median(untold)), temperature=0.25)
    predictor = Predictor(predictor.model, {"h1": half}, version="v")
    plain, reader = _answer(table, predictor), _Reader()
    read = _answer(table, predictor, reader=reader)
    flagged = [(p.patient_id, t.chromosome) for p in plain for t in p.types if t.abnormal]
    assert 0 < len(flagged) < 10
    ((asked, probabilities),) = reader.asked
    assert [(who.patient_id, who.chromosome) for who in asked.types] == flagged
    assert len(asked.cell_N) == len(asked.bags.pair_NPCL) == 12 * len(flagged)
    # What reaches the reader are the pairs of these types and of no other.
    rows = table.select(["patient_id", "chromosome"]).take(asked.row_N).to_pylist()
    assert [(row["patient_id"], row["chromosome"]) for row in rows] == [
        one for one in flagged for _ in range(12)
    ]
    assert np.array_equal(asked.bags.pair_NPCL, pairs_of(table)[asked.row_N])
    assert probabilities == [t.probability for p in plain for t in p.types if t.abnormal]
    for before, after in zip(plain, read, strict=True):
        for one, other in zip(before.types, after.types, strict=True):
            assert one.model_dump() == other.model_dump(exclude={"finding", "pairs"}) | {
                "finding": None,
                "pairs": [
                    pair.model_dump() | dict.fromkeys(("homolog", "homolog_probability", "regions"))
                    for pair in other.pairs
                ],
            }
            assert (other.finding is not None) == other.abnormal
            if other.finding is None:
                continue
            assert other.finding.reader == "reader-1"
            assert other.finding.draft is not None
            assert other.finding.draft.startswith(f"del({other.chromosome})(p")
            assert other.finding.draft.endswith("draft, to be confirmed")
            assert other.finding.start is None
            for pair in other.pairs:
                assert pair.homolog == 1
                assert pair.regions is not None
                assert [(r.homolog, r.start, r.stop) for r in pair.regions] == [
                    (1, 10, 30),
                    (1, 500, 512),
                ]
        PatientResult.model_validate(after.model_dump())
