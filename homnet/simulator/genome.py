"""Chromosomes as oriented pieces of reference chromosomes, and the edits that rearrange them.

Every structural abnormality and every normal variant is an edit of a list of segments, made
before anything is drawn, so that bands, length and centromere of the result follow from the edit.
Positions are in ISCN units (visible length) along the chromosome as it is, from the tip of the arm
drawn on top. Most edits return a :class:`Change`: the new chromosome and where on it the change
lies. A reciprocal translocation is two times :func:`replace_end`.
"""

from dataclasses import dataclass, replace

from homnet.karyotype.bands import FINEST_LEVEL, band_table


@dataclass(frozen=True)
class Segment:
    """A piece of a reference chromosome."""

    chromosome: str
    """Type that the piece comes from."""
    start: float
    """First reference position, ISCN units."""
    stop: float
    """Last reference position, ISCN units; larger than ``start`` also when inverted."""
    inverted: bool = False
    """Whether the piece runs from ``stop`` to ``start``."""
    stretch: float = 1.0
    """Visible length over reference length: 1 but for variants of heterochromatin."""

    @property
    def length_iscn(self) -> float:
        """Visible length."""
        return (self.stop - self.start) * self.stretch

    def part(self, first: float, last: float) -> "Segment":
        """The piece between two distances from its own beginning (ISCN units)."""
        first, last = first / self.stretch, last / self.stretch
        if self.inverted:
            return replace(self, start=self.stop - last, stop=self.stop - first)
        return replace(self, start=self.start + first, stop=self.start + last)

    def flipped(self) -> "Segment":
        """The same piece in the other direction."""
        return replace(self, inverted=not self.inverted)


@dataclass(frozen=True)
class Homolog:
    """One chromosome of a person: its segments from top to bottom."""

    segments: tuple[Segment, ...]
    variants: tuple[str, ...] = ()
    """Harmless variants that it was born with, by their ISCN names; edits do not keep them."""

    @property
    def length_iscn(self) -> float:
        """Visible length."""
        return sum(segment.length_iscn for segment in self.segments)

    def span(self, start: float, stop: float) -> "Homolog":
        """The stretch between two positions; what lies beyond the tips is ignored."""
        pieces, at = [], 0.0
        for segment in self.segments:
            first, last = max(start - at, 0.0), min(stop - at, segment.length_iscn)
            if first < last:
                pieces.append(segment.part(first, last))
            at += segment.length_iscn
        return Homolog(tuple(pieces))

    def flipped(self) -> "Homolog":
        """The whole chromosome upside down."""
        return Homolog(tuple(segment.flipped() for segment in reversed(self.segments)))

    def position_of(self, chromosome: str, reference: float) -> float:
        """Where a reference position (ISCN units) lies on this chromosome: its first occurrence.

        Raises:
            ValueError: this chromosome does not contain the position.
        """
        at = 0.0
        for segment in self.segments:
            if segment.chromosome == chromosome and segment.start <= reference <= segment.stop:
                inside = segment.stop - reference if segment.inverted else reference - segment.start
                return at + inside * segment.stretch
            at += segment.length_iscn
        raise ValueError(f"no position {reference} of chromosome {chromosome} on {self}")

    def __add__(self, other: "Homolog") -> "Homolog":
        return Homolog(self.segments + other.segments)


@dataclass(frozen=True)
class Change:
    """A chromosome after an edit."""

    homolog: Homolog
    """The changed chromosome."""
    start: float
    """Where the change begins on it, ISCN units."""
    stop: float
    """Where it ends; equal to ``start`` for a deletion or a ring, which leave only a junction."""


def reference(chromosome: str) -> Homolog:
    """The normal chromosome of a type."""
    length = band_table(FINEST_LEVEL)[chromosome].length_iscn
    return Homolog((Segment(chromosome, 0.0, length),))


def delete(homolog: Homolog, start: float, stop: float) -> Change:
    """Interstitial deletion, or terminal when ``start`` is 0 or ``stop`` is the length."""
    rest = homolog.span(0.0, start) + homolog.span(stop, homolog.length_iscn)
    return Change(rest, start, start)


def duplicate(homolog: Homolog, start: float, stop: float, *, inverted: bool) -> Change:
    """Tandem duplication: the copy follows the original, turned around when ``inverted``."""
    copy = homolog.span(start, stop)
    copy = copy.flipped() if inverted else copy
    return insert(homolog, stop, copy)


def invert(homolog: Homolog, start: float, stop: float) -> Change:
    """Inversion: pericentric when the span holds the centromere, paracentric otherwise."""
    turned = homolog.span(start, stop).flipped()
    rest = homolog.span(stop, homolog.length_iscn)
    return Change(homolog.span(0.0, start) + turned + rest, start, stop)


