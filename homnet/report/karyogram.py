"""Karyograms for reports, as inline SVG: one whole cell, and all cells of a suspicious type.

Short arms are up, homologs stand side by side, all chromosomes of a picture have one scale and
stand on their centromeres. The waist is not measured: it is where the bands put it
(:mod:`homnet.report.upright`).

Shape suffixes: P homologs (2), C chromatids (2: left, right), L positions.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from homnet.karyotype.bands import Band, band_table
from homnet.karyotype.chromosomes import CHROMOSOME_WIDTH_PX, KARYOGRAM_ROWS
from homnet.patients.finding import BreakpointEstimate, CellFinding, Finding
from homnet.report.description import chromosome_image
from homnet.report.html import data_uri
from homnet.report.upright import Floats, Upright, stand_up, yardstick

MARK: Final = "#b3261e"
"""Colour of what is flagged."""
INK: Final = "#1d2733"
MUTED: Final = "#566270"
_FONT: Final = 'font-family="system-ui, Segoe UI, Roboto, Arial, sans-serif"'
_LIGHTEST: Final = 222
_DARKEST: Final = 18
"""Grey levels of the lightest and darkest band."""
_SHRINK: Final = 2
"""Samples that become one pixel of a picture, along and across."""


@dataclass(frozen=True)
class _Drawn:
    """A chromosome as a picture."""

    uri: str
    width: float
    height: float
    centromere: float
    upright: Upright


def whole_cell(
    pairs: Mapping[str, NDArray[np.uint8]],
    flagged: Sequence[str],
    *,
    yardsticks: Mapping[str, Floats | None],
    samples_per_px: float,
    label: str,
) -> str:
    """One cell as a karyogram.

    Args:
        pairs: darkness (2, 2, 512) of each type that the cell has; an empty homolog is missing.
        flagged: types to mark.
        yardsticks: of the patient's homologs by type (:func:`homnet.report.upright.yardstick`).
        samples_per_px: samples of a sequence per image pixel.
        label: what the picture shows, for those who cannot see it.
    """
    unit = 1.35 / samples_per_px
    parts: list[str] = []
    y, width = 6.0, 760.0
    for names in KARYOGRAM_ROWS:
        shown = [name for name in names if name in pairs]
        drawn = {
            name: _draw_pair(pairs[name], name, yardsticks.get(name), samples_per_px, unit)
            for name in shown
        }
        above = max((one.centromere for pair in drawn.values() for one in pair), default=0.0)
        below = max(
            (one.height - one.centromere for pair in drawn.values() for one in pair), default=0.0
        )
        column = width / len(names)
        for number, name in enumerate(names):
            middle = (number + 0.5) * column
            marked = name in flagged
            if name in drawn:
                parts += _pair_svg(drawn[name], middle, y + above, gap=5.0)
            if name == "Y" and name not in drawn:
                continue
            text = escape(name if name in drawn else f"{name} (none)")
            parts.append(
                f'<text x="{middle:.1f}" y="{y + above + below + 17:.1f}" text-anchor="middle" '
                f'font-size="13" fill="{MARK if marked else INK}" '
                f'font-weight="{700 if marked else 400}">{"▸ " if marked else ""}{text}</text>'
            )
        y += above + below + 32
    return _svg(width, y, parts, label)


def evidence(
    finding: Finding,
    pairs: Mapping[str, NDArray[np.uint8]],
    *,
    level: int,
    samples_per_px: float,
    label: str,
    columns: int = 6,
) -> str:
    """All cells of one type, most suspicious first, with the ideogram beside them.

    Args:
        finding: what was found.
        pairs: darkness (2, 2, 512) of the type in each cell, by cell.
        level: band level of the ideogram.
        samples_per_px: samples of a sequence per image pixel.
        label: what the picture shows, for those who cannot see it.
        columns: cells in a row.
    """
    unit = 2.0 / samples_per_px
    cells = sorted(
        (cell for cell in finding.cells if cell.cell_id in pairs),
        key=lambda cell: -(cell.probability or 0.0),
    )
    usual_F = yardstick(sequence for pair in pairs.values() for sequence in pair)
    drawn = {
        cell.cell_id: _draw_pair(
            pairs[cell.cell_id], finding.chromosome, usual_F, samples_per_px, unit
        )
        for cell in cells
    }
    every = [one for pair in drawn.values() for one in pair]
    above = max((one.centromere for one in every), default=0.0)
    below = max((one.height - one.centromere for one in every), default=0.0)
    usual = float(np.median([one.height for one in every])) if every else 200.0
    left, column = 150.0, 104.0
    top = (
        max(
            above,
            usual
            * band_table(level)[finding.chromosome].centromere_iscn
            / band_table(level)[finding.chromosome].length_iscn,
        )
        + 14
    )
    parts = _ideogram(finding, level, usual, x=86.0, centromere_y=top)
    row_height = above + below + 66
    for number, cell in enumerate(cells):
        row, place = divmod(number, columns)
        middle = left + (place + 0.5) * column
        base = top + row * row_height
        parts += _cell_svg(cell, drawn[cell.cell_id], middle, base, unit)
        foot = base + below + 20
        parts += _cell_text(cell, middle, foot)
    rows = max(1, -(-len(cells) // columns))
    height = max(top + below + 62 + (rows - 1) * row_height, top + usual + 24)
    return _svg(left + columns * column, height, parts, label)


def _draw_pair(
    pair_PCL: NDArray[np.uint8],
    chromosome: str,
    yardstick_F: Floats | None,
    samples_per_px: float,
    unit: float,
) -> list[_Drawn]:
    """Pictures of the homologs that are there."""
    # Light bands become light and dark ones dark, alike for both homologs.
    light, dark = np.percentile(pair_PCL[pair_PCL > 0], (2, 99))
    found = []
    for sequence_CL in pair_PCL:
        if not sequence_CL.any():
            continue
        upright = stand_up(sequence_CL, chromosome, yardstick_F)
        width = round(CHROMOSOME_WIDTH_PX * samples_per_px / _SHRINK) * _SHRINK
        grey = chromosome_image(upright.sequence_CL, width)
        stain = np.clip((255 - grey - light) / max(dark - light, 1.0), 0, 1)
        grey = np.where(grey < 255, _LIGHTEST - (_LIGHTEST - _DARKEST) * stain, 255.0)
        rows = len(grey) // _SHRINK * _SHRINK
        small = grey[:rows].reshape(rows // _SHRINK, _SHRINK, -1, _SHRINK).mean(axis=(1, 3))
        found.append(
            _Drawn(
                uri=png_uri(small),
                width=width * unit,
                height=len(grey) * unit,
                centromere=upright.centromere * unit,
                upright=upright,
            )
        )
    return found


def png_uri(grey: NDArray[np.float64]) -> str:
    """A grey picture as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(grey.round().astype(np.uint8)).save(buffer, format="PNG", optimize=True)
    return data_uri(buffer.getvalue(), "png")


