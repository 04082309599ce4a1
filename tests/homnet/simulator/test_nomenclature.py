"""Names against those that ISCN gives."""

import pytest

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.simulator.breakpoints import Breakpoint, bands_within
from homnet.simulator.events import Event
from homnet.simulator.nomenclature import band_name, iscn


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
    (event("deletion", ("5", "q13.1"), ("5", "q33.1")), 300, "del(5)(q13q31~33)"),
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
    assert iscn(found, level) == expected


def test_every_band_is_named_alike_at_the_finest_level():
    for name, bands in band_table(FINEST_LEVEL).items():
        for band in bands.bands:
            assert band_name(mid(name, band.label), FINEST_LEVEL) == band.label


def test_a_coarser_name_is_the_beginning_of_the_finer_one():
    for name, bands in band_table(FINEST_LEVEL).items():
        for band in bands.bands:
            coarse = band_name(mid(name, band.label), 400)
            assert band.label.startswith(coarse)


def test_bands_within_a_band():
    assert [band.label for band in bands_within("9", "q34.1")] == ["q34.11", "q34.12", "q34.13"]
    assert [band.label for band in bands_within("5", "p15")][0::4] == ["p15.33", "p15.1"]
    assert [band.label for band in bands_within("10", "q21")] == ["q21.1", "q21.2", "q21.3"]
    with pytest.raises(KeyError, match="chromosome 9 has no band q99"):
        bands_within("9", "q99")
