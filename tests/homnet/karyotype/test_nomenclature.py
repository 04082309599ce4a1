"""Names: what is built can be read, names of the literature too, and what cannot be is refused."""

import re

import numpy as np
import pytest

from homnet.errors import DataError
from homnet.karyotype.nomenclature import band_name, parse
from homnet.simulator.laboratory import hospitals
from homnet.simulator.population import draw_event


@pytest.mark.parametrize("level", [300, 400, 550, 700])
def test_every_name_of_the_simulator_can_be_read(level: int) -> None:
    rng = np.random.default_rng(level)
    paired = [*(str(n) for n in range(1, 23)), "X"]
    prefixes = set()
    for number in range(300):
        event = draw_event(rng, hospitals()[number % 4], paired)
        name = parse(event.iscn(level), level)
        prefixes.add(name.prefix)
        assert set(name.types) == set(event.chromosomes)
    assert prefixes >= {"t", "inv", "del", "dup", "rob"}


CLASSIC = """
    add(9)(q34) add(14)(p11) add(19)(p13.3) add(X)(p22.3)
    del(1)(p36.3) del(4)(p16.3) del(5)(p14) del(5)(p15.2) del(5)(q13q33) del(5)(q13.1q33.3)
    del(7)(q11.23q11.23) del(9)(p22) del(11)(p13p14) del(11)(q23) del(13)(q14q14) del(15)(q11q13)
    del(15)(q11.2q13) del(17)(p11.2p11.2) del(17)(p13.3) del(18)(p11.2) del(18)(q21.3)
    del(20)(q11.2q13.3) del(22)(q11.2q11.2) del(X)(p22.3) del(X)(q13q26) del(Y)(q11.2)
    del(1)(q21~24) del(1)(q21~q24)
    del(6)(?q13q21)
    der(9)t(9;22)(q34;q11.2) der(22)t(11;22)(q23;q11.2) der(5)ins(5;2)(p14;q22q32)
    der(1;7)(q10;p10) der(13;14)(q10;q10) der(14;21)(q10;q10) der(21;21)(q10;q10)
    dic(9;20)(p13;q11.2) dic(Y;15)(q12;p11)
    dup(1)(q22q25) dup(1)(q25q22) dup(15)(q11q13) dup(17)(p11.2p11.2) dup(22)(q11.2q11.2)
    dup(X)(q22q22) fra(X)(q27.3)
    i(12)(p10) i(17)(q10) i(18)(p10) i(21)(q10) i(X)(q10)
    idic(15)(q11) idic(15)(q13) idic(X)(p11.2) idic(Y)(q11.2)
    ins(2)(p13q21q31) ins(2)(p13q31q21) ins(5;2)(p14;q22q32) ins(5;2)(p14;q32q22)
    inv(2)(p11.2q13) inv(2)(p21p23) inv(3)(q21q26) inv(3)(q21q26.2) inv(8)(p23q22) inv(9)(p11q13)
    inv(9)(p12q13) inv(10)(p11.2q21.2) inv(14)(q11.2q32) inv(16)(p13.1q22) inv(X)(p22q26)
    inv(Y)(p11.2q11.2)
    r(4)(p16q35) r(13)(p11q34) r(18)(p11.3q23) r(20)(p13q13.3) r(22)(p12q13.3) r(X)(p22.3q28)
    rob(13;14)(q10;q10) rob(14;21)(q10;q10) rob(13;13)(q10;q10)
    t(1;3)(p10;q10) t(1;19)(q23;p13.3) t(2;5)(p23;q35) t(2;8)(p12;q24) t(2;13)(q36;q14)
    t(4;11)(q21;q23) t(4;14)(p16;q32) t(6;9)(p23;q34) t(8;14)(q24;q32) t(8;21)(q22;q22)
    t(9;11)(p22;q23) t(9;22)(q34;q11) t(9;22)(q34;q11.2) t(11;14)(q13;q32) t(11;22)(q23;q11.2)
    t(11;22)(q24;q12) t(12;21)(p13;q22) t(14;18)(q32;q21) t(15;17)(q22;q21) t(15;17)(q24;q21)
    t(X;18)(p11.2;q11.2) t(X;Y)(p22.3;q11.2) t(2;7;5)(p21;q22;q23) t(9;22;10)(q34;q11.2;q22)
    t(3;3)(q21;q26.2) trp(1)(q21q32)
"""


