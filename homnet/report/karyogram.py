"""Karyograms for reports, as inline SVG: one whole cell, all cells of a type, single pairs.

Short arms are up, homologs are side by side, and all chromosomes of a picture have one scale. In
cells, centromeres are aligned. The position of the waist is not measured but inferred from the
bands (:mod:`homnet.report.upright`).

Shape suffixes: L positions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from itertools import groupby
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from homnet.karyotype.bands import band_table
from homnet.karyotype.chromosomes import DENVER_GROUP_OF, KARYOGRAM_ROWS
from homnet.patients.finding import CellFinding, Finding
from homnet.report.chromosome import Drawn, Sheet, draw_pair, side_by_side, svg, text
from homnet.report.examples import Example
from homnet.report.html import INK, MARK, MUTED
from homnet.report.ideogram import ideogram
from homnet.report.upright import Floats, typical_profile

_WIDTH: Final = 760.0
"""Width of a karyogram in SVG units."""
_BETWEEN_GROUPS: Final = 0.35
"""Space between two Denver groups, in columns."""
_NONE: Final[Mapping[str, CellFinding]] = MappingProxyType({})
_NO_LINKS: Final[Mapping[str, str]] = MappingProxyType({})


def whole_cell(
    pairs: Mapping[str, NDArray[np.uint8]],
    flagged: Sequence[str],
    *,
    typical_profiles: Mapping[str, Floats | None],
    samples_per_px: float,
    label: str,
    findings: Mapping[str, CellFinding] = _NONE,
    links: Mapping[str, str] = _NO_LINKS,
) -> str:
    """Returns one cell as a karyogram.

    Args:
        pairs: darkness (2, 2, 512) of each type in the cell; an empty homolog is missing.
        flagged: types to mark.
        typical_profiles: typical profiles of the patient's homologs by type.
        samples_per_px: samples of a sequence per image pixel.
        label: text alternative for screen readers.
        findings: what a reader says of flagged types in this cell: the abnormal homolog, and the
            places along it that are more likely abnormal than not, are marked.
        links: accessible names of types that are links to ``#type-<type>``.
    """
    sheet, parts = Sheet(), list[str]()
    y, unit = 8.0, 1.35 / samples_per_px
    marks_of = partial(_regions, unit=unit)
    for names in KARYOGRAM_ROWS:
        drawn = {
            name: draw_pair(pairs[name], name, typical_profiles.get(name), samples_per_px, unit)
            for name in names
            if name in pairs
        }
        above, below = _reach(drawn.values())
        height = above + below + 34
        groups = [(group, list(of)) for group, of in groupby(names, key=_group)]
        column = _WIDTH / (len(names) + _BETWEEN_GROUPS * (len(groups) - 1))
        left = 0.0
        for group, members in groups:
            for number, name in enumerate(members):
                x = left + number * column
                pair = drawn.get(name, [])
                if name == "Y" and not pair:
                    continue
                finding = findings.get(name) if name in flagged else None
                marks = _put(sheet, pair, x + column / 2, y + above, finding, marks_of, gap=6.0)
                marks += _type_label(name, name in flagged, bool(pair), x + column / 2, y + height)
                parts += _type(name, name in flagged, links.get(name), marks, x, y, column, height)
            if len(group) == 1:
                parts += _bracket(group, left, left + len(members) * column, y + height + 7)
            left += (len(members) + _BETWEEN_GROUPS) * column
        y += height + 34
    return svg(_WIDTH, y, [*sheet.svg(), *parts], label, "group" if links else "img")


def evidence(
    finding: Finding,
    pairs: Mapping[str, NDArray[np.uint8]],
    *,
    level: int,
    samples_per_px: float,
    label: str,
    typical_F: Floats | None = None,
    columns: int = 6,
    coarse: bool = False,
) -> str:
    """Returns all cells of one type, most suspicious first, with the ideogram beside them.

    Cells that the finding lacks are drawn last.

    Args:
        finding: finding on the type.
        pairs: darkness (2, 2, 512) of the type in each cell, by cell.
        level: band level of the ideogram.
        samples_per_px: samples of a sequence per image pixel.
        label: text alternative for screen readers.
        typical_F: typical profile of the patient's homologs of the type; found from ``pairs`` if
            it is not given.
        columns: number of cells in a row.
        coarse: draw smaller pictures in a quarter of the time.
    """
    unit = (1.35 if coarse else 2.0) / samples_per_px
    marks_of = partial(_score, unit=unit)
    known = {cell.cell_id: cell for cell in finding.cells if cell.cell_id in pairs}
    names = sorted(known, key=lambda name: -(known[name].probability or 0.0))
    names += sorted(set(pairs) - set(known))
    if typical_F is None:
        typical_F = typical_profile(sequence for pair in pairs.values() for sequence in pair)
    drawn = [
        draw_pair(pairs[name], finding.chromosome, typical_F, samples_per_px, unit, coarse=coarse)
        for name in names
    ]
    above, below = _reach(drawn)
    heights = [one.height for pair in drawn for one in pair]
    usual = float(np.median(heights)) if heights else 200.0
    bands = band_table(level)[finding.chromosome]
    left, column = 150.0, 104.0
    top = max(above, usual * bands.centromere_iscn / bands.length_iscn) + 14
    parts = ideogram(
        finding.chromosome,
        level,
        [place for place in (finding.start, finding.stop) if place is not None],
        x=86.0,
        centromere_y=top,
        height=usual,
    )
    sheet = Sheet()
    row_height = above + below + (78 if any(map(_abnormal_homolog, known.values())) else 66)
    for number, (name, pair) in enumerate(zip(names, drawn, strict=True)):
        row, place = divmod(number, columns)
        middle = left + (place + 0.5) * column
        base = top + row * row_height
        parts += _put(sheet, pair, middle, base, known.get(name), marks_of, gap=13.0)
        parts += _cell_text(name, known.get(name), middle, base + below + 20)
    rows = max(1, -(-len(names) // columns))
    height = max(top + rows * row_height - above - 4, top + usual + 24)
    return svg(left + columns * column, height, [*sheet.svg(), *parts], label)


def single_pairs(examples: Sequence[Example], *, label: str, columns: int = 8) -> str:
    """Returns pairs side by side; a line marks the event if known.

    Args:
        examples: pairs to draw.
        label: text alternative for screen readers.
        columns: number of pairs in a row.
    """
    column, head, scale = 110.0, 46.0, 1.35
    pictures, marks = list[str](), list[str]()
    y = 0.0
    for first in range(0, len(examples), columns):
        lowest = 0.0
        for number, one in enumerate(examples[first : first + columns]):
            middle, unit = (number + 0.5) * column, scale / one.samples_per_px
            kind = "normal" if one.kind is None else one.kind.replace("_", " ")
            words = (one.hospital, f"chr {one.chromosome}, {one.band_level} bands", kind)
            marks += [text(middle, y + 12 + 12 * line, word) for line, word in enumerate(words)]
            pair = draw_pair(one.pair, one.chromosome, None, one.samples_per_px, unit)
            sheet = Sheet()  # hospitals differ in scale
            for homolog, left in zip(pair, side_by_side(pair, middle, gap=6.0), strict=True):
                x, top = sheet.put(homolog, left, y + head)
                lowest = max(lowest, homolog.height)
                if homolog.slot == one.homolog and one.start is not None and one.stop is not None:
                    # The junction left by a deletion is a point; its mark stays visible.
                    outer = x - 5 if homolog.slot == 0 else x + homolog.width + 2
                    marks.append(
                        f'<rect x="{outer:.1f}" y="{top + one.start * unit - 1.5:.1f}" '
                        f'width="3" height="{(one.stop - one.start) * unit + 3:.1f}" '
                        f'fill="{MARK}"/>'
                    )
            pictures += sheet.svg()
        y += head + lowest + 14
    return svg(column * min(columns, len(examples)), y, [*pictures, *marks], label)


def _reach(pairs: Iterable[Sequence[Drawn]]) -> tuple[float, float]:
    """Returns the extent of centromere-aligned chromosomes above and below the centromere."""
    every = [one for pair in pairs for one in pair]
    return (
        max((one.centromere for one in every), default=0.0),
        max((one.height - one.centromere for one in every), default=0.0),
    )


def _group(chromosome: str) -> str:
    """Returns the Denver group of an autosome, and one name for X and Y."""
    return "sex" if chromosome in {"X", "Y"} else DENVER_GROUP_OF[chromosome]


def _put(
    sheet: Sheet,
    pair: Sequence[Drawn],
    middle: float,
    base: float,
    finding: CellFinding | None,
    marks_of: Callable[[NDArray[np.float32], float, float], list[str]],
    *,
    gap: float,
) -> list[str]:
    """Places the homologs of a cell, and returns marks at what is abnormal of them.

    ``marks_of`` draws the score along a homolog, from a left edge and a top.
    """
    marks = []
    for one, left in zip(pair, side_by_side(pair, middle, gap), strict=True):
        x, top = sheet.put_on_waist(one, left, base)
        if finding is None:
            continue
        if finding.score_PL is not None:
            outer = x - 6.5 if one.slot == 0 else x + one.width + 2.5
            marks += marks_of(_along(finding.score_PL[one.slot], one), outer, top)
        if _abnormal_homolog(finding) == one.slot:
            marks.append(text(x + one.width / 2, top + one.height + 10, "▲", fill=MARK))
    return marks


def _type_label(name: str, flagged: bool, present: bool, middle: float, bottom: float) -> list[str]:
    """Returns the name of a type below its homologs."""
    words = f"{'▸ ' if flagged else ''}{name}{'' if present else ' (none)'}"
    return [text(middle, bottom - 6, words, fill=MARK if flagged else INK, size=13, bold=flagged)]


def _type(
    name: str,
    flagged: bool,
    link: str | None,
    marks: Sequence[str],
    x: float,
    y: float,
    width: float,
    height: float,
) -> list[str]:
    """Returns a type's marks in a frame that can be chosen if the type is a link."""
    frame = (
        f'<rect class="frame" x="{x + 4:.1f}" y="{y - 4:.1f}" width="{width - 8:.1f}" '
        f'height="{height + 4:.1f}" rx="4" fill="none" stroke="{MARK if flagged else "none"}" '
        'stroke-dasharray="5 3" pointer-events="all"/>'
    )
    if link is None:
        return [frame, *marks] if flagged else list(marks)
    return [f'<a href="#type-{name}" aria-label="{escape(link)}">', frame, *marks, "</a>"]


