"""Draws the bands of a reference chromosome and estimated breakpoints, as SVG."""

from collections.abc import Iterable

import numpy as np

from homnet.karyotype.bands import Band, ChromosomeBands, band_table
from homnet.karyotype.nomenclature import band_name, name_of
from homnet.patients.finding import BreakpointEstimate
from homnet.report.chromosome import text
from homnet.report.html import MARK, MUTED

_WIDTH = 20.0


def ideogram(
    chromosome: str,
    level: int,
    places: Iterable[BreakpointEstimate],
    *,
    x: float,
    centromere_y: float,
    height: float,
) -> list[str]:
    """Returns SVG elements: bands with their names, and the breakpoints beside them.

    Args:
        chromosome: type.
        level: band level of the table.
        places: estimated breakpoints.
        x: left edge.
        centromere_y: height of the centromere.
        height: length of the whole chromosome.
    """
    bands = band_table(level)[chromosome]
    unit = height / bands.length_iscn
    top = centromere_y - bands.centromere_iscn * unit
    parts = [_band(band, x, top + band.iscn_start * unit, unit) for band in bands.bands]
    last_label = -np.inf
    for band in bands.bands:
        middle = top + (band.iscn_start + band.iscn_stop) / 2 * unit
        if middle - last_label >= 8.5 and band.stain != "acen":
            last_label = middle
            named = name_of(band)
            parts.append(text(x - 5, middle + 2.8, named, fill=MUTED, size=8, anchor="end"))
    for place in places:
        parts += _breakpoint(place, bands, x + _WIDTH, top, unit)
    parts.append(text(x + _WIDTH / 2, top + height + 16, "reference", fill=MUTED))
    return parts


def _band(band: Band, x: float, y: float, unit: float) -> str:
    """Returns one band; the centromere as two triangles, stalks narrow."""
    height = band.length_iscn * unit
    if band.stain == "acen":
        tip, back = (y + height, y) if band.arm == "p" else (y, y + height)
        return (
            f'<path d="M{x:.1f} {back:.2f}L{x + _WIDTH:.1f} {back:.2f}L{x + _WIDTH / 2:.1f} '
            f'{tip:.2f}Z" fill="#c9a3a0" stroke="{MUTED}" stroke-width=".4"/>'
        )
    inset = _WIDTH * 0.3 if band.stain == "stalk" else 0.0
    shade = round(255 - 215 * band.darkness)
    return (
        f'<rect x="{x + inset:.1f}" y="{y:.2f}" width="{_WIDTH - 2 * inset:.1f}" '
        f'height="{height:.2f}" fill="rgb({shade},{shade},{shade})" stroke="{MUTED}" '
        'stroke-width=".4"/>'
    )


def _breakpoint(
    place: BreakpointEstimate, bands: ChromosomeBands, x: float, top: float, unit: float
) -> list[str]:
    """Returns a breakpoint as an arrow, and its interval as a bracket."""
    named = band_name(bands.chromosome, place.mb, place.level)
    at, low, high = (
        top + bands.to_iscn(mb * 1e6) * unit for mb in (place.mb, place.low_mb, place.high_mb)
    )
    return [
        f'<path d="M{x + 9:.1f} {low:.1f}h4V{high:.1f}h-4" fill="none" stroke="{MARK}"/>',
        f'<path d="M{x + 2:.1f} {at:.1f}l8 -4v8Z" fill="{MARK}"/>',
        text(x + 16, at + 3, named, fill=MARK, bold=True, anchor="start"),
    ]
