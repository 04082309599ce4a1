"""Accuracy of findings: overlap, homolog, kind and breakpoints of detected abnormalities.

A *case* is one chromosome type of one patient that is abnormal in at least one cell. It is detected
if the patient's verdict rests on it. Findings are measured on detected cases.

Shape suffixes: R replicates, N cases, pairs or breakpoints.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from homnet.bags.assessment import PatientType
from homnet.evaluation.bootstrap import divide, estimate, replicates
from homnet.evaluation.metrics import EVENT_SIZES_MB, class_of_size
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.kinds import NO_ABNORMALITY, SHOWN
from homnet.patients.finding import Finding

Floats = NDArray[np.float64]

LARGE_MB: Final = 10.0
"""Minimum size, Mb, for measures of overlap; G-bands hardly show smaller segments."""


def cases_of(
    findings: Iterable[Finding], truth: pd.DataFrame, detected: Collection[PatientType]
) -> pd.DataFrame:
    """Compares findings with the truth, case by case.

    Args:
        findings: findings on all types to be measured.
        truth: rows of the cohort with :data:`homnet.reader.truth.SEGMENT_COLUMNS`, one per pair:
            hospital, patient_id, chromosome (name), cell_id, abnormal, kind, size_mb, homolog.
        detected: types that verdicts rest on.

    Returns:
        One row per case: hospital, patient_id, people (the source of the pairs), chromosome, kind
        (as shown), event (kind in the cohort), size_mb, detected, found_kind, iou (NaN where the
        truth is a point), num_pairs, pairs_right (number with the correct abnormal homolog),
        errors_mb (one per breakpoint) and inside (whether its interval contains it).
    """
    abnormal = truth[truth["abnormal"]]
    keys = ["hospital", "patient_id", "chromosome"]
    groups = dict(iter(abnormal.groupby(keys, sort=False)))
    lines = []
    for finding in findings:
        who = PatientType(finding.hospital, finding.patient_id, finding.chromosome)
        rows = groups.get(who)
        if rows is None:
            continue
        first = rows.iloc[0]
        line: dict[str, Any] = {
            "hospital": finding.hospital,
            "patient_id": finding.patient_id,
            "people": [finding.patient_id],
            "chromosome": finding.chromosome,
            "kind": first["shown_kind"],
            "event": first["kind"],
            "size_mb": first["size_mb"],
            "detected": who in detected,
            "found_kind": finding.abnormal_kind,
            "iou": float("nan"),
            "errors_mb": None,
            "inside": None,
        }
        if pd.notna(first["segment_start_mb"]):
            start, stop = float(first["segment_start_mb"]), float(first["segment_stop_mb"])
            line["iou"] = overlap(finding, str(first["shown_kind"]), start, stop)
            line["errors_mb"], line["inside"] = breakpoint_errors(finding, start, stop)
        homolog = dict(zip(rows["cell_id"], rows["homolog"], strict=True))
        named = [cell for cell in finding.cells if pd.notna(homolog.get(cell.cell_id))]
        line["num_pairs"] = len(named)
        line["pairs_right"] = sum(cell.homolog == int(homolog[cell.cell_id]) for cell in named)
        lines.append(line)
    return pd.DataFrame(lines)


def overlap(finding: Finding, kind: str, start_mb: float, stop_mb: float) -> float:
    """Intersection over union, in megabases, of the found and the true segment.

    The segment is defined by :func:`homnet.reader.truth.segment_of`; for a ring it is the part
    outside the breakpoints. NaN where the truth is a point.
    """
    length_mb = band_table(FINEST_LEVEL)[finding.chromosome].length_bp / 1e6
    found_start = 0.0 if finding.start is None else finding.start.mb
    found_stop = length_mb if finding.stop is None else finding.stop.mb
    wanted = _pieces(kind, start_mb, stop_mb, length_mb)
    found = _pieces(finding.abnormal_kind, found_start, found_stop, length_mb)
    common = sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in wanted for b in found)
    size = sum(b - a for a, b in wanted)
    if size <= 0:
        return float("nan")
    return common / (size + sum(b - a for a, b in found) - common)


def _pieces(
    kind: str | None, start_mb: float, stop_mb: float, length_mb: float
) -> list[tuple[float, float]]:
    if kind == "ring":
        return [(0.0, start_mb), (stop_mb, length_mb)]
    return [(start_mb, stop_mb)]


def breakpoint_errors(
    finding: Finding, start_mb: float, stop_mb: float
) -> tuple[list[float], list[bool]]:
    """Errors in megabases of the true breakpoints, and whether the intervals contain them.

    A tip is no breakpoint. If the finding has a tip in place of a true breakpoint, the error is the
    distance to the tip, and no interval contains the breakpoint.
    """
    length_mb = band_table(FINEST_LEVEL)[finding.chromosome].length_bp / 1e6
    errors, inside = [], []
    for true_mb, found, tip_mb in (
        (start_mb, finding.start, 0.0),
        (stop_mb, finding.stop, length_mb),
    ):
        if abs(true_mb - tip_mb) < 1e-3:
            continue
        errors.append(abs(true_mb - (tip_mb if found is None else found.mb)))
        inside.append(found is not None and found.low_mb <= true_mb <= found.high_mb)
    return errors, inside


def measure(cases: pd.DataFrame, *, seed: int, num_bootstrap: int = 1000) -> dict[str, Any]:
    """Computes all figures of cases, with intervals by patient bootstrap.

    Args:
        cases: result of :func:`cases_of`.
        seed: seed of the bootstrap.
        num_bootstrap: number of replicates.

    Returns:
        ``overall``, ``by_kind``, ``by_size``, ``by_hospital`` and ``kinds``: a confusion table of
        detected cases, with true kinds as rows and found kinds as columns.
    """
    rng = np.random.default_rng(seed)

    def part(rows: pd.DataFrame) -> dict[str, Any]:
        return _scope(rows, num_bootstrap, rng)

    def by(values: Any) -> dict[str, Any]:
        return {str(name): part(rows) for name, rows in cases.groupby(values, observed=True)}

    sizes = cases["size_mb"].astype(np.float64)
    detected = cases[cases["detected"]]
    kinds = [kind for kind in SHOWN if kind != NO_ABNORMALITY]
    return {
        "overall": part(cases),
        "from_10_mb": part(cases[sizes >= LARGE_MB]),
        "by_kind": by("kind"),
        "by_event": by("event"),
        "by_size": by(class_of_size(sizes, EVENT_SIZES_MB, "Mb")),
        "by_hospital": by("hospital"),
        "kinds": {
            kind: {
                other: int(((detected["kind"] == kind) & (detected["found_kind"] == other)).sum())
                for other in kinds
            }
            for kind in kinds
        },
    }


def _scope(cases: pd.DataFrame, num_bootstrap: int, rng: np.random.Generator) -> dict[str, Any]:
    """Figures of some cases."""
    detected = cases[cases["detected"]]
    large = detected[detected["size_mb"].astype(np.float64) >= LARGE_MB]
    overlaps = large[large["iou"].notna()]
    known = detected[detected["kind"].notna()]
    located = detected[detected["errors_mb"].notna()]
    points = located[["people", "errors_mb", "inside"]].explode(["errors_mb", "inside"])
    points = points[points["errors_mb"].notna()]
    pairs = detected[detected["num_pairs"] > 0]

    def mean(rows: pd.DataFrame, values: Any, weights: Any = 1.0) -> dict[str, Any]:
        values_N = np.asarray(values, np.float64)
        own_N = np.broadcast_to(np.asarray(weights, np.float64), values_N.shape)

        def statistic(weights_RN: Floats) -> Floats:
            weights_RN = weights_RN * own_N
            return divide((weights_RN * values_N).sum(axis=1), weights_RN.sum(axis=1))

        return _bootstrapped(rows, statistic, num_bootstrap, rng)

    def median(rows: pd.DataFrame, values: Any) -> dict[str, Any]:
        values_N = np.asarray(values, np.float64)
        return _bootstrapped(rows, lambda w_RN: _medians(values_N, w_RN), num_bootstrap, rng)

    return {
        "num_cases": len(cases),
        "num_patients": int(cases["people"].explode().nunique()),
        "num_detected": len(detected),
        "detected": mean(cases, cases["detected"]),
        "median_iou": median(overlaps, overlaps["iou"]),
        "num_with_iou": len(overlaps),
        "homolog": mean(
            pairs,
            pairs["pairs_right"] / pairs["num_pairs"],
            pairs["num_pairs"].to_numpy(np.float64),
        ),
        "num_pairs": int(pairs["num_pairs"].sum()),
        "kind": mean(known, known["kind"] == known["found_kind"]),
        "median_breakpoint_error_mb": median(points, points["errors_mb"]),
        "num_breakpoints": len(points),
        "breakpoint_in_interval": mean(points, points["inside"].astype(float)),
    }


def _bootstrapped(
    rows: pd.DataFrame,
    statistic: Callable[[Floats], Floats],
    num_bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """A statistic, as a function of weights (R, N), with its patient bootstrap interval."""
    whole = estimate(*replicates(rows["people"].tolist(), statistic, num_bootstrap, rng))
    return {name: whole[name] for name in ("value", "low", "high")}


def _medians(values_N: Floats, weights_RN: Floats) -> Floats:
    """Weighted medians (R); NaN where all weights are 0."""
    total_R = weights_RN.sum(axis=1)
    order = np.argsort(values_N, kind="stable")
    below_RN = np.cumsum(weights_RN[:, order], axis=1)
    # The median of an even number of equal weights lies between two values.
    half_R1 = (total_R / 2)[:, None]
    last = len(values_N) - 1
    low = np.minimum((below_RN < half_R1 - 1e-9).sum(axis=1), last)
    high = np.minimum((below_RN < half_R1 + 1e-9).sum(axis=1), last)
    middle = (values_N[order][low] + values_N[order][high]) / 2
    return np.where(total_R > 0, middle, np.nan)


Table = tuple[str, list[str], list[list[str]]]
"""Title, headings and cells."""


def findings_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Formats the figures of :func:`measure` as tables.

    One has rows for all cases, cases of at least 10 Mb, and each kind, size and hospital; the other
    is the confusion table of kinds.
    """
    heads = [
        "Abnormal types",
        "Detected",
        "Median overlap (IoU), from 10 Mb",
        "Right homolog",
        "Right kind",
        "Breakpoint error, median Mb",
        "In its interval",
    ]
    scopes = [("all", figures["overall"]), (f"from {LARGE_MB:g} Mb", figures["from_10_mb"])]
    scopes += [(kind.replace("_", " or "), of) for kind, of in figures["by_kind"].items()]
    scopes += [*figures["by_size"].items(), *figures["by_hospital"].items()]
    rows = []
    for name, scope in scopes:
        cells = [name, f"{scope['num_detected']} of {scope['num_cases']}"]
        cells += [
            _cell(scope[field], digits)
            for field, digits in (
                ("median_iou", 2),
                ("homolog", 3),
                ("kind", 3),
                ("median_breakpoint_error_mb", 1),
                ("breakpoint_in_interval", 2),
            )
        ]
        rows.append(cells)
    kinds = [kind for kind in figures["kinds"] if any(figures["kinds"][kind].values())]
    called = [k for k in figures["kinds"] if any(one[k] for one in figures["kinds"].values())]
    confused = [
        [kind.replace("_", " or "), *(str(figures["kinds"][kind][other]) for other in called)]
        for kind in kinds
    ]
    return [
        ("What the reader says of detected types", heads, rows),
        (
            "What each kind is called",
            ["Kind", *(f"called {k.replace('_', ' or ')}" for k in called)],
            confused,
        ),
    ]


def _cell(value: Mapping[str, Any], digits: int) -> str:
    if value["value"] is None:
        return ""
    text = f"{value['value']:.{digits}f}"
    if value["low"] is None:
        return text
    return f"{text} ({value['low']:.{digits}f} to {value['high']:.{digits}f})"
