"""What the figures of findings are, on findings made by hand."""

import numpy as np
import pandas as pd
import pytest

from homnet.bags.assessment import PatientType
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.kinds import SHOWN
from homnet.patients.finding import BreakpointEstimate, CellFinding, Finding
from homnet.reader.measures import (
    breakpoint_errors,
    cases_of,
    findings_tables,
    measure,
    overlap,
)

DETECTED = {PatientType("h", patient, "5") for patient in ("p1", "p2", "p3")}
LENGTH = band_table(FINEST_LEVEL)["5"].length_bp / 1e6


def _finding(
    kind: str = "deletion",
    start: float | None = 40.0,
    stop: float | None = 80.0,
    *,
    patient: str = "p1",
    homologs: tuple[int, ...] = (0, 1),
) -> Finding:
    def place(mb: float | None) -> BreakpointEstimate | None:
        return None if mb is None else BreakpointEstimate.at("5", mb, mb - 5, mb + 5, 550)

    return Finding(
        hospital="h",
        patient_id=patient,
        chromosome="5",
        probability=0.9,
        cells=tuple(
            CellFinding(f"c{n}", 550, 0.8, homolog, 0.9) for n, homolog in enumerate(homologs)
        ),
        kinds={name: float(name == kind) for name in SHOWN},
        start=place(start),
        stop=place(stop),
    )


def test_overlap() -> None:
    assert overlap(_finding(), "deletion", 40, 80) == pytest.approx(1)
    assert overlap(_finding(), "deletion", 60, 100) == pytest.approx(20 / 60)
    assert overlap(_finding(), "deletion", 100, 120) == 0
    assert overlap(_finding(start=None), "deletion", 0, 40) == pytest.approx(0.5)
    assert overlap(_finding(stop=None), "deletion", 40, LENGTH) == pytest.approx(1)
    assert np.isnan(overlap(_finding(), "insertion_translocation", 50, 50))
    # Of a ring the tips count.
    ring = _finding("ring", 20, 160)
    assert overlap(ring, "ring", 20, 160) == pytest.approx(1)
    lost = 20 + LENGTH - 160
    assert overlap(ring, "ring", 10, 160) == pytest.approx((lost - 10) / lost)


def test_breakpoint_errors() -> None:
    assert breakpoint_errors(_finding(), 42, 90) == ([2, 10], [True, False])
    assert breakpoint_errors(_finding(), 0, 83) == ([3], [True])
    assert breakpoint_errors(_finding(), 42, LENGTH) == ([2], [True])
    # A tip instead of a breakpoint is as wrong as it is far.
    assert breakpoint_errors(_finding(start=None), 12, 80) == ([12, 0], [False, True])


def _truth() -> pd.DataFrame:
    rows = []
    for patient, kind, stop, size in (
        ("p1", "deletion", 80.0, 40.0),
        ("p2", "deletion", 48.0, 8.0),
    ):
        rows += [
            {
                "hospital": "h",
                "patient_id": patient,
                "chromosome": "5",
                "cell_id": f"c{n}",
                "abnormal": n < 2,
                "kind": kind,
                "size_mb": size,
                "homolog": n % 2 if n < 2 else None,
                "shown_kind": "deletion" if n < 2 else None,
                "segment_start_mb": 40.0 if n < 2 else None,
                "segment_stop_mb": stop if n < 2 else None,
            }
            for n in range(3)
        ]
    rows.append({**rows[-1], "patient_id": "p3", "abnormal": False})
    return pd.DataFrame(rows)


def test_cases_and_figures() -> None:
    findings = [
        _finding(homologs=(0, 0, 1)),
        _finding("inversion", 44, 48, patient="p2"),
        _finding(patient="p3"),
    ]
    cases = cases_of(findings, _truth(), DETECTED)
    assert list(cases["patient_id"]) == ["p1", "p2"]
    # The normal cell of a mosaic has no homolog to be named.
    assert list(cases["num_pairs"]) == [2, 2]
    assert list(cases["pairs_right"]) == [1, 2]
    figures = measure(cases, seed=0, num_bootstrap=60)
    overall = figures["overall"]
    assert overall["num_cases"] == overall["num_detected"] == 2
    # Only the large one counts for overlap.
    assert overall["median_iou"]["value"] == pytest.approx(1)
    assert overall["num_with_iou"] == 1
    assert overall["homolog"]["value"] == pytest.approx(3 / 4)
    assert overall["kind"]["value"] == pytest.approx(0.5)
    assert overall["median_breakpoint_error_mb"]["value"] == pytest.approx(0)
    assert overall["num_breakpoints"] == 4
    assert figures["kinds"]["deletion"] == {
        **dict.fromkeys(list(SHOWN)[:-1], 0),
        "deletion": 1,
        "inversion": 1,
    }
    assert figures["by_size"]["5 to 10 Mb"]["num_cases"] == 1
    said, called = findings_tables(figures)
    assert said[2][0][:2] == ["all", "2 of 2"]
    assert called[1:] == (
        ["Kind", "called deletion", "called inversion"],
        [["deletion", "1", "1"]],
    )


def test_what_was_not_detected_is_not_judged() -> None:
    findings = [_finding(), _finding("inversion", 44, 48, patient="p2")]
    cases = cases_of(findings, _truth(), DETECTED - {PatientType("h", "p1", "5")})
    overall = measure(cases, seed=0, num_bootstrap=0)["overall"]
    assert (overall["num_cases"], overall["num_detected"]) == (2, 1)
    assert overall["median_iou"]["value"] is None
    assert overall["kind"]["value"] == 0


def test_intervals_are_of_patients() -> None:
    rng = np.random.default_rng(0)
    cases = pd.DataFrame(
        {
            "hospital": "h",
            "people": [[f"p{n // 4}"] for n in range(80)],
            "chromosome": "5",
            "kind": "deletion",
            "event": "deletion",
            "size_mb": 30.0,
            "detected": True,
            "found_kind": np.repeat(np.where(rng.random(20) < 0.7, "deletion", "ring"), 4),
            "iou": rng.random(80),
            "errors_mb": [[float(v)] for v in rng.random(80)],
            "inside": [[True]] * 80,
            "num_pairs": 5,
            "pairs_right": 4,
        }
    )
    overall = measure(cases, seed=0, num_bootstrap=400)["overall"]
    kind = overall["kind"]
    # Twenty patients, not eighty cases.
    assert kind["high"] - kind["low"] > 3 * np.sqrt(0.7 * 0.3 / 20) * 0.8
    assert overall["median_iou"]["value"] == pytest.approx(np.median(cases["iou"]))
    assert overall["homolog"]["value"] == pytest.approx(0.8)
