"""Report on one patient as a self-contained HTML page."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from homnet.calibration.patients import NO_READER_USED
from homnet.cohorts.pairs import TURNED
from homnet.cohorts.summary import has_flag
from homnet.imaging.extraction import ExtractionConfig
from homnet.karyotype.kinds import IN_WORDS
from homnet.karyotype.nomenclature import band_name
from homnet.patients.finding import NOT_READ, BreakpointEstimate, CellFinding, Finding
from homnet.patients.pictures import SentPicture
from homnet.patients.verdict import DECISIONS, PatientVerdict, TypeVerdict
from homnet.report.examples import pairs_by_cell
from homnet.report.html import label, render_page, style_sheet
from homnet.report.karyogram import Photographs, evidence, whole_cell
from homnet.report.photograph import Photograph, album, photographs_of
from homnet.report.tables import distinct, percent, probable
from homnet.report.upright import Floats, typical_profiles

Pairs = Mapping[str, NDArray[np.uint8]]
"""Sequences (2, 2, 512) by type, or by cell."""

Images = Mapping[tuple[str, str], Sequence[NDArray[np.uint8]]]
"""Grey images (H, W) of the homologs, by cell and type."""
NO_IMAGES: Final[Images] = MappingProxyType({})
DEFAULT_EXTRACTION: Final = ExtractionConfig()
_SIDES: Final = ("left", "right")


@cache
def patient_style() -> str:
    """The text of the only style element of every patient's page, for a policy that names it."""
    return style_sheet("style.css", "patient.css")


def render_patient(
    verdict: PatientVerdict,
    table: pa.Table,
    *,
    samples_per_px: float,
    images: Images = NO_IMAGES,
    extraction: ExtractionConfig = DEFAULT_EXTRACTION,
    sent: Sequence[SentPicture] = (),
) -> str:
    """Returns the page as HTML.

    Args:
        verdict: verdict on the patient.
        table: pairs, of this patient and perhaps of others; columns of truth are ignored.
        samples_per_px: samples of a sequence per image pixel in the hospital.
        images: the chromosomes as they were sent, which are shown instead of their sequences; the
            table needs ``quality`` then.
        extraction: how they were measured, but for the scale.
        sent: the pictures of the patient; those with a remark are listed.
    """
    table = _own_rows(verdict, table)
    cells = pairs_by_cell(table, verdict.patient_id)
    types: dict[str, dict[str, NDArray[np.uint8]]] = {}
    for cell, of_type in cells.items():
        for chromosome, pair in of_type.items():
            types.setdefault(chromosome, {})[cell] = pair
    typical = typical_profiles(cells.values())
    shown = _fullest(verdict, cells)
    extraction = replace(extraction, samples_per_px=samples_per_px)
    photographs = _photographs(verdict, table, cells, shown, images, extraction)
    of_shown = {name: of[shown] for name, of in photographs.items() if shown in of}
    flagged = [one.chromosome for one in verdict.flagged]
    drawn = [*verdict.flagged, *(one for one in verdict.types if not one.flagged)]
    return render_page(
        "patient.html.j2",
        "patient.css",
        verdict=verdict,
        headline=DECISIONS[verdict.decision],
        sentence=verdict_sentence(verdict),
        evidence=None
        if verdict.score is None or verdict.threshold is None
        else distinct(verdict.score, verdict.threshold),
        flagged=[_described(one) for one in verdict.flagged],
        rows=[_row(one, one.chromosome in types) for one in verdict.types],
        shown_cell=shown,
        karyogram=None
        if shown is None
        else whole_cell(
            cells[shown],
            flagged,
            typical_profiles=typical,
            samples_per_px=samples_per_px,
            label=f"Karyogram of cell {shown}; flagged: {', '.join(flagged) or 'none'}.",
            findings=_of_cell(verdict, shown),
            links={
                one.chromosome: _link_name(one, types[one.chromosome], shown)
                for one in verdict.types
                if one.chromosome in types
            },
            photographs=of_shown,
        ),
        album=album(
            one
            for of_cell in photographs.values()
            for pair in of_cell.values()
            for one in pair
            if one is not None
        ),
        photographs_in_cell=bool(of_shown),
        drawn_instead=[] if shown is None else _drawn(cells[shown], of_shown),
        pictures=[
            _picture(
                verdict,
                one,
                types[one.chromosome],
                typical[one.chromosome],
                samples_per_px,
                photographs.get(one.chromosome, {}),
            )
            for one in drawn
            if one.chromosome in types
        ],
        flags=_flags(table),
        remarkable=[one for one in sent if one.refused or one.remarks],
        read=verdict.versions.get("reader", NO_READER_USED) != NO_READER_USED,
    )


