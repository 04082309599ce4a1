"""Karyograms for reports, as inline SVG: one whole cell, all cells of a type, single pairs.

Short arms are up, homologs are side by side, and all chromosomes of a picture have one scale. In
cells, centromeres are aligned. The position of the waist is not measured but inferred from the
bands (:mod:`homnet.report.upright`).

Shape suffixes: L positions.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from homnet.karyotype.bands import band_table
from homnet.karyotype.chromosomes import KARYOGRAM_ROWS
from homnet.patients.finding import CellFinding, Finding
from homnet.report.chromosome import Drawn, draw_pair, side_by_side, svg, text
from homnet.report.examples import Example
from homnet.report.html import INK, MARK, MUTED
from homnet.report.ideogram import ideogram
from homnet.report.upright import Floats, typical_profile


def whole_cell(
    pairs: Mapping[str, NDArray[np.uint8]],
    flagged: Sequence[str],
    *,
    typical_profiles: Mapping[str, Floats | None],
    samples_per_px: float,
    label: str,
) -> str:
    """Returns one cell as a karyogram.

    Args:
        pairs: darkness (2, 2, 512) of each type in the cell; an empty homolog is missing.
        flagged: types to mark.
        typical_profiles: typical profiles of the patient's homologs by type.
        samples_per_px: samples of a sequence per image pixel.
        label: text alternative for screen readers.
    """
    parts: list[str] = []
    y, width, unit = 6.0, 760.0, 1.35 / samples_per_px
    for names in KARYOGRAM_ROWS:
        drawn = {
            name: draw_pair(pairs[name], name, typical_profiles.get(name), samples_per_px, unit)
            for name in names
            if name in pairs
        }
        above, below = _reach(drawn.values())
        column = width / len(names)
        for number, name in enumerate(names):
            middle = (number + 0.5) * column
            pair = drawn.get(name, [])
            for one, x in zip(pair, side_by_side(pair, middle, gap=5.0), strict=True):
                parts += one.svg_on_waist(x, y + above)
            if name == "Y" and not pair:
                continue
            marked = name in flagged
            parts.append(
                text(
                    middle,
                    y + above + below + 17,
                    f"{'▸ ' if marked else ''}{name}{'' if pair else ' (none)'}",
                    fill=MARK if marked else INK,
                    size=13,
                    bold=marked,
                )
            )
        y += above + below + 32
    return svg(width, y, parts, label)


def evidence(
    finding: Finding,
    pairs: Mapping[str, NDArray[np.uint8]],
    *,
    level: int,
    samples_per_px: float,
    label: str,
    columns: int = 6,
) -> str:
    """Returns all cells of one type, most suspicious first, with the ideogram beside them.

    Args:
        finding: finding on the type.
        pairs: darkness (2, 2, 512) of the type in each cell, by cell.
        level: band level of the ideogram.
        samples_per_px: samples of a sequence per image pixel.
        label: text alternative for screen readers.
        columns: number of cells in a row.
    """
    unit = 2.0 / samples_per_px
    cells = sorted(
        (cell for cell in finding.cells if cell.cell_id in pairs),
        key=lambda cell: -(cell.probability or 0.0),
    )
    usual_F = typical_profile(sequence for pair in pairs.values() for sequence in pair)
    drawn = [
        draw_pair(pairs[cell.cell_id], finding.chromosome, usual_F, samples_per_px, unit)
        for cell in cells
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
    row_height = above + below + 66
    for number, (cell, pair) in enumerate(zip(cells, drawn, strict=True)):
        row, place = divmod(number, columns)
        middle = left + (place + 0.5) * column
        base = top + row * row_height
        parts += _cell(cell, pair, middle, base, unit)
        parts += _cell_text(cell, middle, base + below + 20)
    rows = max(1, -(-len(cells) // columns))
    height = max(top + below + 62 + (rows - 1) * row_height, top + usual + 24)
    return svg(left + columns * column, height, parts, label)


def single_pairs(examples: Sequence[Example], *, label: str, columns: int = 8) -> str:
    """Returns pairs side by side; a line marks the event if known.

    Args:
        examples: pairs to draw.
        label: text alternative for screen readers.
        columns: number of pairs in a row.
    """
    column, head, scale = 110.0, 46.0, 1.35
    parts: list[str] = []
    y = 0.0
    for first in range(0, len(examples), columns):
        lowest = 0.0
        for number, one in enumerate(examples[first : first + columns]):
            middle, unit = (number + 0.5) * column, scale / one.samples_per_px
            kind = "normal" if one.kind is None else one.kind.replace("_", " ")
            words = (one.hospital, f"chr {one.chromosome}, {one.band_level} bands", kind)
            parts += [text(middle, y + 12 + 12 * line, word) for line, word in enumerate(words)]
            pair = draw_pair(one.pair, one.chromosome, None, one.samples_per_px, unit)
            for slot, (homolog, x) in enumerate(
                zip(pair, side_by_side(pair, middle, gap=6.0), strict=True)
            ):
                parts.append(homolog.svg(x, y + head))
                lowest = max(lowest, homolog.height)
                if slot == one.homolog and one.start is not None and one.stop is not None:
                    # The junction left by a deletion is a point; its mark stays visible.
                    outer = x - 5 if slot == 0 else x + homolog.width + 2
                    parts.append(
                        f'<rect x="{outer:.1f}" y="{y + head + one.start * unit - 1.5:.1f}" '
                        f'width="3" height="{(one.stop - one.start) * unit + 3:.1f}" '
                        f'fill="{MARK}"/>'
                    )
        y += head + lowest + 14
    return svg(column * min(columns, len(examples)), y, parts, label)


def _reach(pairs: Iterable[Sequence[Drawn]]) -> tuple[float, float]:
    """Returns the extent of centromere-aligned chromosomes above and below the centromere."""
    every = [one for pair in pairs for one in pair]
    return (
        max((one.centromere for one in every), default=0.0),
        max((one.height - one.centromere for one in every), default=0.0),
    )


def _cell(
    cell: CellFinding, pair: Sequence[Drawn], middle: float, base: float, unit: float
) -> list[str]:
    """Returns a cell's homologs, the score along them, and a mark at the abnormal one."""
    parts = []
    for slot, (one, x) in enumerate(zip(pair, side_by_side(pair, middle, gap=13.0), strict=True)):
        parts += one.svg_on_waist(x, base)
        outer = x - 6.5 if slot == 0 else x + one.width + 2.5
        if cell.score_PL is not None:
            parts += _score(cell.score_PL[slot], one, outer, base - one.centromere, unit)
        if cell.homolog == slot and (cell.probability or 0.0) > 0.5:
            foot = base + one.height - one.centromere + 9
            parts.append(text(x + one.width / 2, foot, "▲", fill=MARK))
    return parts


