"""The report on a cohort of diagnosed patients: tables, reliability, detection limit, failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from homnet.cohorts.pairs import pairs_of
from homnet.patients.finding import Finding
from homnet.reader.measures import Table, findings_tables
from homnet.report.html import data_uri, label, render_page
from homnet.report.karyogram import evidence
from homnet.report.markdown import markdown_table, tables_text
from homnet.report.patient_figures import detection_curve, reliability_figure

_CELLS_DRAWN: Final = 6
"""Cells of a failure that are drawn: the most suspicious ones."""


@dataclass(frozen=True, eq=False)
class Case:
    """A failure to draw: one type of one patient."""

    title: str
    """``"overlooked"`` or ``"false alarm"``."""
    patient: Mapping[str, Any]
    """Line of the patient, with the truth."""
    finding: Finding
    """What was found on the type."""
    table: pa.Table
    """The patient's pairs of the type."""
    samples_per_px: float
    """Samples of a sequence per image pixel."""


def render_cohort(
    figures: Mapping[str, Any], gallery: Sequence[Case], provenance: Mapping[str, Any]
) -> str:
    """The page as text.

    Args:
        figures: what :func:`homnet.patients.metrics.measure_patients` returned, with
            ``calibrations``, ``reader``, and what :func:`homnet.reader.measures.measure` returned
            as ``findings`` where there was a reader.
        gallery: failures to draw.
        provenance: of the diagnosis.
    """
    return render_page(
        "cohort.html.j2",
        figures=figures,
        tables=[
            {"title": title, "heads": heads, "rows": rows}
            for title, heads, rows in _tables(figures)
        ],
        reliability=data_uri(reliability_figure(figures["reliability"]), "svg+xml"),
        detection=data_uri(detection_curve(figures["sizes_mb"]), "svg+xml"),
        gallery=[_drawn(case) for case in gallery],
        models=provenance["models"],
        reader=figures["reader"],
    )


def cohort_markdown(figures: Mapping[str, Any], titles: Sequence[str] = ()) -> str:
    """The same tables in Markdown, with their titles.

    Args:
        figures: as of :func:`homnet.patients.metrics.measure_patients`.
        titles: of the tables that are wanted; all by default.
    """
    return tables_text(one for one in _tables(figures) if not titles or one[0] in titles)