def _bracket(group: str, left: float, right: float, y: float) -> list[str]:
    """Returns the letter of a Denver group below the line that joins its types."""
    return [
        f'<path d="M{left + 6:.1f} {y - 4:.1f}v3H{right - 6:.1f}v-3" fill="none" '
        f'stroke="{MUTED}" stroke-width=".8"/>',
        text((left + right) / 2, y + 10, group, fill=MUTED),
    ]


def _abnormal_homolog(cell: CellFinding) -> int | None:
    """Returns the homolog that is held to be abnormal, in a cell that is more likely abnormal."""
    return cell.homolog if cell.looks_abnormal else None


def _along(score_L: NDArray[np.float32], one: Drawn) -> NDArray[np.float32]:
    """Returns a score along a homolog as it is drawn."""
    own_L = score_L[: one.upright.sequence_CL.shape[1]]
    return own_L[::-1] if one.upright.flipped else own_L


def _regions(score_L: NDArray[np.float32], x: float, top: float, *, unit: float) -> list[str]:
    """Returns bars along the places of a homolog that are more likely abnormal than not."""
    edges = np.flatnonzero(np.diff(score_L >= 0.5, prepend=False, append=False)).reshape(-1, 2)
    return [
        f'<rect class="region" x="{x:.1f}" y="{top + start * unit:.1f}" width="4" '
        f'height="{(stop - start) * unit:.1f}" fill="{MARK}"/>'
        for start, stop in edges.tolist()
    ]