def _score(
    score_L: NDArray[np.float32], one: Drawn, x: float, top: float, unit: float
) -> list[str]:
    """Returns the score along a homolog, as a strip with the score as opacity."""
    length = one.upright.sequence_CL.shape[1]
    own_L = score_L[:length]
    if one.upright.flipped:
        own_L = own_L[::-1]
    step = 6
    parts = []
    for start in range(0, length, step):
        value = float(own_L[start : start + step].mean())
        if value >= 0.1:
            height = min(step, length - start) * unit
            parts.append(
                f'<rect x="{x:.1f}" y="{top + start * unit:.1f}" width="4" '
                f'height="{height + 0.2:.1f}" fill="{MARK}" fill-opacity="{value:.2f}"/>'
            )
    return parts


def _cell_text(cell: CellFinding, middle: float, y: float) -> list[str]:
    """Returns name, band level and probability of a cell."""
    name = cell.cell_id if len(cell.cell_id) <= 16 else f"…{cell.cell_id[-15:]}"
    parts = [
        text(middle, y, name, fill=MUTED),
        text(middle, y + 12, f"{cell.band_level} bands", fill=MUTED),
    ]
    if cell.probability is not None:
        abnormal = cell.probability > 0.5
        words = f"{'abnormal' if abnormal else 'normal'} {cell.probability:.2f}"
        parts.append(text(middle, y + 24, words, fill=MARK if abnormal else INK, bold=abnormal))
    return parts
