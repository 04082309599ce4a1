"""Report on one patient as a self-contained HTML page."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from homnet.calibration.patients import NO_READER_USED
from homnet.karyotype.kinds import IN_WORDS
from homnet.patients.finding import Finding
from homnet.patients.verdict import DECISIONS, PatientVerdict, TypeVerdict
from homnet.report.examples import pairs_by_cell
from homnet.report.html import render_page
from homnet.report.karyogram import evidence, whole_cell
from homnet.report.upright import typical_profiles

_MOST_DRAWN: Final = 4
"""Maximum number of types whose cells are drawn."""


def render_patient(verdict: PatientVerdict, table: pa.Table, *, samples_per_px: float) -> str:
    """Returns the page as HTML.

    Args:
        verdict: verdict on the patient.
        table: the patient's pairs; columns of truth are ignored.
        samples_per_px: samples of a sequence per image pixel in the hospital.
    """
    pairs = pairs_by_cell(table, verdict.patient_id)
    cell = _fullest(verdict, pairs)
    flagged = [one.chromosome for one in verdict.flagged]
    return render_page(
        "patient.html.j2",
        verdict=verdict,
        headline=DECISIONS[verdict.decision],
        flagged=[_described(one) for one in verdict.flagged],
        rows=[_row(one) for one in verdict.types],
        shown_cell=cell,
        karyogram=whole_cell(
            pairs.get(cell, {}),
            flagged,
            typical_profiles=typical_profiles(pairs.values()),
            samples_per_px=samples_per_px,
            label=f"Karyogram of cell {cell}; flagged: {', '.join(flagged) or 'none'}.",
        )
        if cell
        else None,
        pictures=[
            {
                "chromosome": one.chromosome,
                "svg": evidence(
                    one.finding,
                    {
                        name: of_type[one.chromosome]
                        for name, of_type in pairs.items()
                        if one.chromosome in of_type
                    },
                    level=_usual_level(verdict),
                    samples_per_px=samples_per_px,
                    label=f"Both homologs of chromosome {one.chromosome} in every assessed cell.",
                ),
                "scored": any(cell.score_PL is not None for cell in one.finding.cells),
            }
            for one in verdict.flagged[:_MOST_DRAWN]
            if one.finding is not None
        ],
        not_drawn=[one.chromosome for one in verdict.flagged[_MOST_DRAWN:]],
        flags=_flags(table, verdict.patient_id),
        read=verdict.versions.get("reader", NO_READER_USED) != NO_READER_USED,
    )


def _described(one: TypeVerdict) -> dict[str, Any]:
    """Returns a flagged type as text."""
    finding = one.finding
    kind = None if finding is None else finding.abnormal_kind
    return {
        "chromosome": one.chromosome,
        "draft": None if one.draft is None else str(one.draft),
        "kind": None if kind is None else IN_WORDS[kind],
        "kind_probability": None if finding is None or kind is None else finding.kinds[kind],
        "places": [] if finding is None else _places(finding),
        "cells": "not assessed" if one.clone is None else one.clone.describe(),
    }


def _places(finding: Finding) -> list[str]:
    """Returns the breakpoints as text."""
    found = []
    for place in (finding.start, finding.stop):
        if place is not None:
            bands = (
                place.low_band
                if place.low_band == place.high_band
                else f"{place.low_band} to {place.high_band}"
            )
            found.append(
                f"{finding.chromosome}{place.band}, {place.mb:.1f} Mb "
                f"({place.low_mb:.1f} to {place.high_mb:.1f} Mb, {bands}, {place.level} bands)"
            )
    return found


def _row(one: TypeVerdict) -> dict[str, Any]:
    """Returns a row of the table of types."""
    finding = one.finding
    counted = one.evidence is not None and finding is not None
    return {
        "chromosome": one.chromosome,
        "flagged": one.flagged,
        "probability": finding.probability if counted and finding is not None else None,
        "evidence": one.evidence,
        "cells": 0 if finding is None else len(finding.cells),
        "abnormal": None if one.clone is None or not counted else one.clone.num_abnormal,
        "kind": None
        if finding is None or finding.kind is None
        else IN_WORDS[finding.abnormal_kind or finding.kind]
        if one.flagged
        else IN_WORDS[finding.kind],
        "not_assessed": "; ".join(one.not_assessed),
    }


def _fullest(
    verdict: PatientVerdict, pairs: Mapping[str, Mapping[str, NDArray[np.uint8]]]
) -> str | None:
    """Returns the cell to draw, preferring abnormal, then complete, then high-resolution cells."""
    suspicious = {
        cell.cell_id: (cell.probability or 0.0)
        for one in verdict.flagged[:1]
        if one.finding is not None
        for cell in one.finding.cells
    }

    def merit(cell: str) -> tuple[bool, int, int, float]:
        probability = suspicious.get(cell, 0.0)
        homologs = sum(int(pair[1].any()) + 1 for pair in pairs[cell].values())
        return probability > 0.5, homologs, verdict.cells.get(cell, 0), probability

    return max(sorted(pairs), key=merit, default=None)


def _usual_level(verdict: PatientVerdict) -> int:
    """Returns the most frequent band level of the cells; the lower one in a tie."""
    levels = verdict.band_levels
    return max(levels, key=lambda level: (levels[level], -level)) if levels else 400


def _flags(table: pa.Table, patient_id: str) -> dict[str, int]:
    """Returns the quality flags of the patient's pairs, if the table has any."""
    counts: dict[str, int] = {}
    if "quality" not in table.schema.names:
        return counts
    rows = zip(table["patient_id"].to_pylist(), table["quality"].to_pylist(), strict=True)
    for patient, quality in rows:
        for flag in (quality or {}).get("flags") or () if patient == patient_id else ():
            counts[flag] = counts.get(flag, 0) + 1
    return dict(sorted(counts.items()))
