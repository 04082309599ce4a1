"""Report on a cohort of diagnosed patients: tables, reliability, detection limit, failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from homnet.cohorts.pairs import pairs_of
from homnet.patients.finding import Finding
from homnet.patients.metrics import share
from homnet.reader.measures import Table, findings_tables
from homnet.report.html import data_uri, label, render_page
from homnet.report.karyogram import evidence
from homnet.report.markdown import markdown_table, tables_text
from homnet.report.patient_figures import detection_curve, reliability_figure
from homnet.report.tables import ABSENT, cell, distinct, number, scopes

_CELLS_DRAWN: Final = 6
"""Number of cells drawn per failure; the most suspicious are drawn."""


@dataclass(frozen=True, eq=False)
class Case:
    """A failure to draw: one type of one patient."""

    title: str
    """``"overlooked"`` or ``"false alarm"``."""
    patient: Mapping[str, Any]
    """Row of the patient, including the truth."""
    finding: Finding
    """Finding on the type."""
    table: pa.Table
    """The patient's pairs of the type."""
    samples_per_px: float
    """Samples of a sequence per image pixel."""


def render_cohort(
    figures: Mapping[str, Any], gallery: Sequence[Case], provenance: Mapping[str, Any]
) -> str:
    """Returns the page as HTML.

    Args:
        figures: result of :func:`homnet.patients.metrics.measure_patients`, with ``specificity``,
            ``reader``, and, if there was a reader, ``findings`` from
            :func:`homnet.reader.measures.measure`.
        gallery: failures to draw.
        provenance: provenance of the diagnosis.
    """
    return render_page(
        "cohort.html.j2",
        "patient.css",
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
    """Returns the same tables with their titles, in Markdown.

    Args:
        figures: as of :func:`homnet.patients.metrics.measure_patients`.
        titles: titles of the wanted tables; all by default.
    """
    return tables_text(one for one in _tables(figures) if not titles or one[0] in titles)


def verdicts_markdown(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a table of several sets of verdicts on the same patients, one row per set.

    Args:
        records: figures as of :func:`homnet.patients.metrics.measure_patients`, by label.
    """
    hospitals = sorted({name for one in records.values() for name in one["hospitals"]})
    heads = [
        "",
        *(f"Sensitivity, {name}" for name in hospitals),
        *_RATES,
        "AUC",
        "Calibration error",
        "By chance alone",
        "Variants above 99 % of the types without one",
    ]
    rows = [
        [
            label,
            *(number(one["hospitals"][name]["sensitivity"]["value"]) for name in hospitals),
            *_rates(one["overall"]),
            *_scores(one["overall"]),
            _rate(one["variants"]["variants"]["at_one_percent_of_others"]),
        ]
        for label, one in records.items()
    ]
    return markdown_table(heads, rows)


def verdicts_in_short(figures: Mapping[str, Any]) -> str:
    """Returns :func:`verdicts_by_hospital` in Markdown."""
    return markdown_table(*verdicts_by_hospital(figures))


def verdicts_by_hospital(figures: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows by hospital: abnormal patients found, healthy called abnormal.

    Args:
        figures: as of :func:`homnet.patients.metrics.measure_patients`.
    """
    rows = []
    for name, one in scopes(figures):
        found, (_, assessed) = one["sensitivity"], _cleared(one)
        rows.append(
            [
                name,
                f"{found['count']} of {found['total']}",
                cell(found),
                f"{assessed['total'] - assessed['count']} of {assessed['total']}",
                cell(assessed),
                str(sum(one["abstained"][which]["count"] for which in ("abnormal", "normal"))),
            ]
        )
    heads = [
        "Hospital",
        "Found",
        "Sensitivity",
        "False alarms among those assessed",
        "Specificity of those assessed",
        "Not assessed",
    ]
    return heads, rows


def _tables(figures: Mapping[str, Any]) -> list[Table]:
    """Returns titles, headings and cells of all tables."""
    by_hospital = [
        [
            name,
            f"{one['num_abnormal']}, {one['num_normal']}",
            f"{one['abstained']['abnormal']['count']}, {one['abstained']['normal']['count']}",
            *_rates(one),
            cell(one["right_type"]),
        ]
        for name, one in scopes(figures)
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
                "Not assessed: abnormal, healthy",
                *_RATES,
                "Right chromosome among those found",
            ],
            by_hospital,
        ),
        (
            "Scores by hospital",
            ["Hospital", "AUC", "Calibration error", "By chance alone"],
            [[name, *_scores(one)] for name, one in scopes(figures)],
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
_RATES: Final = [
    "Sensitivity",
    "Sensitivity of those assessed",
    "Healthy patients cleared",
    "Specificity of those assessed",
]
_BOTH: Final = ["", "Abnormal, healthy patients", "Not assessed", *_RATES]


def _rates(one: Mapping[str, Any]) -> list[str]:
    """Returns the cells of :data:`_RATES`."""
    sensitivity, cleared = one["sensitivity"], _cleared(one)
    assessed = one.get("sensitivity_of_assessed") or (sensitivity if cleared[0] else None)
    return [cell(each) for each in (sensitivity, assessed, *cleared)]


def _cleared(one: Mapping[str, Any]) -> tuple[Any, Any]:
    """Returns the shares of healthy patients cleared: of all, and of those assessed.

    In records written before 2026-11-28, ``specificity`` is the share not called abnormal, whether
    assessed or not. The meaning is inferred from the number of healthy abstentions if recorded.
    """
    if "cleared" in one:
        return one["cleared"], one["specificity_of_assessed"]
    abstained = one["abstained"]
    if isinstance(abstained, Mapping):
        abstained = abstained["normal"]["count"]
    elif abstained > 0:  # abnormal and healthy ones together
        return None, None
    silent = one["specificity"]
    count = silent["count"] - abstained
    return share(count, silent["total"]), share(count, silent["total"] - abstained)


def _scores(one: Mapping[str, Any]) -> list[str]:
    names = ("auc", "calibration_error", "calibration_error_by_chance")
    return [cell(one[name]) for name in names]


def _found(part: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            label(name),
            str(one["sensitivity"]["total"]),
            cell(one["sensitivity"]),
            str(one["abstained"]),
            cell(one["right_type"]),
        ]
        for name, one in part.items()
    ]


def _both(part: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            name,
            f"{one['sensitivity']['total']}, {one.get('cleared', one.get('specificity'))['total']}",
            str(one["abstained"]),
            *_rates(one),
        ]
        for name, one in part.items()
    ]


