"""Ideogram band tables: positions of the G-bands in ISCN units (visible length) and base pairs.

Source: NCBI ideogram of GRCh38 at 400, 550 and 850 bands per haploid set, as collected in
``eweitz/ideogram`` (CC0) and stored in ``bands.csv``. Levels 300 and 700 are derived: 300 merges
the weakest dark bands of level 400 into their light neighbours, as seen in short chromosomes; 700
joins the sub-sub-bands of level 850.

An ISCN unit is a fixed share of a chromosome's visible length, not of its DNA. Light, gene-rich
chromosomes look longer than their base pairs suggest, so positions are converted by the table.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import groupby, pairwise
from typing import Final

import numpy as np

from homnet.errors import ConfigError
from homnet.karyotype.chromosomes import ACROCENTRICS, BAND_LEVELS, CHROMOSOMES

FINEST_LEVEL: Final = 850
"""Band level of the table on which genomic events are placed."""

LENGTH_PER_LEVEL: Final = 0.3
"""Exponent of a chromosome's visible length as a function of the band level: longer chromosomes
show more bands."""

_STAIN_DARKNESS: Final = {"gneg": 0.15, "acen": 0.35, "gvar": 0.6, "stalk": 0.0}
_GPOS_DARKNESS: Final = {25: 0.35, 50: 0.55, 75: 0.75, 100: 0.95}
_DARK_CENTROMERES: Final = frozenset({"5", "9", "15", "17", "19", "20", "22"})
_HETEROCHROMATIN_DARKNESS: Final = {
    ("1", "q12"): 0.8,
    ("9", "q12"): 0.1,
    ("16", "q11.2"): 1.0,
    ("19", "p12"): 1.0,
    ("19", "q12"): 0.75,
    **{(name, "p13"): 0.1 for name in ACROCENTRICS},
    **{(name, "p11.2"): 0.75 for name in ACROCENTRICS},
}
"""Ideograms use one shade for all centromeres and one for all heterochromatin. On G-banded slides
they differ: these are rounded means over 129 people of a real set."""


@dataclass(frozen=True)
class Band:
    """One band of one chromosome at one level."""

    arm: str
    """``"p"`` or ``"q"``."""
    name: str
    """Region, band and sub-band, for example ``"36.3"``."""
    iscn_start: float
    """Visible start in ISCN units from the tip of the short arm."""
    iscn_stop: float
    """Visible end in ISCN units from the tip of the short arm."""
    bp_start: int
    """First base, counted from 0."""
    bp_stop: int
    """Base after the last one."""
    stain: str
    """``gneg``, ``gpos``, ``gvar``, ``acen`` or ``stalk``."""
    darkness: float
    """Staining from 0 (white) to 1 (black); the length-weighted mean for a merged band."""

    @property
    def label(self) -> str:
        """Arm and name, for example ``"p36.3"``."""
        return f"{self.arm}{self.name}"

    @property
    def length_iscn(self) -> float:
        """Visible length in ISCN units."""
        return self.iscn_stop - self.iscn_start


@dataclass(frozen=True)
class ChromosomeBands:
    """The bands of one chromosome from the tip of the short arm to that of the long arm."""

    chromosome: str
    """Chromosome type."""
    bands: tuple[Band, ...]
    """Bands in order, without gaps."""

    @property
    def length_iscn(self) -> float:
        """Visible length in ISCN units; the same at every level."""
        return self.bands[-1].iscn_stop

    @property
    def length_bp(self) -> int:
        """Length in base pairs."""
        return self.bands[-1].bp_stop

    @property
    def centromere_iscn(self) -> float:
        """Boundary between short and long arm in ISCN units."""
        return next(band.iscn_start for band in self.bands if band.arm == "q")

    @property
    def centromere_bp(self) -> int:
        """Boundary between short and long arm in base pairs."""
        return next(band.bp_start for band in self.bands if band.arm == "q")

    def to_iscn(self, bp: float) -> float:
        """Converts a base position to a visible position in ISCN units."""
        bp_borders, iscn_borders = self._borders()
        return float(np.interp(bp, bp_borders, iscn_borders))

    def to_bp(self, iscn: float) -> float:
        """Converts a visible position in ISCN units to a base position."""
        bp_borders, iscn_borders = self._borders()
        return float(np.interp(iscn, iscn_borders, bp_borders))

    def at(self, iscn: float) -> Band:
        """The band at a visible position; the outermost band for positions beyond a tip."""
        stops = [band.iscn_stop for band in self.bands[:-1]]
        return self.bands[int(np.searchsorted(stops, iscn, side="right"))]

    def region(self, first: str, last: str | None = None) -> tuple[float, float]:
        """Visible start of band ``first`` and stop of band ``last`` (ISCN units), by label.

        Raises:
            KeyError: no band has that label.
        """
        found = {band.label: band for band in self.bands}
        return found[first].iscn_start, found[last or first].iscn_stop

    def _borders(self) -> tuple[list[float], list[float]]:
        bp = [0.0, *(float(band.bp_stop) for band in self.bands)]
        iscn = [0.0, *(band.iscn_stop for band in self.bands)]
        return bp, iscn


@cache
def band_table(level: int) -> dict[str, ChromosomeBands]:
    """The bands of all 24 chromosome types at a level.

    Args:
        level: 300, 400, 550, 700 or 850 bands per haploid set.

    Raises:
        ConfigError: there is no table for the level.
    """
    if level not in {*BAND_LEVELS, FINEST_LEVEL}:
        raise ConfigError(
            f"there is no band table at level {level}; use one of {(*BAND_LEVELS, FINEST_LEVEL)}"
        )
    if level == 300:
        bands = _without_weak_dark_bands(_read(400), level)
    elif level == 700:
        bands = {name: _without_fine_divisions(found) for name, found in _read(850).items()}
    else:
        bands = _read(level)
    return {name: ChromosomeBands(name, tuple(bands[name])) for name in CHROMOSOMES}


def _read(level: int) -> dict[str, list[Band]]:
    bands: dict[str, list[Band]] = {name: [] for name in CHROMOSOMES}
    text = resources.files("homnet.karyotype").joinpath("bands.csv").read_text()
    for row in csv.DictReader(text.splitlines()):
        if int(row["level"]) != level:
            continue
        bands[row["chromosome"]].append(
            Band(
                arm=row["arm"],
                name=row["band"],
                iscn_start=float(row["iscn_start"]),
                iscn_stop=float(row["iscn_stop"]),
                bp_start=int(row["bp_start"]),
                bp_stop=int(row["bp_stop"]),
                stain=row["stain"],
                darkness=_darkness(row),
            )
        )
    return {name: _closed(found) for name, found in bands.items()}


def _darkness(row: dict[str, str]) -> float:
    """Staining of a band on a G-banded slide, 0..1."""
    name, label, stain = row["chromosome"], f"{row['arm']}{row['band']}", row["stain"]
    if stain == "gpos":
        return _GPOS_DARKNESS[int(row["density"])]
    if stain == "acen" and name in _DARK_CENTROMERES:
        return 0.85
    if stain == "gvar":
        return _HETEROCHROMATIN_DARKNESS.get((name, label), _STAIN_DARKNESS[stain])
    return _STAIN_DARKNESS[stain]


def _closed(bands: list[Band]) -> list[Band]:
    """Closes the eight gaps of the 550 table: adjacent bands share a gap equally."""
    borders = [(a.iscn_stop + b.iscn_start) / 2 for a, b in pairwise(bands)]
    starts = [bands[0].iscn_start, *borders]
    stops = [*borders, bands[-1].iscn_stop]
    return [
        replace(band, iscn_start=start, iscn_stop=stop)
        for band, start, stop in zip(bands, starts, stops, strict=True)
    ]


def _without_weak_dark_bands(bands: dict[str, list[Band]], target: int) -> dict[str, list[Band]]:
    """Merges the palest, then shortest, dark bands into their light neighbours."""
    while sum(map(len, bands.values())) > target:
        _, name, i = min(
            ((band.darkness, band.length_iscn), name, i)
            for name, found in bands.items()
            for i, band in _dark_between_light(found)
        )
        found = bands[name]
        bands[name] = [*found[: i - 1], _joined(found[i - 1 : i + 2]), *found[i + 2 :]]
    return bands


def _dark_between_light(bands: list[Band]) -> Iterator[tuple[int, Band]]:
    for i, band in enumerate(bands[1:-1], start=1):
        before, after = bands[i - 1], bands[i + 1]
        if (
            band.stain == "gpos"
            and before.stain == after.stain == "gneg"
            and before.arm == after.arm
        ):
            yield i, band


def _without_fine_divisions(bands: list[Band]) -> list[Band]:
    """Joins the sub-sub-bands x.y1, x.y2, ... into x.y: 862 bands become 725."""
    joined = []
    for name, group in groupby(bands, key=_sub_band):
        parts = list(group)
        joined.append(replace(_joined(parts), name=name[1:]) if len(parts) > 1 else parts[0])
    return joined


def _sub_band(band: Band) -> str:
    whole, dot, part = band.label.partition(".")
    return f"{whole}{dot}{part[:1]}"


def _joined(group: list[Band]) -> Band:
    lengths = [band.length_iscn for band in group]
    darkness = float(np.average([band.darkness for band in group], weights=lengths))
    first, last = group[0], group[-1]
    return replace(
        first,
        name=f"{first.name.partition('-')[0]}-{last.name.rpartition('-')[2]}",
        iscn_stop=last.iscn_stop,
        bp_stop=last.bp_stop,
        stain="gneg" if darkness < 0.45 else "gpos",
        darkness=darkness,
    )