def insert(homolog: Homolog, position: float, fragment: Homolog) -> Change:
    """Insertion of a fragment of the same or another chromosome."""
    rest = homolog.span(position, homolog.length_iscn)
    stop = position + fragment.length_iscn
    return Change(homolog.span(0.0, position) + fragment + rest, position, stop)


def move(homolog: Homolog, start: float, stop: float, position: float, *, inverted: bool) -> Change:
    """Insertion within a chromosome: a fragment leaves its place for ``position`` beyond it.

    Raises:
        ValueError: ``position`` lies within the fragment.
    """
    if start < position < stop:
        raise ValueError(f"position {position} lies within the fragment from {start} to {stop}")
    fragment = homolog.span(start, stop)
    fragment = fragment.flipped() if inverted else fragment
    rest = delete(homolog, start, stop).homolog
    return insert(rest, position if position <= start else position - (stop - start), fragment)


def replace_end(homolog: Homolog, position: float, end: Homolog, *, tip: bool) -> Change:
    """Unbalanced derivative: what lies beyond ``position`` is replaced by a foreign end.

    Args:
        homolog: the chromosome that keeps its centromere.
        position: the breakpoint.
        end: the foreign end, from its breakpoint outwards.
        tip: whether the upper end is replaced, or the lower one.
    """
    core, _ = _core_and_end(homolog, position, tip=tip)
    changed = core + end
    if tip:
        return Change(changed.flipped(), 0.0, end.length_iscn)
    return Change(changed, core.length_iscn, changed.length_iscn)


def end_of(homolog: Homolog, position: float, *, tip: bool) -> Homolog:
    """The upper (``tip``) or lower end of a chromosome, from its breakpoint outwards."""
    return _core_and_end(homolog, position, tip=tip)[1]


def _core_and_end(homolog: Homolog, position: float, *, tip: bool) -> tuple[Homolog, Homolog]:
    """Both parts of a broken chromosome, turned so that the end would lie below the core."""
    upper, lower = homolog.span(0.0, position), homolog.span(position, homolog.length_iscn)
    return (lower.flipped(), upper.flipped()) if tip else (upper, lower)


def fuse(upper: Homolog, upper_break: float, lower: Homolog, lower_break: float) -> Change:
    """Robertsonian translocation: two long arms joined, their short arms lost.

    Args:
        upper: the chromosome whose long arm comes on top, turned around.
        upper_break: where its short arm is cut off.
        lower: the chromosome whose long arm stays below.
        lower_break: where its short arm is cut off.

    Returns:
        The derivative; the change is the arm that was put on top.
    """
    arm = upper.span(upper_break, upper.length_iscn).flipped()
    rest = lower.span(lower_break, lower.length_iscn)
    return Change(arm + rest, 0.0, arm.length_iscn)


def isochromosome(homolog: Homolog, centromere: float, *, arm: str) -> Change:
    """One arm and its mirror image; the other arm is lost.

    Args:
        homolog: the chromosome.
        centromere: the border of its arms.
        arm: ``"p"`` or ``"q"``, the arm that is kept.

    Returns:
        The isochromosome; the change is the mirrored arm, on the side of the lost one.
    """
    if arm == "q":
        kept = homolog.span(centromere, homolog.length_iscn)
        return Change(kept.flipped() + kept, 0.0, kept.length_iscn)
    kept = homolog.span(0.0, centromere)
    return Change(kept + kept.flipped(), kept.length_iscn, 2 * kept.length_iscn)


def close_ring(homolog: Homolog, start: float, stop: float) -> Change:
    """Ring: both tips are lost and the broken ends joined; given as opened at their junction."""
    return Change(homolog.span(start, stop), 0.0, 0.0)


def open_ring(ring: Homolog, position: float) -> Change:
    """A ring as read from another place: a circle has no beginning.

    Args:
        ring: as of :func:`close_ring`.
        position: where on it the reading begins.

    Returns:
        The opened ring; the change is the junction.
    """
    turned = ring.span(position, ring.length_iscn) + ring.span(0.0, position)
    junction = ring.length_iscn - position
    return Change(turned, junction, junction)


def stretch(homolog: Homolog, start: float, stop: float, factor: float) -> Homolog:
    """A heteromorphic chromosome: the span is ``factor`` times as long as usual."""
    longer = tuple(
        replace(segment, stretch=segment.stretch * factor)
        for segment in homolog.span(start, stop).segments
    )
    rest = homolog.span(stop, homolog.length_iscn)
    return homolog.span(0.0, start) + Homolog(longer) + rest