@pytest.mark.parametrize("text", CLASSIC.split())
def test_names_of_the_literature_can_be_read(text: str) -> None:
    name = parse(text)
    assert name.prefix in text
    assert f"({';'.join(name.types)})" in text
    groups = ";".join("".join(map(str, own)) for own in name.places)
    assert f"({groups})" in re.sub(r"([pq])([\d.]+)~(?=\d)", r"\1\2~\1", text)


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ("no name of the form", "del(5)p14 t(9;22) del5(p14) (5)(p14) del()()"),
        ("'bad' is none", "bad(5)(p14)"),
        (
            "no chromosome",
            "del(23)(p14) del(0)(p14) del(x)(p22) t(9;W)(q34;q11) der(24)t(9;22)(q34;q11)",
        ),
        (
            "no band",
            "del(5)(p19) del(5)(p16) inv(9)(p12q37) t(9;22)(q34;q14) del(21)(p14) del(Y)(q13)",
        ),
        ("no band", "del(5)(p1) del(5)(p14.7) del(13)(q14~59)"),
        ("chromosomes but", "del(5)(p14;q13) t(9;22)(q34q11) rob(13;14)(q10)"),
        (
            "does not read as bands",
            "del(5)(p14x) del(5)(r14) del(5)(14) del(5)(P14) del(5)(p13~q14)",
        ),
        ("inner breakpoint", "del(5)(q33q13) del(5)(p15p13) inv(3)(q26.2q21) del(5)(?q33q13)"),
        ("inner breakpoint", "del(5)(q31~33q13) inv(16)(q22q12.1)"),
        ("short arm", "inv(3)(q21p13) del(5)(q13p14) r(20)(q13.3p13) dup(5)(q13p14)"),
        ("both arms", "r(13)(q12q33) r(5)(p13p15)"),
        (
            "by number",
            "t(12;5)(p13;q31) rob(14;13)(q10;q10) der(14;13)(q10;q10) t(9;22;5)(q34;q11;q31)",
        ),
        ("sex chromosomes", "t(1;X)(p13;q24) t(Y;X)(q11.2;p22.3)"),
        ("named twice", "t(5;5)(q31;q31) ins(5;5)(p13;q31q33)"),
        (
            "numbers of breakpoints",
            "inv(5)(q31) dup(5)(q31) r(5)(p15) del(5)(p14q13q31) i(17)(p10q10)",
        ),
        (
            "numbers of breakpoints",
            "t(9)(q34) add(9)(q13q34) rob(13)(q10) ins(5;2)(q22q32;p14) idic(15)(q11q13)",
        ),
        ("acrocentric", "rob(5;14)(q10;q10) rob(Y;15)(q10;q10)"),
        (
            "breaks at the centromere",
            "i(18)(p11) i(5)(q34) rob(13;14)(q11;q11) der(13;14)(q11;q10)",
        ),
        ("not at the centromere", "inv(5)(p10q13) dup(5)(q10q13) r(5)(p10q35) idic(15)(q10)"),
        ("two long arms", "rob(13;14)(p10;q10) rob(13;14)(q10;p10)"),
        (
            "lead away",
            "del(5)(q21~13) del(5)(q21~21) del(5)(q13~13.1) del(5)(q21~q13) t(9;22)(q34;q12~11)",
        ),
        ("der is of", "der(7)t(5;12)(q31;p13) der(5)del(5)(p14)"),
    ],
)
def test_what_cannot_be_is_refused(message: str, names: str) -> None:
    for name in names.split():
        with pytest.raises(DataError, match=message):
            parse(name)


def test_a_band_must_be_in_the_table_of_the_level() -> None:
    assert parse("del(5)(q13.1q33.3)", 550).places[0][1].first == "33.3"
    with pytest.raises(DataError, match="level 400"):
        parse("del(5)(q13.1q33.3)", 400)


def test_melted_bands_have_the_name_of_what_they_share() -> None:
    assert band_name("5", 5.0, 300) == "p15"
