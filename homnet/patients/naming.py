"""Draft ISCN names of findings, for a cytogeneticist to confirm or reject."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from homnet.errors import DataError
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import ACROCENTRICS
from homnet.karyotype.kinds import NO_ABNORMALITY
from homnet.karyotype.nomenclature import PREFIX_OF, band_name, parse, rank, short_form
from homnet.patients.finding import BreakpointEstimate, Finding

DRAFT: Final = "draft, to be confirmed"
EXCHANGED: Final = frozenset({"insertion_translocation", "deletion", "duplication"})
"""Kinds that one side of an exchange can show: foreign material or a change of length."""
_WIDEST_RANGE: Final = 3
"""Maximum number of bands in a range; a less certain breakpoint gets a question mark instead."""


@dataclass(frozen=True)
class Draft:
    """A checked name, always printed together with the word draft."""

    name: str
    """Name in the short form of ISCN. Print the draft itself, not this field."""
    level: int
    """Band level of its bands."""

    @classmethod
    def checked(cls, name: str, level: int) -> Self:
        """Makes a draft of a name that can be parsed.

        Raises:
            DataError: the name cannot be parsed; see :func:`homnet.karyotype.nomenclature.parse`.
        """
        parse(name, level)
        return cls(name, level)

    def __str__(self) -> str:
        """The name, marked as a draft."""
        return f"{self.name} {DRAFT}"


def draft_name(finding: Finding, partner: Finding | None = None) -> Draft | None:
    """Names a finding as precisely as its breakpoints allow.

    Args:
        finding: kind and breakpoints.
        partner: the other type of a reciprocal translocation.

    Returns:
        The draft, or None if a name would be a guess or mean another abnormality: kind or
        breakpoints were not assessed, no abnormality is more likely than the kind, the breakpoints
        do not fit the kind, a lost or doubled segment runs over the centromere, or the name cannot
        be parsed.
    """
    try:
        return _named(finding, partner)
    except DataError:
        return None


def _named(finding: Finding, partner: Finding | None) -> Draft | None:
    kind, chromosome = finding.abnormal_kind, finding.chromosome
    places = [place for place in (finding.start, finding.stop) if place is not None]
    # A Robertsonian translocation is named by its types, see rob_name.
    if kind is None or kind == "robertsonian" or not places:
        return None
    if finding.kinds[kind] < finding.kinds.get(NO_ABNORMALITY, 0.0):
        return None
    level = places[0].level
    if kind == "isochromosome":
        # An arm replaced by its mirror image ends at the centromere.
        if len(places) != 1 or not _at_centromere(chromosome, places[0]):
            return None
        kept = "q" if finding.start is None else "p"
        return Draft.checked(short_form("i", [chromosome], [f"{kept}10"]), level)
    if kind == "insertion_translocation":
        return _exchange(finding, partner, level)
    if kind == "deletion" and len(places) == 1:
        end = _lost_end(finding)
        return Draft.checked(short_form("del", [chromosome], [end]), level) if end else None
    if len(places) != 2:
        return None
    ordered = _in_order(chromosome, places)
    arms = [_arm(chromosome, place) for place in ordered]
    if kind == "ring" and arms != ["p", "q"]:
        return None
    # Without its centromere a chromosome is lost, and with two it does not last.
    if kind in {"deletion", "duplication"} and len(set(arms)) == 2:
        return None
    bands = [_band(chromosome, place) for place in ordered]
    return Draft.checked(short_form(PREFIX_OF[kind], [chromosome], bands), level)


def rob_name(one: str, other: str) -> Draft | None:
    """Names a Robertsonian translocation; None unless the types are two different acrocentrics."""
    types = sorted({one, other}, key=rank)
    if len(types) < 2 or not set(types) <= set(ACROCENTRICS):
        return None
    return Draft.checked(short_form("rob", types, ["q10", "q10"]), 400)


def _exchange(finding: Finding, partner: Finding | None, level: int) -> Draft | None:
    """Names a translocation, or without a partner additional material of unknown origin."""
    sides = [finding] if partner is None else [finding, partner]
    ends = {side.chromosome: _lost_end(side) for side in sides if side.abnormal_kind in EXCHANGED}
    types = sorted(ends, key=rank)
    bands = [end for name in types if (end := ends[name]) is not None]
    if len(bands) < len(sides):
        return None
    name = short_form("add" if partner is None else "t", types, bands)
    # Two findings may have different band levels: such a name is checked without a level.
    parse(name, level if partner is None else None)
    return Draft(name, level)


def _lost_end(finding: Finding) -> str | None:
    """The band where the lost or exchanged end of one arm begins.

    None for a segment that does not reach one tip only, or that runs over the centromere: the same
    band would name the end of the other arm.
    """
    if (finding.start is None) == (finding.stop is None):
        return None
    place, arm = (finding.stop, "p") if finding.start is None else (finding.start, "q")
    if place is None or _arm(finding.chromosome, place) != arm:
        return None
    return _band(finding.chromosome, place)


def _in_order(chromosome: str, places: Sequence[BreakpointEstimate]) -> list[BreakpointEstimate]:
    """Sorts short arm before long arm, inner before outer."""
    centromere_mb = band_table(places[0].level)[chromosome].centromere_bp / 1e6
    return sorted(
        places, key=lambda place: (_arm(chromosome, place), abs(place.mb - centromere_mb))
    )


def _arm(chromosome: str, place: BreakpointEstimate) -> str:
    centromere_bp = band_table(place.level)[chromosome].centromere_bp
    return "p" if place.mb * 1e6 < centromere_bp else "q"


def _at_centromere(chromosome: str, place: BreakpointEstimate) -> bool:
    """Whether a breakpoint lies in one of the two bands of the centromere."""
    bands = band_table(FINEST_LEVEL)[chromosome]
    return bands.at(bands.to_iscn(place.mb * 1e6)).stain == "acen"


def _band(chromosome: str, place: BreakpointEstimate) -> str:
    """The band or range of bands covered by the interval of a breakpoint."""
    bands = band_table(place.level)[chromosome]
    best = band_name(chromosome, place.mb, place.level)
    low, high = (
        band_name(chromosome, min(max(mb, 1e-3), bands.length_bp / 1e6 - 1e-3), place.level)
        for mb in (place.low_mb, place.high_mb)
    )
    if low == high == best:
        return best
    covered = {
        bands.at(bands.to_iscn(mb * 1e6)).label for mb in (place.low_mb, place.mb, place.high_mb)
    }
    inside = [
        band
        for band in bands.bands
        if band.label in covered
        or (band.bp_start >= place.low_mb * 1e6 and band.bp_stop <= place.high_mb * 1e6)
    ]
    if len({band.arm for band in inside}) > 1 or len(inside) > _WIDEST_RANGE:
        return f"?{best}"
    ends = [end for band in inside for end in band.name.split("-")]
    arm = inside[0].arm
    return f"{arm}{min(ends, key=float)}~{arm}{max(ends, key=float)}"
