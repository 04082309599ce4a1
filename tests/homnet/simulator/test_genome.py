"""The edits against a loop-only reference: a chromosome as a list of labelled unit cells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homnet.simulator import genome
from homnet.simulator.genome import Homolog, Segment

ONE = Homolog((Segment("1", 3, 10), Segment("1", 20, 25, inverted=True), Segment("2", 0, 4)))
OTHER = Homolog((Segment("7", 0, 6, inverted=True), Segment("8", 30, 35)))


def cells(homolog: Homolog) -> list[tuple[str, float, bool]]:
    """Chromosome, middle and direction of each unit of length."""
    found = []
    for segment in homolog.segments:
        steps = [segment.start + 0.5 + i for i in range(round(segment.stop - segment.start))]
        steps = steps[::-1] if segment.inverted else steps
        found += [(segment.chromosome, step, segment.inverted) for step in steps]
    return found


def turned(units):
    return [(name, middle, not inverted) for name, middle, inverted in units[::-1]]


spans = st.tuples(st.integers(0, 16), st.integers(0, 16)).map(sorted)


@given(spans)
def test_span(span):
    assert cells(ONE.span(*span)) == cells(ONE)[span[0] : span[1]]
    assert ONE.span(*span).length_iscn == span[1] - span[0]


@given(spans)
def test_delete(span):
    start, stop = span
    change = genome.delete(ONE, start, stop)
    assert cells(change.homolog) == cells(ONE)[:start] + cells(ONE)[stop:]
    assert change.start == change.stop == start


@given(spans, st.booleans())
def test_duplicate(span, inverted):
    start, stop = span
    whole = cells(ONE)
    copy = turned(whole[start:stop]) if inverted else whole[start:stop]
    change = genome.duplicate(ONE, start, stop, inverted=inverted)
    assert cells(change.homolog) == whole[:stop] + copy + whole[stop:]
    assert cells(change.homolog)[int(change.start) : int(change.stop)] == copy


@given(spans)
def test_invert(span):
    start, stop = span
    whole = cells(ONE)
    change = genome.invert(ONE, start, stop)
    assert cells(change.homolog) == whole[:start] + turned(whole[start:stop]) + whole[stop:]
    assert (change.start, change.stop) == (start, stop)
    assert cells(genome.invert(change.homolog, start, stop).homolog) == whole


@given(st.integers(0, 16))
def test_insert(position):
    change = genome.insert(ONE, position, OTHER)
    whole = cells(ONE)
    assert cells(change.homolog) == whole[:position] + cells(OTHER) + whole[position:]
    assert change.stop - change.start == 11


@given(spans, st.integers(0, 16), st.booleans())
def test_move(span, position, inverted):
    start, stop = span
    whole = cells(ONE)
    if start < position < stop:
        with pytest.raises(ValueError, match="within the fragment"):
            genome.move(ONE, start, stop, position, inverted=inverted)
        return
    fragment = turned(whole[start:stop]) if inverted else whole[start:stop]
    change = genome.move(ONE, start, stop, position, inverted=inverted)
    if position <= start:
        expected = whole[:position] + fragment + whole[position:start] + whole[stop:]
    else:
        expected = whole[:start] + whole[stop:position] + fragment + whole[position:]
    assert cells(change.homolog) == expected
    assert cells(change.homolog)[int(change.start) : int(change.stop)] == fragment


@given(st.integers(1, 15))
def test_isochromosome(centromere):
    upper, lower = cells(ONE)[:centromere], cells(ONE)[centromere:]
    long = genome.isochromosome(ONE, centromere, arm="q")
    short = genome.isochromosome(ONE, centromere, arm="p")
    assert cells(long.homolog) == turned(lower) + lower
    assert (long.start, long.stop) == (0, len(lower))
    assert cells(short.homolog) == upper + turned(upper)
    assert (short.start, short.stop) == (len(upper), 2 * len(upper))


@given(st.integers(0, 11))
def test_a_ring_is_read_from_anywhere(cut):
    closed = genome.close_ring(ONE, 2, 14)
    assert cells(closed.homolog) == cells(ONE)[2:14]
    opened = genome.open_ring(closed.homolog, cut)
    circle = cells(ONE)[2:14]
    assert cells(opened.homolog) == circle[cut:] + circle[:cut]
    assert opened.start == opened.stop == 12 - cut


@given(st.integers(1, 15), st.integers(1, 10), st.booleans(), st.booleans())
def test_reciprocal_translocation_keeps_everything(at, other_at, tip, other_tip):
    foreign = genome.end_of(OTHER, other_at, tip=other_tip)
    own = genome.end_of(ONE, at, tip=tip)
    one = genome.replace_end(ONE, at, foreign, tip=tip)
    other = genome.replace_end(OTHER, other_at, own, tip=other_tip)
    before = sorted((name, middle) for name, middle, _ in cells(ONE) + cells(OTHER))
    after = cells(one.homolog) + cells(other.homolog)
    assert sorted((name, middle) for name, middle, _ in after) == before
    core = cells(ONE)[at:] if tip else cells(ONE)[:at]
    moved = cells(one.homolog)[int(one.start) : int(one.stop)]
    assert cells(one.homolog) == (moved + core if tip else core + moved)
    assert {name for name, *_ in moved} <= {"7", "8"}
    # The place where it broke comes to lie at the junction, whichever way round.
    nearest = cells(OTHER)[other_at - 1] if other_tip else cells(OTHER)[other_at]
    assert (moved[-1] if tip else moved[0])[:2] == nearest[:2]


def test_robertsonian_joins_the_long_arms():
    change = genome.fuse(ONE, 6, OTHER, 4)
    assert cells(change.homolog) == turned(cells(ONE)[6:]) + cells(OTHER)[4:]
    assert (change.start, change.stop) == (0, 10)


def test_stretch_makes_one_region_longer():
    longer = genome.stretch(genome.reference("1"), 100.0, 300.0, 1.5)
    assert longer.length_iscn == pytest.approx(15200.0)
    assert longer.position_of("1", 200.0) == pytest.approx(250.0)
    assert longer.position_of("1", 1000.0) == pytest.approx(1100.0)
    assert longer.span(0.0, 250.0).segments[-1].stop == pytest.approx(200.0)
    assert longer.flipped().span(0.0, 14950.0).segments[-1].start == pytest.approx(200.0)


def test_position_of_reads_inverted_segments_backwards():
    assert ONE.position_of("1", 24.0) == 8.0
    assert ONE.position_of("2", 1.0) == 13.0
    with pytest.raises(ValueError, match="chromosome 3"):
        ONE.position_of("3", 1.0)