def _pair_svg(pair: Sequence[_Drawn], middle: float, base: float, gap: float) -> list[str]:
    """Homologs side by side, on their centromeres."""
    x = middle - (sum(one.width for one in pair) + gap * (len(pair) - 1)) / 2
    parts = []
    for one in pair:
        parts += _chromosome_svg(one, x, base)
        x += one.width + gap
    return parts


def _chromosome_svg(one: _Drawn, x: float, base: float) -> list[str]:
    """A chromosome and its waist."""
    notch = one.width * 0.24
    half = one.width * 0.22
    image = (
        f'<image href="{one.uri}" x="{x:.1f}" y="{base - one.centromere:.1f}" '
        f'width="{one.width:.1f}" height="{one.height:.1f}" preserveAspectRatio="none"/>'
    )
    sides = [
        f"M{edge:.1f} {base - half:.1f}Q{edge + turn * 2 * notch:.1f} {base:.1f} "
        f"{edge:.1f} {base + half:.1f}Z"
        for edge, turn in ((x - 0.3, 1), (x + one.width + 0.3, -1))
    ]
    return [image, f'<path d="{"".join(sides)}" fill="#fff"/>']


def _cell_svg(
    cell: CellFinding, pair: Sequence[_Drawn], middle: float, base: float, unit: float
) -> list[str]:
    """A cell's homologs, the score along them, and a mark at the abnormal one."""
    gap = 13.0
    x = middle - (sum(one.width for one in pair) + gap * (len(pair) - 1)) / 2
    parts = []
    for slot, one in enumerate(pair):
        parts += _chromosome_svg(one, x, base)
        outer = x - 6.5 if slot == 0 else x + one.width + 2.5
        if cell.score_PL is not None:
            parts += _score_svg(cell.score_PL[slot], one, outer, base - one.centromere, unit)
        if cell.homolog == slot and (cell.probability or 0.0) > 0.5:
            foot = base + one.height - one.centromere + 9
            parts.append(
                f'<text x="{x + one.width / 2:.1f}" y="{foot:.1f}" '
                f'text-anchor="middle" font-size="10" fill="{MARK}">▲</text>'
            )
        x += one.width + gap
    return parts


