"""Structural abnormalities: their breakpoints, and the derivative chromosomes.

As in ISCN, an :class:`Event` consists of its kind and its breakpoints on the reference chromosomes;
:func:`derive` applies it to the homologs of a person.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.nomenclature import PREFIX_OF, rank, short_form
from homnet.simulator import genome
from homnet.simulator.breakpoints import Breakpoint
from homnet.simulator.genome import Change, Homolog


@dataclass(frozen=True)
class Event:
    """One structural abnormality."""

    kind: str
    """One of :data:`homnet.karyotype.kinds.SIMULATED`."""
    breakpoints: tuple[Breakpoint, ...]
    """Breakpoints, short arm before long arm and inner before outer.

    Deletion: one if terminal, else two. Duplication, inversion and ring: two. Translocation,
        addition and robertsonian: one per type, the changed chromosome first. Isochromosome: the
        centromere, as the end of the arm that is kept. Insertion: the insertion site, then both
        ends of the fragment.
    """
    inverted: bool = False
    """For a duplication or insertion: whether the inner end of the fragment ends up outside."""
    balanced: bool = True
    """For an insertion: whether the fragment is lost from the donor chromosome."""

    @property
    def chromosomes(self) -> tuple[str, ...]:
        """The types with a breakpoint."""
        return tuple(dict.fromkeys(place.chromosome for place in self.breakpoints))

    @property
    def size_mb(self) -> float:
        """Size of the rearranged segment, megabases.

        The deleted, duplicated, inverted or inserted segment; the smaller of the ends exchanged by
        a translocation; the foreign end of an addition; both lost tips of a ring; the arm added by
        a Robertsonian translocation or mirrored in an isochromosome.
        """
        ends_mb = [place.end_mb for place in self.breakpoints]
        if self.kind == "translocation":
            return min(ends_mb)
        if self.kind == "ring":
            return sum(ends_mb)
        if len(self.breakpoints) == 1 or self.kind in {"addition", "robertsonian"}:
            return ends_mb[-1]
        first, last = self.breakpoints[-2:]
        return abs(first.mb - last.mb)

    def iscn(self, level: int) -> str:
        """Returns the short form of ISCN 2020 at a band level, for example ``"del(5)(q13q33)"``."""
        names = [place.band(level) for place in self.breakpoints]
        types = [place.chromosome for place in self.breakpoints]
        if self.kind in {"translocation", "addition"}:
            ordered = sorted(zip(types, names, strict=True), key=lambda one: rank(one[0]))
            exchange = short_form("t", *zip(*ordered, strict=True))
            return exchange if self.kind == "translocation" else f"der({types[0]}){exchange}"
        if self.inverted:
            names[-2:] = names[-2:][::-1]
        prefix = PREFIX_OF[self.kind]
        if len(self.chromosomes) == 1:
            return short_form(prefix, types[:1], names)
        if self.kind == "robertsonian":
            return short_form(prefix, types, names)
        inserted = short_form(prefix, types[:2], [names[0], names[1] + names[2]])
        return inserted if self.balanced else f"der({types[0]}){inserted}"


@dataclass(frozen=True)
class Derivative:
    """A chromosome changed by an event."""

    homolog: Homolog
    """The changed chromosome."""
    start: float
    """Start of the change on it, ISCN units."""
    stop: float
    """End of the change; equal to ``start`` if only a junction remains."""
    points: tuple[float | None, ...]
    """Position of each breakpoint of the event on it, ISCN units; None if not on it."""
    circular: bool = False
    """Whether it is a ring; its first position is then the junction."""

    @classmethod
    def at_junction(cls, change: Change, event: Event, junction: float) -> Self:
        """Returns a chromosome on which all breakpoints coincide at one junction."""
        points = (junction,) * len(event.breakpoints)
        return cls(change.homolog, change.start, change.stop, points)

    def opened(self, share: float) -> Self:
        """Returns the ring opened at another position, given as a share of its length."""
        change = genome.open_ring(self.homolog, share * self.homolog.length_iscn)
        points = (change.start,) * len(self.points)
        return replace(
            self, homolog=change.homolog, start=change.start, stop=change.stop, points=points
        )


def in_order(first: Breakpoint, last: Breakpoint) -> tuple[Breakpoint, Breakpoint]:
    """Sorts two breakpoints of one chromosome: short arm before long arm, inner before outer."""
    centromere = band_table(FINEST_LEVEL)[first.chromosome].centromere_iscn
    one, other = sorted((first, last), key=lambda at: (at.arm, abs(at.iscn - centromere)))
    return one, other


def derive(event: Event, homologs: Mapping[str, Homolog]) -> dict[str, Derivative]:
    """Applies an event.

    Args:
        event: the abnormality.
        homologs: one chromosome, without inversions, of each type with a breakpoint.

    Returns:
        The changed chromosomes by type. A Robertsonian translocation replaces two chromosomes with
        one, listed under the first type.
    """
    at = [
        homologs[place.chromosome].position_of(place.chromosome, place.iscn)
        for place in event.breakpoints
    ]
    if event.kind == "insertion":
        return _insertion(event, homologs, at)
    first, *others = event.breakpoints
    homolog = homologs[first.chromosome]
    if not others or others[0].chromosome == first.chromosome:
        return {first.chromosome: _within(event, homolog, at)}
    (second,) = others
    partner = homologs[second.chromosome]
    if event.kind == "robertsonian":
        shorter, longer = sorted(
            ((homolog, at[0]), (partner, at[1])), key=lambda arm: arm[0].length_iscn - arm[1]
        )
        change = genome.fuse(*shorter, *longer)
        return {first.chromosome: Derivative.at_junction(change, event, change.stop)}
    found = {first.chromosome: _with_end(event, (homolog, first, at[0]), (partner, second, at[1]))}
    if event.kind == "translocation":
        exchanged = _with_end(event, (partner, second, at[1]), (homolog, first, at[0]))
        found[second.chromosome] = exchanged
    return found


def _within(event: Event, homolog: Homolog, at: list[float]) -> Derivative:
    """Returns the derivative of an event within one chromosome."""
    low, high = min(at), max(at)
    place = event.breakpoints[0]
    match event.kind:
        case "deletion":
            if len(at) == 1:
                low, high = (0.0, low) if place.arm == "p" else (low, homolog.length_iscn)
            change = genome.delete(homolog, low, high)
            return Derivative.at_junction(change, event, change.start)
        case "duplication":
            change = genome.duplicate(homolog, low, high, inverted=event.inverted)
            ends = _ends(at, change, flipped=event.inverted)
            return Derivative(change.homolog, change.start, change.stop, ends)
        case "inversion":
            change = genome.invert(homolog, low, high)
            return Derivative(change.homolog, change.start, change.stop, tuple(at))
        case "isochromosome":
            change = genome.isochromosome(homolog, low, arm=place.arm)
            junction = change.stop if place.arm == "q" else change.start
            return Derivative.at_junction(change, event, junction)
        case "ring":
            change = genome.close_ring(homolog, low, high)
            return replace(Derivative.at_junction(change, event, change.start), circular=True)
    raise ValueError(f"no event of kind '{event.kind}' within one chromosome")


def _insertion(
    event: Event, homologs: Mapping[str, Homolog], at: list[float]
) -> dict[str, Derivative]:
    """Returns the recipient and, if balanced, the donor; or the one chromosome that is both."""
    target, place, _ = event.breakpoints
    position, low, high = at[0], min(at[1:]), max(at[1:])
    recipient, donor = homologs[target.chromosome], homologs[place.chromosome]
    # A fragment moved to the other arm with its inner end inside is upside down.
    flipped = event.inverted != (place.arm != target.arm)
    if place.chromosome == target.chromosome:
        change = genome.move(recipient, low, high, position, inverted=flipped)
    else:
        fragment = donor.span(low, high)
        change = genome.insert(recipient, position, fragment.flipped() if flipped else fragment)
    points = (change.start, *_ends(at[1:], change, flipped=flipped))
    found = {target.chromosome: Derivative(change.homolog, change.start, change.stop, points)}
    if event.balanced and place.chromosome != target.chromosome:
        left = genome.delete(donor, low, high)
        found[place.chromosome] = Derivative(
            left.homolog, left.start, left.stop, (None, left.start, left.start)
        )
    return found


def _ends(at: list[float], change: Change, *, flipped: bool) -> tuple[float, ...]:
    """Returns the new positions of both ends of the fragment, in the order of ``at``."""
    begins_low = at[0] < at[1]
    if begins_low != flipped:
        return change.start, change.stop
    return change.stop, change.start


def _with_end(
    event: Event,
    kept: tuple[Homolog, Breakpoint, float],
    lost: tuple[Homolog, Breakpoint, float],
) -> Derivative:
    """Returns a chromosome whose end is replaced with that of another."""
    (homolog, place, at), (other, other_place, other_at) = kept, lost
    end = genome.end_of(other, other_at, tip=other_place.arm == "p")
    tip = place.arm == "p"
    change = genome.replace_end(homolog, at, end, tip=tip)
    return Derivative.at_junction(change, event, change.stop if tip else change.start)