def _rate(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return ABSENT
    return (
        f"{share['value']:.4f} ({share['low']:.4f} to {share['high']:.4f}), "
        f"{share['count']} of {share['total']}"
    )


def named_truth(patient: Mapping[Any, Any]) -> str:
    """Returns the name of a carrier's abnormality, or else its kind; pandas has NaN for neither."""
    named = (one for one in (patient["true_iscn"], patient["true_kind"]) if isinstance(one, str))
    return label(next(named, "unspecified"))


def _drawn(case: Case) -> dict[str, str]:
    """Returns a failure as picture and text."""
    patient, finding = case.patient, case.finding
    shown = sorted(finding.cells, key=lambda one: -(one.probability or 0.0))[:_CELLS_DRAWN]
    names = {one.cell_id for one in shown}
    pairs = {
        name: pair
        for name, pair in zip(case.table["cell_id"].to_pylist(), pairs_of(case.table), strict=True)
        if name in names
    }
    level = int(np.median([one.band_level for one in shown])) if shown else 400
    levels = [one for one in (700, 550, 400, 300) if one <= level]
    if patient["true_abnormal"]:
        size = patient["true_size_mb"]
        share = patient["true_share"]
        truth = (
            named_truth(patient)
            + (f", {size:.0f} Mb" if np.isfinite(size) else "")
            + (f", in {share:.0%} of the cells" if share < 1 else "")
        )
    else:
        truth = "healthy"
    return {
        "title": f"{case.title}: {patient['hospital']}, {patient['patient_id']}, chromosome "
        f"{finding.chromosome}",
        "truth": truth,
        "score": ", threshold ".join(distinct(patient["score"], patient["threshold"])),
        "decision": label(patient["decision"]),
        "svg": evidence(
            finding,
            pairs,
            level=levels[0],
            samples_per_px=case.samples_per_px,
            label=f"Chromosome {finding.chromosome} in {len(pairs)} cells.",
        ),
    }
