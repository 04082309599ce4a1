"""Draft names of findings: as much as was read, and nothing that had to be guessed."""

import pytest

from homnet.errors import DataError
from homnet.karyotype.bands import band_table
from homnet.karyotype.kinds import SHOWN
from homnet.patients.finding import BreakpointEstimate, Finding
from homnet.patients.naming import Draft, draft_name, rob_name


def _finding(
    kind: str,
    chromosome: str = "5",
    start: float | None = None,
    stop: float | None = None,
    width: float = 0.1,
) -> Finding:
    def place(mb: float | None) -> BreakpointEstimate | None:
        if mb is None:
            return None
        return BreakpointEstimate.at(chromosome, mb, mb - width, mb + width, 400)

    kinds = {name: float(name == kind) for name in SHOWN}
    return Finding("h", "p", chromosome, 0.9, (), kinds, place(start), place(stop))


@pytest.mark.parametrize(
    ("finding", "name"),
    [
        (_finding("deletion", stop=20.0), "del(5)(p14)"),
        (_finding("deletion", start=80.0, stop=120.0), "del(5)(q14q23)"),
        (_finding("inversion", start=20.0, stop=120.0), "inv(5)(p14q23)"),
        (_finding("ring", start=5.0, stop=170.0), "r(5)(p15.3q35)"),
        (_finding("isochromosome", "17", stop=23.0), "i(17)(q10)"),
        (_finding("insertion_translocation", "9", start=132.0), "add(9)(q34)"),
    ],
)
def test_names_say_kind_and_bands(finding: Finding, name: str) -> None:
    assert str(draft_name(finding)) == f"{name} draft, to be confirmed"


def test_a_partner_makes_a_translocation() -> None:
    nine = _finding("insertion_translocation", "9", start=132.0)
    twenty_two = _finding("deletion", "22", start=23.0)
    assert str(draft_name(nine, twenty_two)).startswith("t(9;22)(q34;q11.2)")
    assert str(rob_name("14", "13")).startswith("rob(13;14)(q10;q10)")
    assert rob_name("13", "1") is None
    assert rob_name("13", "13") is None


def test_what_would_be_a_guess_has_no_name() -> None:
    assert draft_name(Finding("h", "p", "5", 0.9)) is None
    # Breakpoints that do not fit the kind: both in one arm, or one only.
    assert draft_name(_finding("ring", start=80.0, stop=120.0)) is None
    assert draft_name(_finding("inversion", start=80.0)) is None
    assert draft_name(_finding("robertsonian", "13", stop=17.0)) is None
    with pytest.raises(DataError):
        Draft.checked("del(5)(p99)", 400)


def test_an_uncertain_breakpoint_is_a_range_or_has_a_question_mark() -> None:
    edge_mb = next(b.bp_stop for b in band_table(400)["5"].bands if b.label == "p14") / 1e6
    assert str(draft_name(_finding("deletion", stop=edge_mb, width=2.0))).startswith(
        "del(5)(p13~14)"
    )
    assert str(draft_name(_finding("deletion", stop=edge_mb, width=15.0))).startswith(
        "del(5)(?p13)"
    )