def verdicts_markdown(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Several sets of verdicts on the same patients, a line each.

    Args:
        records: by label, figures as of :func:`homnet.patients.metrics.measure_patients`.
    """
    hospitals = sorted({name for one in records.values() for name in one["hospitals"]})
    heads = [
        "",
        *(f"Sensitivity, {name}" for name in hospitals),
        "Sensitivity, all",
        "Specificity",
        "AUC",
        "Calibration error",
        "By chance alone",
        "Variants above 99 % of the types without one",
    ]
    rows = [
        [
            label,
            *(f"{one['hospitals'][name]['sensitivity']['value']:.3f}" for name in hospitals),
            *(
                with_interval(one["overall"][name])
                for name in (
                    "sensitivity",
                    "specificity",
                    "auc",
                    "calibration_error",
                    "calibration_error_by_chance",
                )
            ),
            _rate(one["variants"]["variants"]["at_one_percent_of_others"]),
        ]
        for label, one in records.items()
    ]
    return markdown_table(heads, rows)


def with_interval(share: Mapping[str, Any] | None) -> str:
    """A share or an estimate with its interval, for example ``"0.81 (0.65 to 0.92)"``."""
    if share is None or share["value"] is None:
        return "n/a"
    value = f"{share['value']:.3f}"
    if share["low"] is None:
        return value
    return f"{value} ({share['low']:.2f} to {share['high']:.2f})"


def _tables(figures: Mapping[str, Any]) -> list[Table]:
    """Titles, headings and cells of all tables."""
    scopes = [*figures["hospitals"].items(), ("all hospitals", figures["overall"])]
    by_hospital = [
        [
            name,
            f"{one['num_abnormal']}, {one['num_normal']}",
            with_interval(one["sensitivity"]),
            with_interval(one["specificity"]),
            f"{one['abstained']['abnormal']['count']}, {one['abstained']['normal']['count']}",
            with_interval(one["right_type"]),
            with_interval(one["auc"]),
            with_interval(one["calibration_error"]),
            with_interval(one["calibration_error_by_chance"]),
        ]
        for name, one in scopes
    ]
    reasons = figures["overall"]["abstained"]["reasons"]
    variants = figures["variants"]
    read = findings_tables(figures["findings"]) if "findings" in figures else []
    return [
        (
            "By hospital",
            [
                "Hospital",
                "Abnormal, healthy patients",
                "Sensitivity",
                "Specificity",
                "Not assessed: abnormal, healthy",
                "Right chromosome among those found",
                "AUC",
                "Calibration error",
                "By chance alone",
            ],
            by_hospital,
        ),
        (
            "Why patients were not assessed",
            ["Reason", "Patients"],
            [[label(name), str(count)] for name, count in reasons.items()] or [["none", "0"]],
        ),
        ("By kind", _HEADS, _found(figures["kinds"])),
        ("By size", _HEADS, _found(figures["sizes_mb"])),
        ("By share of abnormal cells", _HEADS, _found(figures["mosaics"])),
        ("By band level of half of the cells", _BOTH, _both(figures["band_levels"])),
        ("By number of cells", _BOTH, _both(figures["cells"])),
        (
            "Harmless variants",
            ["Normal types", "False alarms", "Above 99 % of the types without a variant"],
            [
                [name, _rate(one["over_threshold"]), _rate(one["at_one_percent_of_others"])]
                for name, one in (
                    ("without a variant", variants["others"]),
                    ("with a variant", variants["variants"]),
                    *variants["families"].items(),
                )
            ],
        ),
        *read,
    ]


_HEADS: Final = ["", "Patients", "Found", "Not assessed", "Right chromosome among those found"]
_BOTH: Final = ["", "Abnormal, healthy patients", "Sensitivity", "Specificity", "Not assessed"]


def _found(part: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            label(name),
            str(one["sensitivity"]["total"]),
            with_interval(one["sensitivity"]),
            str(one["abstained"]),
            with_interval(one["right_type"]),
        ]
        for name, one in part.items()
    ]


def _both(part: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            f"{one['sensitivity']['total']}, {one['specificity']['total']}",
            with_interval(one["sensitivity"]),
            with_interval(one["specificity"]),
            str(one["abstained"]),
        ]
        for name, one in part.items()
    ]


def _rate(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return "n/a"
    return (
        f"{share['value']:.4f} ({share['low']:.4f} to {share['high']:.4f}), "
        f"{share['count']} of {share['total']}"
    )


def _drawn(case: Case) -> dict[str, str]:
    """A failure as picture and words."""
    patient, finding = case.patient, case.finding
    shown = sorted(finding.cells, key=lambda cell: -(cell.probability or 0.0))[:_CELLS_DRAWN]
    names = {cell.cell_id for cell in shown}
    pairs = {
        cell: pair
        for cell, pair in zip(case.table["cell_id"].to_pylist(), pairs_of(case.table), strict=True)
        if cell in names
    }
    level = int(np.median([cell.band_level for cell in shown])) if shown else 400
    levels = [one for one in (700, 550, 400, 300) if one <= level]
    if patient["true_abnormal"]:
        size = patient["true_size_mb"]
        share = patient["true_share"]
        truth = (
            f"{patient['true_iscn'] or label(patient['true_kind'] or 'unspecified')}"
            + (f", {size:.0f} Mb" if np.isfinite(size) else "")
            + (f", in {share:.0%} of the cells" if share < 1 else "")
        )
    else:
        truth = "healthy"
    return {
        "title": f"{case.title}: {patient['hospital']}, {patient['patient_id']}, chromosome "
        f"{finding.chromosome}",
        "truth": truth,
        "score": f"{patient['score']:.1f}, threshold {patient['threshold']:.1f}",
        "decision": label(patient["decision"]),
        "svg": evidence(
            finding,
            pairs,
            level=levels[0],
            samples_per_px=case.samples_per_px,
            label=f"Chromosome {finding.chromosome} in {len(pairs)} cells.",
        ),
    }