def _score(score_L: NDArray[np.float32], x: float, top: float, *, unit: float) -> list[str]:
    """Returns the score along a homolog, as a strip with the score as opacity."""
    step = 6
    parts = []
    for start in range(0, len(score_L), step):
        value = float(score_L[start : start + step].mean())
        if value >= 0.1:
            height = min(step, len(score_L) - start) * unit
            parts.append(
                f'<rect x="{x:.1f}" y="{top + start * unit:.1f}" width="4" '
                f'height="{height + 0.2:.1f}" fill="{MARK}" fill-opacity="{value:.2f}"/>'
            )
    return parts


def _cell_text(name: str, cell: CellFinding | None, middle: float, y: float) -> list[str]:
    """Returns name, band level and probability of a cell."""
    lines = [text(middle, y, name if len(name) <= 16 else f"…{name[-15:]}", fill=MUTED)]
    if cell is None:
        return [*lines, text(middle, y + 12, "not compared", fill=MUTED)]
    lines.append(text(middle, y + 12, f"{cell.band_level} bands", fill=MUTED))
    if cell.probability is not None:
        words, colour = f"abnormal {cell.probability:.2f}", MARK if cell.looks_abnormal else INK
        lines.append(text(middle, y + 24, words, fill=colour, bold=cell.looks_abnormal))
    homolog = _abnormal_homolog(cell)
    if homolog is not None:
        words = f"{('left', 'right')[homolog]} homolog {cell.homolog_probability:.2f}"
        lines.append(text(middle, y + 36, words, fill=MUTED))
    return lines