def _photographs(
    verdict: PatientVerdict,
    table: pa.Table,
    cells: Mapping[str, Pairs],
    shown: str | None,
    images: Images,
    extraction: ExtractionConfig,
) -> dict[str, dict[str, Sequence[Photograph | None]]]:
    """Returns the photographs of all pairs that have images, by type and cell.

    Where marks follow the axis, or a homolog may have been turned, images are measured again.
    """
    if not images:
        return {}
    marked = {one.chromosome for one in verdict.types if one.flagged or _is_scored(one)}
    turned = table.filter(has_flag(pc.struct_field(table["quality"], "flags"), TURNED))
    measured = set(
        zip(*(turned[name].to_pylist() for name in ("cell_id", "chromosome")), strict=True)
    )
    found: dict[str, dict[str, Sequence[Photograph | None]]] = {}
    for number, (cell, chromosome) in enumerate(sorted(images)):
        if chromosome in cells.get(cell, {}):
            found.setdefault(chromosome, {})[cell] = photographs_of(
                cells[cell][chromosome],
                images[cell, chromosome],
                config=extraction,
                name=f"photograph-{number}",
                measured=cell == shown or chromosome in marked or (cell, chromosome) in measured,
            )
    return found


def _is_scored(one: TypeVerdict) -> bool:
    """Whether there is a score along the homologs of some cell."""
    return any(cell.score_PL is not None for cell in (one.finding.cells if one.finding else ()))


def verdict_sentence(verdict: PatientVerdict) -> str:
    """Returns the verdict in one sentence: decision, types, probability, what was not assessed."""
    probability = None
    if verdict.probability is not None and verdict.prevalence is not None:
        probability = (
            f"{probable(verdict.probability)}, if {percent(verdict.prevalence)} of the "
            "laboratory's patients carry one"
        )
    if verdict.decision == "not_assessed":
        reasons = ", ".join(label(one.code) for one in verdict.abstentions)
        seen = (
            f"; what was seen all the same, a probability of an abnormality of {probability}, "
            "is no finding"
        )
        return f"{DECISIONS[verdict.decision]}: {reasons}{seen if probability else ''}."
    text = DECISIONS[verdict.decision]
    if verdict.flagged:
        text += f" on {_chromosomes(_with_drafts(verdict.flagged))}"
    if probability:
        text += f"; probability {probability}"
    left_out = [one.chromosome for one in verdict.types if one.evidence is None]
    if left_out:
        text += f"; not assessed: {_chromosomes(left_out)}"
    return f"{text}."


def _with_drafts(flagged: Sequence[TypeVerdict]) -> list[str]:
    """Returns the types, each draft behind the last type that has it."""
    drafts = [one.draft for one in flagged]
    return [
        one.chromosome
        if draft is None or draft in drafts[number + 1 :]
        else f"{one.chromosome} ({draft})"
        for number, (one, draft) in enumerate(zip(flagged, drafts, strict=True))
    ]


def _chromosomes(names: Sequence[str]) -> str:
    """Returns names of types as words."""
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"chromosome{'s' if len(names) > 1 else ''} {listed}"


