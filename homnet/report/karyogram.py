"""Karyograms for reports, as inline SVG: one whole cell, all cells of a type, single pairs.

Chromosomes are photographs where there are images, and drawn from sequences elsewhere. Short arms
are up, homologs are side by side, and all chromosomes of a picture have one scale. In cells,
centromeres are aligned. The position of the waist is not measured but inferred from the bands
(:mod:`homnet.report.upright`).

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
from homnet.karyotype.chromosomes import CHROMOSOMES, DENVER_GROUP_OF, KARYOGRAM_ROWS
from homnet.patients.finding import CellFinding, Finding
from homnet.report.chromosome import Drawn, Sheet, draw_pair, side_by_side, svg, text
from homnet.report.examples import Example
from homnet.report.html import INK, MARK, MUTED
from homnet.report.ideogram import ideogram
from homnet.report.marks import regions, strip
from homnet.report.photograph import Photograph
from homnet.report.tables import probable
from homnet.report.upright import Floats, typical_profile

Photographs = Mapping[str, Sequence[Photograph | None]]
"""Photographs of the homologs, by type or by cell."""

_WIDTH: Final = 760.0
"""Width of a karyogram in SVG units; more if chromosomes need it."""
_GAP: Final = 6.0
"""Space between homologs."""
_NARROWEST: Final = 48.0
"""Width of the column of a type, at least."""
_BESIDE: Final = 26.0
"""Width beside a pair, for marks and its frame."""
_BETWEEN_GROUPS: Final = 0.35
"""Space between two Denver groups, in mean columns."""
_LONGEST_PX: Final = 200.0
"""Image pixels of the longest chromosome up to which pictures have their full size."""
_EVIDENCE_LEFT: Final = 150.0
_EVIDENCE_WIDTH: Final = 624.0
"""Left edge and width of the cells of one type."""
_CELL_WIDTH: Final = 124.0
"""Width of a cell of one type, at least."""
_CELL_GAP: Final = 13.0
"""Space between its homologs."""
_NONE: Final[Mapping[str, CellFinding]] = MappingProxyType({})
_NO_LINKS: Final[Mapping[str, str]] = MappingProxyType({})
_NO_PHOTOGRAPHS: Final[Photographs] = MappingProxyType({})
_NO_PHOTOGRAPH: Final = (None, None)


def whole_cell(
    pairs: Mapping[str, NDArray[np.uint8]],
    flagged: Sequence[str],
    *,
    typical_profiles: Mapping[str, Floats | None],
    samples_per_px: float,
    label: str,
    findings: Mapping[str, CellFinding] = _NONE,
    links: Mapping[str, str] = _NO_LINKS,
    photographs: Photographs = _NO_PHOTOGRAPHS,
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
        photographs: of the homologs by type.
    """
    longest = max((int(pair.any(axis=(0, 1)).sum()) for pair in pairs.values()), default=0)
    unit = _unit(1.35, samples_per_px, longest)
    drawn = {
        name: draw_pair(
            pair_PCL,
            name,
            typical_profiles.get(name),
            samples_per_px,
            unit,
            photographs=photographs.get(name, _NO_PHOTOGRAPH),
        )
        for name, pair_PCL in pairs.items()
    }
    needed = {name: _pair_width(drawn.get(name, ()), _GAP, _NARROWEST) for name in CHROMOSOMES}
    width = max(_WIDTH, *(_num_columns(row) * _mean_of(needed, row) for row in KARYOGRAM_ROWS))
    sheet, parts = Sheet(), list[str]()
    y = 8.0
    for names in KARYOGRAM_ROWS:
        above, below = _reach(drawn.get(name, ()) for name in names)
        height = above + below + 34
        mean = width / _num_columns(names)
        x = 0.0
        for group, members in groupby(names, key=_group):
            left = x
            for name in members:
                pair = drawn.get(name, [])
                column = needed[name] + mean - _mean_of(needed, names)
                if name != "Y" or pair:
                    finding = findings.get(name) if name in flagged else None
                    middle = x + column / 2
                    marks = _put(sheet, pair, middle, y + above, finding, regions, gap=_GAP)
                    marks += _type_label(name, name in flagged, bool(pair), middle, y + height)
                    link = links.get(name)
                    parts += _type(name, name in flagged, link, marks, x, y, column, height)
                x += column
            if len(group) == 1:
                parts += _bracket(group, left, x, y + height + 7)
            x += _BETWEEN_GROUPS * mean
        y += height + 34
    return svg(width, y, [*sheet.svg(), *parts], label, "group" if links else "img")


