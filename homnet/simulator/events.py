"""Structural abnormalities: their breakpoints, and the chromosomes that result.

An :class:`Event` is given by its kind and its breakpoints on the reference chromosomes, as ISCN
does; :func:`derive` carries it out on the homologs of a person.
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
    """Where it breaks, short arm before long arm and inner before outer.

    Deletion: one when terminal, else two. Duplication, inversion and ring: two. Translocation,
    addition and robertsonian: one of each type, that of the changed chromosome first.
    Isochromosome: the centromere, as the end of the arm that is kept. Insertion: where it goes,
    then the two of the fragment.
    """
    inverted: bool = False
    """Of a duplication or an insertion: the inner end of the fragment comes to lie outside."""
    balanced: bool = True
    """Of an insertion: whether the fragment leaves the chromosome that it comes from."""

    @property
    def chromosomes(self) -> tuple[str, ...]:
        """The types that it breaks."""
        return tuple(dict.fromkeys(place.chromosome for place in self.breakpoints))

    @property
    def size_mb(self) -> float:
        """Megabases of the rearranged segment.

        What is deleted, duplicated, inverted or inserted; the smaller of the ends that a
        translocation exchanges; the foreign end of an addition; both lost tips of a ring; the arm
        that a Robertsonian translocation adds or an isochromosome mirrors.
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
        """The short form of ISCN 2020 at a band level, for example ``"del(5)(q13q33)"``."""
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
    """A chromosome that an event has changed."""

    homolog: Homolog
    """The changed chromosome."""
    start: float
    """Where the change begins on it, ISCN units."""
    stop: float
    """Where it ends; equal to ``start`` where only a junction is left."""
    points: tuple[float | None, ...]
    """Where each breakpoint of the event lies on it, ISCN units; None for not on it."""
    circular: bool = False
    """Whether it is a ring; its first position is then the junction."""

    @classmethod
    def at_junction(cls, change: Change, event: Event, junction: float) -> Self:
        """A chromosome on which all breakpoints meet in one junction."""
        points = (junction,) * len(event.breakpoints)
        return cls(change.homolog, change.start, change.stop, points)

    def opened(self, share: float) -> Self:
        """A ring as read from another place, given as a share of its length."""
        change = genome.open_ring(self.homolog, share * self.homolog.length_iscn)
        points = (change.start,) * len(self.points)
        return replace(
            self, homolog=change.homolog, start=change.start, stop=change.stop, points=points
        )


def in_order(first: Breakpoint, last: Breakpoint) -> tuple[Breakpoint, Breakpoint]:
    """Two breakpoints of one chromosome, short arm before long arm and inner before outer."""
    centromere = band_table(FINEST_LEVEL)[first.chromosome].centromere_iscn
    one, other = sorted((first, last), key=lambda at: (at.arm, abs(at.iscn - centromere)))
    return one, other


def derive(event: Event, homologs: Mapping[str, Homolog]) -> dict[str, Derivative]:
    """Carries out an event.

    Args:
        event: the abnormality.
        homologs: one chromosome of each type that it breaks, without inversions.

    Returns:
        The changed chromosomes by type. A Robertsonian translocation leaves one for two, under the
        first type.
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
    """The derivative of an event within one chromosome."""
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
    """Recipient and, when balanced, donor; or the one chromosome that is both."""
    target, place, _ = event.breakpoints
    position, low, high = at[0], min(at[1:]), max(at[1:])
    recipient, donor = homologs[target.chromosome], homologs[place.chromosome]
    # Brought into the other arm with its inner end inside, a fragment is upside down.
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
    """Where the two ends of a copied or moved fragment come to lie, in the order of ``at``."""
    begins_low = at[0] < at[1]
    if begins_low != flipped:
        return change.start, change.stop
    return change.stop, change.start


def _with_end(
    event: Event,
    kept: tuple[Homolog, Breakpoint, float],
    lost: tuple[Homolog, Breakpoint, float],
) -> Derivative:
    """A chromosome with the end of another one in place of its own."""
    (homolog, place, at), (other, other_place, other_at) = kept, lost
    end = genome.end_of(other, other_at, tip=other_place.arm == "p")
    tip = place.arm == "p"
    change = genome.replace_end(homolog, at, end, tip=tip)
    return Derivative.at_junction(change, event, change.stop if tip else change.start)