def _own_rows(verdict: PatientVerdict, table: pa.Table) -> pa.Table:
    """Returns the rows of the patient; another hospital's may have the same name."""
    if not table.num_rows:
        return table
    return table.filter(
        pc.and_(
            pc.equal(table["hospital"], verdict.hospital),
            pc.equal(table["patient_id"], verdict.patient_id),
        )
    )


def _of_cell(verdict: PatientVerdict, cell_id: str) -> dict[str, CellFinding]:
    """Returns the findings of one cell, by flagged type."""
    return {
        one.chromosome: cell
        for one in verdict.flagged
        if one.finding is not None
        for cell in one.finding.cells
        if cell.cell_id == cell_id
    }


def _link_name(one: TypeVerdict, cells: Collection[str], shown: str) -> str:
    """Returns the accessible name of a type of the karyogram."""
    words = [f"Chromosome {one.chromosome}"]
    if one.flagged:
        words.append("flagged")
        for cell in one.finding.cells if one.finding is not None else ():
            if cell.cell_id == shown and cell.homolog is not None and cell.looks_abnormal:
                words.append(f"the {_SIDES[cell.homolog]} homolog looks abnormal")
    elif one.evidence is None:
        words.append("not assessed")
    words.append(f"to its {len(cells)} cell{'s' if len(cells) > 1 else ''}")
    return ", ".join(words)


def _picture(
    verdict: PatientVerdict,
    one: TypeVerdict,
    pairs: Pairs,
    typical_F: Floats | None,
    samples_per_px: float,
    photographs: Photographs,
) -> dict[str, Any]:
    """Returns all cells of a type: as a picture, and as text for screen readers."""
    finding = one.finding or Finding(verdict.hospital, verdict.patient_id, one.chromosome, None)
    compared = sorted(
        (cell for cell in finding.cells if cell.cell_id in pairs),
        key=lambda cell: -(cell.probability or 0.0),
    )
    described = [f"cell {cell.cell_id}{_in_words(cell)}" for cell in compared]
    left_out = sorted(set(pairs) - {cell.cell_id for cell in compared})
    described += [f"cell {name}, not compared" for name in left_out]
    return {
        "chromosome": one.chromosome,
        "flagged": one.flagged,
        "svg": evidence(
            finding,
            pairs,
            level=_usual_level(verdict),
            samples_per_px=samples_per_px,
            label=f"Homologs of chromosome {one.chromosome}: {'; '.join(described)}.",
            typical_F=typical_F,
            photographs=photographs,
            coarse=not one.flagged,
        ),
        "drawn_instead": _drawn(pairs, photographs),
        "scored": _is_scored(one),
        "summary": _summary(one),
    }


def _drawn(pairs: Pairs, photographs: Photographs) -> list[str]:
    """Returns the names of the homologs without a photograph, by type or by cell."""
    return [
        f"{name} ({_SIDES[slot]})"
        for name, pair_PCL in pairs.items()
        for slot, sequence_CL in enumerate(pair_PCL)
        if sequence_CL.any() and photographs.get(name, (None, None))[slot] is None
    ]


def _in_words(cell: CellFinding) -> str:
    """Returns the part of a cell in a finding as words."""
    words = "" if cell.probability is None else f", abnormal {probable(cell.probability)}"
    if cell.homolog is not None and cell.homolog_probability is not None and cell.looks_abnormal:
        words += f", {_SIDES[cell.homolog]} homolog {probable(cell.homolog_probability)}"
    return words


def _summary(one: TypeVerdict) -> str:
    """Returns what is known of a type, in a line above its cells."""
    parts = ["flagged" if one.flagged else "not flagged"]
    if one.evidence is not None and one.finding is not None:
        if one.finding.probability is not None:
            parts.append(f"probability {probable(one.finding.probability, 3)}")
        parts.append(f"evidence {one.evidence:.1f}")
    if one.clone is not None and one.evidence is not None:
        parts.append(f"more likely abnormal: {one.clone.num_abnormal} of {one.clone.num_cells}")
    parts += one.not_assessed
    return "; ".join(parts)