def _score_svg(
    score_L: NDArray[np.float32], one: _Drawn, x: float, top: float, unit: float
) -> list[str]:
    """The score along a homolog, as a strip whose opacity is the score."""
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
    """Name, band level and probability of a cell."""
    name = cell.cell_id if len(cell.cell_id) <= 16 else f"…{cell.cell_id[-15:]}"
    lines = [(escape(name), MUTED, 400), (f"{cell.band_level} bands", MUTED, 400)]
    if cell.probability is not None:
        abnormal = cell.probability > 0.5
        lines.append(
            (
                f"{'abnormal' if abnormal else 'normal'} {cell.probability:.2f}",
                MARK if abnormal else INK,
                700 if abnormal else 400,
            )
        )
    return [
        f'<text x="{middle:.1f}" y="{y + 12 * number:.1f}" text-anchor="middle" font-size="10" '
        f'fill="{colour}" font-weight="{weight}">{text}</text>'
        for number, (text, colour, weight) in enumerate(lines)
    ]


def _ideogram(
    finding: Finding, level: int, height: float, *, x: float, centromere_y: float
) -> list[str]:
    """The reference chromosome with its bands, and where the breakpoints were placed."""
    bands = band_table(level)[finding.chromosome]
    unit = height / bands.length_iscn
    top, width = centromere_y - bands.centromere_iscn * unit, 20.0
    parts = []
    for band in bands.bands:
        parts.append(_band_svg(band, x, top + band.iscn_start * unit, width, unit))
    last_label = -np.inf
    for band in bands.bands:
        middle = top + (band.iscn_start + band.iscn_stop) / 2 * unit
        if middle - last_label >= 8.5 and band.stain != "acen":
            last_label = middle
            parts.append(
                f'<text x="{x - 5:.1f}" y="{middle + 2.8:.1f}" text-anchor="end" font-size="8" '
                f'fill="{MUTED}">{escape(band.label)}</text>'
            )
    for place in (finding.start, finding.stop):
        if place is not None:
            parts += _breakpoint_svg(place, finding.chromosome, level, x + width, top, unit)
    parts.append(
        f'<text x="{x + width / 2:.1f}" y="{top + height + 16:.1f}" text-anchor="middle" '
        f'font-size="10" fill="{MUTED}">reference</text>'
    )
    return parts


def _band_svg(band: Band, x: float, y: float, width: float, unit: float) -> str:
    """One band of the ideogram; centromere as two triangles, stalks narrow."""
    height = band.length_iscn * unit
    if band.stain == "acen":
        tip, back = (y + height, y) if band.arm == "p" else (y, y + height)
        return (
            f'<path d="M{x:.1f} {back:.2f}L{x + width:.1f} {back:.2f}L{x + width / 2:.1f} '
            f'{tip:.2f}Z" fill="#c9a3a0" stroke="{MUTED}" stroke-width=".4"/>'
        )
    inset = width * 0.3 if band.stain == "stalk" else 0.0
    shade = round(255 - 215 * band.darkness)
    return (
        f'<rect x="{x + inset:.1f}" y="{y:.2f}" width="{width - 2 * inset:.1f}" '
        f'height="{height:.2f}" fill="rgb({shade},{shade},{shade})" stroke="{MUTED}" '
        'stroke-width=".4"/>'
    )


def _breakpoint_svg(
    place: BreakpointEstimate, chromosome: str, level: int, x: float, top: float, unit: float
) -> list[str]:
    """A breakpoint as an arrow, its interval as a bracket."""
    bands = band_table(level)[chromosome]
    at, low, high = (
        top + bands.to_iscn(mb * 1e6) * unit for mb in (place.mb, place.low_mb, place.high_mb)
    )
    return [
        f'<path d="M{x + 9:.1f} {low:.1f}h4V{high:.1f}h-4" fill="none" stroke="{MARK}"/>',
        f'<path d="M{x + 2:.1f} {at:.1f}l8 -4v8Z" fill="{MARK}"/>',
        f'<text x="{x + 16:.1f}" y="{at + 3:.1f}" font-size="10" fill="{MARK}" '
        f'font-weight="700">{escape(place.band)}</text>',
    ]


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}" '
        f'{_FONT} xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
