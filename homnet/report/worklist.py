"""List of diagnosed patients, most urgent first, with links to their pages."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from homnet.patients.verdict import DECISIONS, URGENT_FIRST
from homnet.report.html import label, render_page


def render_worklist(
    patients: pa.Table,
    pages: Collection[str],
    refused: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> str:
    """Returns the page as HTML.

    Args:
        patients: rows of :data:`homnet.patients.tables.PATIENTS`.
        pages: paths of the written pages, relative to the folder of this one.
        refused: number of refused pictures, by hospital and patient.
    """
    rows = [
        {**_row(one, pages), "refused": refused.get((one["hospital"], one["patient_id"]), 0)}
        for one in patients.to_pylist()
    ]
    rows.sort(key=lambda row: (URGENT_FIRST.index(row["decision"]), -(row["probability"] or 0.0)))
    decisions = [row["decision"] for row in rows]
    return render_page(
        "worklist.html.j2",
        "patient.css",
        rows=rows,
        # ISCN names require a reader of findings.
        has_drafts=any(row["drafts"] for row in rows),
        any_refused=any(row["refused"] for row in rows),
        counts={
            DECISIONS[name].lower(): decisions.count(name)
            for name in URGENT_FIRST
            if name in decisions
        },
    )


def _row(one: Mapping[str, Any], pages: Collection[str]) -> dict[str, Any]:
    assessed = one["decision"] != "not_assessed"
    page = f"patients/{one['hospital']}/{one['patient_id']}.html"
    return {
        **one,
        "verdict": DECISIONS[one["decision"]],
        "reasons": ", ".join(label(code) for code in one["abstentions"]),
        # What was seen of a patient who is not assessed is no finding; the page says what it was.
        "flagged": ", ".join(one["flagged"] if assessed else ()),
        "drafts": "; ".join(one["drafts"] if assessed else ()),
        "page": page if page in pages else None,
    }
