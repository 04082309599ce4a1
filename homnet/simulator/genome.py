"""Chromosomes as oriented pieces of reference chromosomes, and the edits that rearrange them.

Every structural abnormality and normal variant is an edit of a list of segments, made before
rendering, so bands, length and centromere of the result follow from the edit. Positions are in ISCN
units (visible length) on the current chromosome, from the tip of the upper arm. Most edits return a
:class:`Change`: the new chromosome and the position of the change on it. A reciprocal translocation
is two calls of :func:`replace_end`.
"""

from dataclasses import dataclass, replace

from homnet.karyotype.bands import FINEST_LEVEL, band_table


@dataclass(frozen=True)
class Segment:
    """A piece of a reference chromosome."""

    chromosome: str
    """Type of origin."""
    start: float
    """First reference position, ISCN units."""
    stop: float
    """Last reference position, ISCN units; larger than ``start`` also when inverted."""
    inverted: bool = False
    """Whether the piece runs from ``stop`` to ``start``."""
    stretch: float = 1.0
    """Ratio of visible to reference length: 1 except for variants of heterochromatin."""

    @property
    def length_iscn(self) -> float:
        """Visible length, ISCN units."""
        return (self.stop - self.start) * self.stretch

    def part(self, first: float, last: float) -> "Segment":
        """Returns the part between two distances from its own start (ISCN units)."""
        first, last = first / self.stretch, last / self.stretch
        if self.inverted:
            return replace(self, start=self.stop - last, stop=self.stop - first)
        return replace(self, start=self.start + first, stop=self.start + last)

    def flipped(self) -> "Segment":
        """Returns the same piece in the opposite orientation."""
        return replace(self, inverted=not self.inverted)


@dataclass(frozen=True)
class Homolog:
    """One chromosome of a person: its segments from top to bottom."""

    segments: tuple[Segment, ...]
    variants: tuple[str, ...] = ()
    """ISCN names of its inherited normal variants; edits do not keep them."""

    @property
    def length_iscn(self) -> float:
        """Visible length, ISCN units."""
        return sum(segment.length_iscn for segment in self.segments)

    def span(self, start: float, stop: float) -> "Homolog":
        """Returns the part between two positions, clipped to the tips."""
        pieces, at = [], 0.0
        for segment in self.segments:
            first, last = max(start - at, 0.0), min(stop - at, segment.length_iscn)
            if first < last:
                pieces.append(segment.part(first, last))
            at += segment.length_iscn
        return Homolog(tuple(pieces))

    def flipped(self) -> "Homolog":
        """Returns the whole chromosome upside down."""
        return Homolog(tuple(segment.flipped() for segment in reversed(self.segments)))

    def position_of(self, chromosome: str, reference: float) -> float:
        """Returns where a reference position first occurs here, both in ISCN units.

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
    """Start of the change on it, ISCN units."""
    stop: float
    """End of the change; equal to ``start`` for a deletion or ring, which leave only a junction."""


def reference(chromosome: str) -> Homolog:
    """Returns the normal chromosome of a type."""
    length = band_table(FINEST_LEVEL)[chromosome].length_iscn
    return Homolog((Segment(chromosome, 0.0, length),))


def delete(homolog: Homolog, start: float, stop: float) -> Change:
    """Interstitial deletion, or terminal when ``start`` is 0 or ``stop`` is the length."""
    rest = homolog.span(0.0, start) + homolog.span(stop, homolog.length_iscn)
    return Change(rest, start, start)


def duplicate(homolog: Homolog, start: float, stop: float, *, inverted: bool) -> Change:
    """Tandem duplication: the copy follows the original, inverted if ``inverted``."""
    copy = homolog.span(start, stop)
    copy = copy.flipped() if inverted else copy
    return insert(homolog, stop, copy)


def invert(homolog: Homolog, start: float, stop: float) -> Change:
    """Inversion: pericentric if the span contains the centromere, else paracentric."""
    turned = homolog.span(start, stop).flipped()
    rest = homolog.span(stop, homolog.length_iscn)
    return Change(homolog.span(0.0, start) + turned + rest, start, stop)


def insert(homolog: Homolog, position: float, fragment: Homolog) -> Change:
    """Insertion of a fragment of the same or another chromosome."""
    rest = homolog.span(position, homolog.length_iscn)
    stop = position + fragment.length_iscn
    return Change(homolog.span(0.0, position) + fragment + rest, position, stop)


def move(homolog: Homolog, start: float, stop: float, position: float, *, inverted: bool) -> Change:
    """Insertion within a chromosome: the fragment moves to ``position``, outside itself.

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
    """Unbalanced derivative: the part beyond ``position`` is replaced with a foreign end.

    Args:
        homolog: the chromosome that keeps its centromere.
        position: the breakpoint.
        end: the foreign end, from its breakpoint outwards.
        tip: whether to replace the upper end; otherwise the lower one.
    """
    core, _ = _core_and_end(homolog, position, tip=tip)
    changed = core + end
    if tip:
        return Change(changed.flipped(), 0.0, end.length_iscn)
    return Change(changed, core.length_iscn, changed.length_iscn)


def end_of(homolog: Homolog, position: float, *, tip: bool) -> Homolog:
    """Returns the upper (``tip``) or lower end of a chromosome, from its breakpoint outwards."""
    return _core_and_end(homolog, position, tip=tip)[1]


def _core_and_end(homolog: Homolog, position: float, *, tip: bool) -> tuple[Homolog, Homolog]:
    """Returns both parts of a broken chromosome, oriented with the end below the core."""
    upper, lower = homolog.span(0.0, position), homolog.span(position, homolog.length_iscn)
    return (lower.flipped(), upper.flipped()) if tip else (upper, lower)


def fuse(upper: Homolog, upper_break: float, lower: Homolog, lower_break: float) -> Change:
    """Robertsonian translocation: two long arms joined, their short arms lost.

    Args:
        upper: the chromosome whose long arm is placed on top, turned around.
        upper_break: position at which its short arm is cut off.
        lower: the chromosome whose long arm remains below.
        lower_break: position at which its short arm is cut off.

    Returns:
        The derivative; the change is the upper arm.
    """
    arm = upper.span(upper_break, upper.length_iscn).flipped()
    rest = lower.span(lower_break, lower.length_iscn)
    return Change(arm + rest, 0.0, arm.length_iscn)


def isochromosome(homolog: Homolog, centromere: float, *, arm: str) -> Change:
    """One arm and its mirror image; the other arm is lost.

    Args:
        homolog: the chromosome.
        centromere: position of the border between its arms.
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
    """Ring: both tips are lost and the broken ends joined; returned opened at the junction."""
    return Change(homolog.span(start, stop), 0.0, 0.0)


def open_ring(ring: Homolog, position: float) -> Change:
    """Opens a ring at another position, because a ring has no fixed start.

    Args:
        ring: as of :func:`close_ring`.
        position: position on the ring at which it is opened.

    Returns:
        The opened ring; the change is the junction.
    """
    turned = ring.span(position, ring.length_iscn) + ring.span(0.0, position)
    junction = ring.length_iscn - position
    return Change(turned, junction, junction)


def stretch(homolog: Homolog, start: float, stop: float, factor: float) -> Homolog:
    """Heteromorphism: the span becomes ``factor`` times its usual length."""
    longer = tuple(
        replace(segment, stretch=segment.stretch * factor)
        for segment in homolog.span(start, stop).segments
    )
    rest = homolog.span(stop, homolog.length_iscn)
    return homolog.span(0.0, start) + Homolog(longer) + rest
