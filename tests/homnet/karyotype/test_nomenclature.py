"""Names: what is built can be read, and what cannot be is refused."""

import numpy as np
import pytest

from homnet.errors import DataError
from homnet.karyotype.kinds import SHOWN
from homnet.karyotype.nomenclature import band_name, parse
from homnet.patients.finding import BreakpointEstimate, Finding
from homnet.patients.naming import DRAFT, draft_name, rob_name
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


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("del(5)p14", "no name of the form"),
        ("bad(5)(p14)", "'bad' is none"),
        ("del(23)(p14)", "no chromosome 23"),
        ("del(5)(p19)", "no band p19"),
        ("del(5)(p14;q13)", "1 chromosomes but 2"),
        ("del(5)(p14x)", "does not read as bands"),
        ("del(5)(q33q13)", "inner breakpoint"),
        ("inv(3)(q21p13)", "short arm"),
        ("r(13)(q12q33)", "both arms"),
        ("t(12;5)(p13;q31)", "by number"),
        ("t(1;X)(p13;q24)", "sex chromosomes"),
        ("t(5;5)(p13;q31)", "named twice"),
        ("inv(5)(q31)", "numbers of breakpoints"),
        ("rob(5;14)(q10;q10)", "acrocentric"),
        ("i(18)(p11)", "centromere"),
        ("der(7)t(5;12)(q31;p13)", "der is of"),
    ],
)
def test_what_cannot_be_is_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(name)


def test_a_band_must_be_in_the_table_of_the_level() -> None:
    assert parse("del(5)(q13.1q33.3)", 550).places[0][1].first == "33.3"
    with pytest.raises(DataError, match="level 400"):
        parse("del(5)(q13.1q33.3)", 400)


def _finding(kind: str, chromosome: str = "5", **places: BreakpointEstimate) -> Finding:
    share = 0.1 / (len(SHOWN) - 1)
    kinds = {one: 0.9 if one == kind else share for one in SHOWN}
    return Finding("east", "p1", chromosome, 0.9, kinds=kinds, **places)


def _at(mb: float, chromosome: str = "5", spread: float = 0.1) -> BreakpointEstimate:
    return BreakpointEstimate.at(chromosome, mb, mb - spread, mb + spread, 400)


def _name(finding: Finding, partner: Finding | None = None) -> str:
    draft = draft_name(finding, partner)
    assert draft is not None
    assert str(draft) == f"{draft.name} {DRAFT}"
    return draft.name


def test_drafts_of_every_kind() -> None:
    assert _name(_finding("deletion", stop=_at(22))) == "del(5)(p14)"
    assert _name(_finding("deletion", start=_at(165))) == "del(5)(q34)"
    assert _name(_finding("deletion", start=_at(74), stop=_at(158))) == "del(5)(q13q33)"
    # Within the short arm the inner breakpoint comes first.
    assert _name(_finding("deletion", start=_at(22), stop=_at(40))) == "del(5)(p13p14)"
    assert _name(_finding("inversion", start=_at(22), stop=_at(74))) == "inv(5)(p14q13)"
    assert _name(_finding("ring", start=_at(3), stop=_at(176))) == "r(5)(p15.3q35)"
    assert _name(_finding("isochromosome", "18", start=_at(17.2, "18"))) == "i(18)(p10)"
    assert _name(_finding("isochromosome", "X", stop=_at(61, "X"))) == "i(X)(q10)"


def test_foreign_material_is_add_until_its_partner_is_known() -> None:
    one = _finding("insertion_translocation", "9", start=_at(132, "9"))
    other = _finding("insertion_translocation", "22", start=_at(23, "22"))
    assert _name(one) == "add(9)(q34)"
    assert _name(one, other) == _name(other, one) == "t(9;22)(q34;q11.2)"


def test_a_robertsonian_translocation_needs_two_acrocentrics() -> None:
    finding = _finding("robertsonian", "14")
    assert draft_name(finding) is None
    assert _name(finding, _finding("robertsonian", "13")) == "rob(13;14)(q10;q10)"
    assert rob_name("13", "5") is None


def test_uncertain_breakpoints_become_ranges_and_then_question_marks() -> None:
    assert _name(_finding("deletion", stop=_at(22, spread=6))) == "del(5)(p14~15.1)"
    assert _name(_finding("deletion", stop=_at(22, spread=21))) == "del(5)(?p14)"


def test_nothing_is_named_that_was_not_read() -> None:
    assert draft_name(Finding("east", "p1", "5", 0.9)) is None
    assert draft_name(_finding("deletion")) is None
    assert draft_name(_finding("inversion", start=_at(22))) is None
    assert draft_name(_finding("ring", start=_at(74), stop=_at(158))) is None


def test_melted_bands_have_the_name_of_what_they_share() -> None:
    assert band_name("5", 5.0, 300) == "p15"
