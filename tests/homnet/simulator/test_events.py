"""Each kind of event, worked out by hand on chromosomes given by their bands."""

import pytest

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.simulator.breakpoints import Breakpoint
from homnet.simulator.events import Event, derive, in_order
from homnet.simulator.genome import Homolog, reference, stretch


def at(chromosome: str, iscn: float) -> Breakpoint:
    return Breakpoint(chromosome, iscn)


def derived(event: Event):
    return derive(event, {name: reference(name) for name in event.chromosomes})


def pieces(homolog: Homolog) -> list[tuple[str, float, float]]:
    """Chromosome and the reference positions at which each segment begins and ends."""
    return [
        (s.chromosome, *((s.stop, s.start) if s.inverted else (s.start, s.stop)))
        for s in homolog.segments
    ]


# Chromosome 5 is 10600 long with its centromere at 2592, chromosome 2 14400 and 5545.
FIVE, TWO = 10600.0, 14400.0
CASES = {
    "terminal deletion, p": (
        Event("deletion", (at("5", 900),)),
        {"5": ([("5", 900, FIVE)], (0, 0), (0,))},
    ),
    "terminal deletion, q": (
        Event("deletion", (at("5", 9000),)),
        {"5": ([("5", 0, 9000)], (9000, 9000), (9000,))},
    ),
    "interstitial deletion": (
        Event("deletion", (at("5", 5000), at("5", 8000))),
        {"5": ([("5", 0, 5000), ("5", 8000, FIVE)], (5000, 5000), (5000, 5000))},
    ),
    "direct duplication, p": (
        Event("duplication", (at("5", 2000), at("5", 1200))),
        {"5": ([("5", 0, 2000), ("5", 1200, 2000), ("5", 2000, FIVE)], (2000, 2800), (2800, 2000))},
    ),
    "inverted duplication, q": (
        Event("duplication", (at("5", 5000), at("5", 8000)), inverted=True),
        {
            "5": (
                [("5", 0, 8000), ("5", 8000, 5000), ("5", 8000, FIVE)],
                (8000, 11000),
                (11000, 8000),
            )
        },
    ),
    "pericentric inversion": (
        Event("inversion", (at("5", 2000), at("5", 3000))),
        {
            "5": (
                [("5", 0, 2000), ("5", 3000, 2000), ("5", 3000, FIVE)],
                (2000, 3000),
                (2000, 3000),
            )
        },
    ),
    "isochromosome, p": (
        Event("isochromosome", (Breakpoint.of_arm("5", "p"),)),
        {"5": ([("5", 0, 2592), ("5", 2592, 0)], (2592, 5184), (2592,))},
    ),
    "isochromosome, q": (
        Event("isochromosome", (Breakpoint.of_arm("5", "q"),)),
        {"5": ([("5", FIVE, 2592), ("5", 2592, FIVE)], (0, 8008), (8008,))},
    ),
    "ring": (
        Event("ring", (at("5", 500), at("5", 10000))),
        {"5": ([("5", 500, 10000)], (0, 0), (0, 0))},
    ),
    "translocation, q and q": (
        Event("translocation", (at("2", 10000), at("5", 8000))),
        {
            "2": ([("2", 0, 10000), ("5", 8000, FIVE)], (10000, 12600), (10000, 10000)),
            "5": ([("5", 0, 8000), ("2", 10000, TWO)], (8000, 12400), (8000, 8000)),
        },
    ),
    "translocation, p and q": (
        Event("translocation", (at("2", 1000), at("5", 8000))),
        {
            "2": ([("5", FIVE, 8000), ("2", 1000, TWO)], (0, 2600), (2600, 2600)),
            "5": ([("5", 0, 8000), ("2", 1000, 0)], (8000, 9000), (8000, 8000)),
        },
    ),
    "addition": (
        Event("addition", (at("5", 8000), at("2", 10000))),
        {"5": ([("5", 0, 8000), ("2", 10000, TWO)], (8000, 12400), (8000, 8000))},
    ),
    "balanced insertion, q into q": (
        Event("insertion", (at("5", 6000), at("2", 8000), at("2", 9000))),
        {
            "5": (
                [("5", 0, 6000), ("2", 8000, 9000), ("5", 6000, FIVE)],
                (6000, 7000),
                (6000, 6000, 7000),
            ),
            "2": ([("2", 0, 8000), ("2", 9000, TWO)], (8000, 8000), (None, 8000, 8000)),
        },
    ),
    "direct insertion, q into p": (
        Event("insertion", (at("5", 1000), at("2", 8000), at("2", 9000)), balanced=False),
        {
            "5": (
                [("5", 0, 1000), ("2", 9000, 8000), ("5", 1000, FIVE)],
                (1000, 2000),
                (1000, 2000, 1000),
            )
        },
    ),
    "inverted insertion, q into p": (
        Event("insertion", (at("5", 1000), at("2", 8000), at("2", 9000)), True, balanced=False),
        {
            "5": (
                [("5", 0, 1000), ("2", 8000, 9000), ("5", 1000, FIVE)],
                (1000, 2000),
                (1000, 1000, 2000),
            )
        },
    ),
    "insertion within a chromosome": (
        Event("insertion", (at("5", 9000), at("5", 5000), at("5", 6000))),
        {
            "5": (
                [("5", 0, 5000), ("5", 6000, 9000), ("5", 5000, 6000), ("5", 9000, FIVE)],
                (8000, 9000),
                (8000, 8000, 9000),
            )
        },
    ),
    # 13 has its centromere at 1198 of 6510, 21 at 1274 of 3200; the shorter long arm is on top.
    "robertsonian": (
        Event("robertsonian", (Breakpoint.of_arm("13", "q"), Breakpoint.of_arm("21", "q"))),
        {"13": ([("21", 3200, 1274), ("13", 1198, 6510)], (0, 1926), (1926, 1926))},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name):
    event, expected = CASES[name]
    found = derived(event)
    assert set(found) == set(expected)
    for chromosome, (segments, span, points) in expected.items():
        derivative = found[chromosome]
        assert pieces(derivative.homolog) == segments
        assert (derivative.start, derivative.stop) == span
        assert derivative.points == points
        assert derivative.circular == (event.kind == "ring")


def test_variants_of_length_move_the_breakpoints_along():
    longer = stretch(reference("5"), 2592.0, 3592.0, 1.5)
    found = derive(Event("deletion", (at("5", 5000), at("5", 8000))), {"5": longer})["5"]
    assert found.start == pytest.approx(5500)
    assert found.homolog.length_iscn == pytest.approx(longer.length_iscn - 3000)


def test_a_ring_opens_anywhere_and_its_breakpoints_follow():
    ring = derived(Event("ring", (at("5", 600), at("5", 10600 - 1000))))["5"]
    opened = ring.opened(0.25)
    assert pieces(opened.homolog) == [("5", 2850, 9600), ("5", 600, 2850)]
    assert opened.start == opened.stop == 6750
    assert opened.points == (6750, 6750)


def mb(chromosome, iscn):
    return band_table(FINEST_LEVEL)[chromosome].to_bp(iscn) / 1e6


LENGTH_MB = {name: band_table(FINEST_LEVEL)[name].length_bp / 1e6 for name in ("2", "5", "21")}
SIZES = {
    "terminal deletion, p": mb("5", 900),
    "terminal deletion, q": LENGTH_MB["5"] - mb("5", 9000),
    "interstitial deletion": mb("5", 8000) - mb("5", 5000),
    "direct duplication, p": mb("5", 2000) - mb("5", 1200),
    "pericentric inversion": mb("5", 3000) - mb("5", 2000),
    "balanced insertion, q into q": mb("2", 9000) - mb("2", 8000),
    "translocation, p and q": min(mb("2", 1000), LENGTH_MB["5"] - mb("5", 8000)),
    "addition": LENGTH_MB["2"] - mb("2", 10000),
    "ring": mb("5", 500) + LENGTH_MB["5"] - mb("5", 10000),
    "isochromosome, p": mb("5", 2592),
    "isochromosome, q": LENGTH_MB["5"] - mb("5", 2592),
    "robertsonian": LENGTH_MB["21"] - mb("21", 1274),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name):
    assert CASES[name][0].size_mb == pytest.approx(SIZES[name])


def test_order_of_breakpoints():
    """Short arm first; within an arm the one nearer the centromere first."""
    for first, last in ((1000, 8000), (2000, 1000), (5000, 8000)):
        expected = at("5", first), at("5", last)
        assert in_order(*expected) == in_order(*expected[::-1]) == expected


def mid(chromosome: str, band: str) -> Breakpoint:
    """The middle of one of the finest bands."""
    start, stop = band_table(FINEST_LEVEL)[chromosome].region(band)
    return Breakpoint(chromosome, (start + stop) / 2)


def event(kind, *places, **kwargs):
    return Event(kind, tuple(mid(*place) for place in places), **kwargs)


def whole_arms(kind, *arms):
    return Event(kind, tuple(Breakpoint.of_arm(arm[:-1], arm[-1]) for arm in arms))


INSERTED = (("5", "p14.2"), ("2", "q22.2"), ("2", "q32.2"))
NAMES = [
    (event("deletion", ("5", "q13.1"), ("5", "q33.1")), 700, "del(5)(q13.1q33.1)"),
    (event("deletion", ("5", "q13.1"), ("5", "q33.1")), 400, "del(5)(q13q33)"),
    (event("deletion", ("5", "q13.1"), ("5", "q33.1")), 300, "del(5)(q13q31~q33)"),
    (event("deletion", ("5", "p15.2")), 550, "del(5)(p15.2)"),
    (event("deletion", ("5", "p15.2")), 300, "del(5)(p15)"),
    (event("duplication", ("7", "p14.1"), ("7", "p15.3")), 400, "dup(7)(p14p15)"),
    (event("duplication", ("1", "q22"), ("1", "q25.2")), 400, "dup(1)(q22q25)"),
    (event("duplication", ("1", "q22"), ("1", "q25.2"), inverted=True), 400, "dup(1)(q25q22)"),
    (event("inversion", ("3", "q21.2"), ("3", "q26.2")), 700, "inv(3)(q21.2q26.2)"),
    (event("inversion", ("16", "p13.12"), ("16", "q22.1")), 400, "inv(16)(p13.1q22)"),
    (event("translocation", ("22", "q11.22"), ("9", "q34.12")), 700, "t(9;22)(q34.1;q11.2)"),
    (event("translocation", ("3", "p21.1"), ("X", "q13.1")), 400, "t(X;3)(q13;p21)"),
    (event("addition", ("4", "p15.2"), ("7", "q31.2")), 700, "der(4)t(4;7)(p15.2;q31.2)"),
    (event("addition", ("7", "q31.2"), ("4", "p15.2")), 700, "der(7)t(4;7)(p15.2;q31.2)"),
    (event("insertion", *INSERTED), 400, "ins(5;2)(p14;q22q32)"),
    (event("insertion", *INSERTED, inverted=True), 400, "ins(5;2)(p14;q32q22)"),
    (event("insertion", *INSERTED, balanced=False), 400, "der(5)ins(5;2)(p14;q22q32)"),
    (
        event("insertion", ("2", "p13.2"), ("2", "q21.2"), ("2", "q31.2"), inverted=True),
        400,
        "ins(2)(p13q31q21)",
    ),
    (event("ring", ("20", "p13"), ("20", "q13.33")), 700, "r(20)(p13q13.3)"),
    (whole_arms("robertsonian", "13q", "14q"), 550, "rob(13;14)(q10;q10)"),
    (whole_arms("isochromosome", "Xq"), 400, "i(X)(q10)"),
    (whole_arms("isochromosome", "18p"), 400, "i(18)(p10)"),
]


@pytest.mark.parametrize(("found", "level", "expected"), NAMES)
def test_names(found, level, expected):
    assert found.iscn(level) == expected