def _described(one: TypeVerdict) -> dict[str, Any]:
    """Returns a flagged type as text."""
    finding = one.finding
    kind = None if finding is None else finding.abnormal_kind
    return {
        "chromosome": one.chromosome,
        "draft": None if one.draft is None else str(one.draft),
        "kind": None if kind is None else IN_WORDS[kind],
        "kind_probability": None if finding is None or kind is None else finding.kinds[kind],
        "unread": _unread(finding),
        "places": [] if finding is None or kind is None else _places(finding),
        "cells": "not assessed" if one.clone is None else one.clone.describe(),
    }


def _unread(finding: Finding | None) -> str:
    """Returns what to say of a type without a kind."""
    reasons = {one.reason for one in finding.not_answered} if finding is not None else set()
    return "not read" if NOT_READ in reasons else "not assessed"


def _places(finding: Finding) -> list[str]:
    """Returns the ends of the abnormal segment as text."""
    if any(one.question == "breakpoints" for one in finding.not_answered):
        return []
    start, stop = (
        f"the tip of the {arm} arm" if place is None else _place(finding.chromosome, place)
        for arm, place in (("short", finding.start), ("long", finding.stop))
    )
    return [f"from {start}", f"to {stop}"]


def _place(chromosome: str, place: BreakpointEstimate) -> str:
    named, low, high = (
        band_name(chromosome, mb, place.level) for mb in (place.mb, place.low_mb, place.high_mb)
    )
    bands = low if low == high else f"{low} to {high}"
    return (
        f"{chromosome}{named}, {place.mb:.1f} Mb "
        f"({place.low_mb:.1f} to {place.high_mb:.1f} Mb, {bands}, {place.level} bands)"
    )


def _row(one: TypeVerdict, drawn: bool) -> dict[str, Any]:
    """Returns a row of the table of types; ``drawn`` is whether it has cells to look at."""
    finding = one.finding
    counted = one.evidence is not None and finding is not None
    kind = None if finding is None else finding.abnormal_kind if one.flagged else finding.kind
    return {
        "chromosome": one.chromosome,
        "drawn": drawn,
        "flagged": one.flagged,
        "probability": finding.probability if counted and finding is not None else None,
        "evidence": one.evidence,
        "cells": 0 if finding is None else len(finding.cells),
        "abnormal": None if one.clone is None or not counted else one.clone.num_abnormal,
        "kind": _unread(finding) if kind is None else IN_WORDS[kind],
        "not_assessed": "; ".join(one.not_assessed),
    }


def _fullest(verdict: PatientVerdict, cells: Mapping[str, Pairs]) -> str | None:
    """Returns the cell to draw, preferring abnormal, then complete, then high-resolution cells."""
    abnormal: dict[str, list[float]] = {}
    for one in verdict.flagged:
        for cell in one.finding.cells if one.finding is not None else ():
            if cell.looks_abnormal:
                abnormal.setdefault(cell.cell_id, []).append(cell.probability or 0.0)

    def merit(cell: str) -> tuple[int, int, int, float]:
        seen = abnormal.get(cell, [])
        homologs = sum(int(pair[1].any()) + 1 for pair in cells[cell].values())
        return len(seen), homologs, verdict.cells.get(cell, 0), sum(seen)

    return max(sorted(cells), key=merit, default=None)


def _usual_level(verdict: PatientVerdict) -> int:
    """Returns the most frequent band level of the cells; the lower one in a tie."""
    levels = verdict.band_levels
    return max(levels, key=lambda level: (levels[level], -level)) if levels else 400


def _flags(table: pa.Table) -> dict[str, int]:
    """Returns the quality flags of the patient's pairs, if the table has any."""
    counts: dict[str, int] = {}
    if "quality" in table.schema.names:
        for quality in table["quality"].to_pylist():
            for flag in (quality or {}).get("flags") or ():
                counts[flag] = counts.get(flag, 0) + 1
    return dict(sorted(counts.items()))