def evidence(
    finding: Finding,
    pairs: Mapping[str, NDArray[np.uint8]],
    *,
    level: int,
    samples_per_px: float,
    label: str,
    typical_F: Floats | None = None,
    photographs: Photographs = _NO_PHOTOGRAPHS,
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
        photographs: of the homologs by cell.
        coarse: draw coarser pictures in a quarter of the time.
    """
    bands = band_table(level)[finding.chromosome]
    # One scale for all types: that at which chromosome 1 would be drawn.
    relative = band_table(level)["1"].length_iscn / bands.length_iscn
    lengths = [int(pair.any(axis=(0, 1)).sum()) for pair in pairs.values()] or [0]
    unit = _unit(2.0, samples_per_px, relative * float(np.median(lengths)))
    known = {cell.cell_id: cell for cell in finding.cells if cell.cell_id in pairs}
    names = sorted(known, key=lambda name: -(known[name].probability or 0.0))
    names += sorted(set(pairs) - set(known))
    if typical_F is None:
        typical_F = typical_profile(sequence for pair in pairs.values() for sequence in pair)
    drawn = [
        draw_pair(
            pairs[name],
            finding.chromosome,
            typical_F,
            samples_per_px,
            unit,
            photographs=photographs.get(name, _NO_PHOTOGRAPH),
            coarse=coarse,
        )
        for name in names
    ]
    usual = float(np.median([one.length for pair in drawn for one in pair] or [200.0]))
    lines = _lines(dict(zip(names, drawn, strict=True)))
    top = 14 + max(_reach(lines[0].values())[0], usual * bands.centromere_iscn / bands.length_iscn)
    parts = ideogram(
        finding.chromosome,
        level,
        [place for place in (finding.start, finding.stop) if place is not None],
        x=86.0,
        centromere_y=top,
        height=usual,
    )
    sheet, base, right = Sheet(), top, _EVIDENCE_LEFT + _EVIDENCE_WIDTH
    text_height = 78 if any(map(_abnormal_homolog, known.values())) else 66
    for number, line in enumerate(lines):
        above, below = _reach(line.values())
        base += above if number else 0.0
        x = _EVIDENCE_LEFT
        for name, pair in line.items():
            middle = x + _cell_width(pair) / 2
            parts += _put(sheet, pair, middle, base, known.get(name), strip, gap=_CELL_GAP)
            parts += _cell_text(name, known.get(name), middle, base + below + 20)
            x += _cell_width(pair)
        right = max(right, x)
        base += below + text_height
    height = max(base - 4, top + usual + 24)
    return svg(right, height, [*sheet.svg(), *parts], label)


def single_pairs(examples: Sequence[Example], *, label: str) -> str:
    """Returns pairs side by side; a line marks the event if known.

    Args:
        examples: pairs to draw.
        label: text alternative for screen readers.
    """
    columns, column, head, scale = 8, 110.0, 46.0, 1.35
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


def _num_columns(names: Sequence[str]) -> float:
    """Returns the number of columns of a row, with the spaces between groups."""
    return len(names) + _BETWEEN_GROUPS * (len({_group(name) for name in names}) - 1)


def _mean_of(needed: Mapping[str, float], names: Sequence[str]) -> float:
    return sum(needed[name] for name in names) / len(names)


def _pair_width(pair: Sequence[Drawn], gap: float, least: float) -> float:
    """Returns the width that a pair needs with its marks."""
    return max(sum(one.width for one in pair) + gap * (len(pair) - 1) + _BESIDE, least)


_cell_width = partial(_pair_width, gap=_CELL_GAP, least=_CELL_WIDTH)


def _lines(cells: Mapping[str, Sequence[Drawn]]) -> list[dict[str, Sequence[Drawn]]]:
    """Returns the pairs of cells in lines that are no wider than they may be."""
    lines: list[dict[str, Sequence[Drawn]]] = [{}]
    for name, pair in cells.items():
        if sum(map(_cell_width, (*lines[-1].values(), pair))) > _EVIDENCE_WIDTH and lines[-1]:
            lines.append({})
        lines[-1][name] = pair
    return lines


def _unit(per_px: float, samples_per_px: float, longest: float) -> float:
    """Returns SVG units per sample: ``per_px`` per image pixel, less if images are very large.

    Args:
        per_px: SVG units per image pixel.
        samples_per_px: samples of a sequence per image pixel.
        longest: samples of the longest chromosome.
    """
    return per_px * min(1 / samples_per_px, _LONGEST_PX / max(longest, 1.0))


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
    marks_of: Callable[[NDArray[np.float32], Drawn, float, float], list[str]],
    *,
    gap: float,
) -> list[str]:
    """Places the homologs of a cell, and returns marks at what is abnormal of them.

    ``marks_of`` draws the score along a homolog, whose left and upper edges it is given.
    """
    marks = []
    for one, left in zip(pair, side_by_side(pair, middle, gap), strict=True):
        x, top = sheet.put_on_waist(one, left, base)
        if finding is None:
            continue
        if finding.score_PL is not None:
            marks += marks_of(_along(finding.score_PL[one.slot], one), one, x, top)
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


def _cell_text(name: str, cell: CellFinding | None, middle: float, y: float) -> list[str]:
    """Returns name, band level and probability of a cell."""
    lines = [text(middle, y, name if len(name) <= 16 else f"…{name[-15:]}", fill=MUTED)]
    if cell is None:
        return [*lines, text(middle, y + 12, "not compared", fill=MUTED)]
    lines.append(text(middle, y + 12, f"{cell.band_level} bands", fill=MUTED))
    if cell.probability is not None:
        words = f"abnormal {probable(cell.probability)}"
        colour = MARK if cell.looks_abnormal else INK
        lines.append(text(middle, y + 24, words, fill=colour, bold=cell.looks_abnormal))
    homolog = _abnormal_homolog(cell)
    if homolog is not None and cell.homolog_probability is not None:
        # No longer than this, or it runs into that of the next cell.
        words = f"{('left', 'right')[homolog]} {probable(cell.homolog_probability)}"
        lines.append(text(middle, y + 36, words, fill=MUTED))
    return lines
