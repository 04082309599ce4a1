"""Findings: what is refused, and that JSON keeps them."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from homnet.bags.assessment import assess
from homnet.cohorts.pairs import pair_table
from homnet.errors import DataError
from homnet.karyotype.kinds import SHOWN, SHOWN_AS, SIMULATED
from homnet.patients.finding import BreakpointEstimate, CellFinding, Finding, NotAnswered, unread


def _finding() -> Finding:
    scores_PL = np.linspace(0, 1, 1024, dtype=np.float32).reshape(2, 512)
    share = 0.3 / (len(SHOWN) - 1)
    return Finding(
        hospital="east",
        patient_id="p1",
        chromosome="5",
        probability=0.97,
        cells=(
            CellFinding("a", 400, 0.9, 1, 0.8, scores_PL),
            CellFinding("b", 550),
        ),
        kinds={kind: 0.7 if kind == "deletion" else share for kind in SHOWN},
        stop=BreakpointEstimate.at("5", 20.0, 16.0, 26.0, 400),
        not_answered=(NotAnswered("cells", "out of focus", ("b",)),),
        reader="abc",
    )


def test_json_keeps_a_finding() -> None:
    finding = _finding()
    again = Finding.from_json(json.loads(json.dumps(finding.to_json())))
    assert again.to_json() == finding.to_json()
    kept = again.cells[0].score_PL
    assert kept is not None
    assert finding.cells[0].score_PL is not None
    np.testing.assert_allclose(kept, finding.cells[0].score_PL, atol=1e-4)
    assert kept[1, 511] == 1.0
    assert again.kind == "deletion"


def test_bands_of_a_breakpoint_are_those_of_the_table_at_its_level() -> None:
    place = BreakpointEstimate.at("5", 20.0, 16.0, 300.0, 400)
    assert place.band == "p14"
    assert place.low_band == "p15.1"
    assert place.high_band == "q35"
    assert place.high_mb < 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: replace(f, chromosome="23"), "not 1..22"),
        (lambda f: replace(f, probability=1.2), "not between 0 and 1"),
        (lambda f: replace(f, kinds={"deletion": 1.0}), "expected"),
        (lambda f: replace(f, kinds=dict.fromkeys(SHOWN, 0.5)), "add up"),
        (lambda f: replace(f, chromosome="21"), "chromosome 21"),
        (lambda f: replace(f, stop=replace(f.stop, band="p99")), "no band p99"),
        (lambda f: replace(f, stop=replace(f.stop, low_mb=21.0)), "not in order"),
        (lambda f: replace(f, start=BreakpointEstimate.at("5", 30, 30, 30, 400)), "stops at"),
        (lambda f: replace(f, cells=(f.cells[0], f.cells[0])), "twice"),
        (lambda f: replace(f, not_answered=(NotAnswered("age", "x"),)), "'age'"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused(change: Callable[[Any], Finding], message: str) -> None:
    with pytest.raises(DataError, match=f"patient p1.*{message}"):
        change(_finding())


@pytest.mark.parametrize(
    "values",
    [
        {"homolog": 2, "homolog_probability": 0.9},
        {"homolog": 1},
        {"score_PL": np.zeros((2, 511), np.float32)},
        {"score_PL": np.full((2, 512), np.nan, np.float32)},
        {"band_level": 500},
    ],
)
def test_evidence_that_cannot_be_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="cell a"):
        CellFinding(**{"cell_id": "a", "band_level": 400} | values)


def test_json_that_is_no_finding_is_refused() -> None:
    with pytest.raises(DataError, match="not a finding"):
        Finding.from_json({**_finding().to_json(), "age": 3})


def test_every_simulated_kind_is_a_kind_of_findings() -> None:
    assert {SHOWN_AS[kind] for kind in SIMULATED} < set(SHOWN)


def test_without_a_reader_kind_and_place_are_not_answered() -> None:
    pair_NPCL = np.full((3, 2, 2, 512), 9, np.uint8)
    table = pair_table(
        hospital=["east"] * 3,
        patient_id=["p1"] * 3,
        cell_id=["b", "a", "a"],
        chromosome=["5", "5", "7"],
        band_level=[550, 400, 400],
        pair=pair_NPCL,
        abnormal=[False] * 3,
    )
    five, seven = unread(assess(table), np.array([0.9, 0.1]), np.array([0.7, 0.8, 0.2]))
    assert [(cell.cell_id, cell.band_level, cell.probability) for cell in five.cells] == [
        ("a", 400, 0.7),
        ("b", 550, 0.8),
    ]
    assert (five.probability, seven.probability) == (0.9, 0.1)
    assert five.kind is None
    assert [one.question for one in five.not_answered] == ["kind", "breakpoints"]
