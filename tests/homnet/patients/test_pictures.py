"""What a verdict says of pictures that were refused, and a report of those that were read."""

from collections.abc import Callable

import pytest

from homnet.patients.pictures import SentPicture, corrected, image_name, left_out, with_pictures
from homnet.patients.verdict import PatientVerdict
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig


@pytest.fixture(scope="module")
def verdict(judge: Callable[..., list[PatientVerdict]]) -> PatientVerdict:
    """On a person with three cells."""
    table = simulate_person(3, HospitalConfig("h1"), 0, 3.0)
    return judge(table)[0]


@pytest.mark.parametrize(
    ("number", "note"),
    [
        (1, "A picture was refused, and not looked at: 0.png (blank)."),
        (2, "2 pictures were refused, and not looked at: 0.png (blank), 1.png (blank)."),
        (5, "5 pictures were refused, and not looked at: 0.png (blank), 1.png (blank), 2.png "
            "(blank), 2 more."),
    ],
)  # fmt: skip
def test_refused_pictures_are_noted(verdict: PatientVerdict, number: int, note: str) -> None:
    refused = [SentPicture(f"{n}.png", f"c{n}", "blank") for n in range(number)]
    read = SentPicture("read.png", "c9", remarks=("number 3: odd",))
    found = with_pictures(verdict, [read, *refused])
    assert found.notes == (*verdict.notes, note)


def test_without_refused_pictures_the_verdict_stays(verdict: PatientVerdict) -> None:
    assert with_pictures(verdict, [SentPicture("a.png", "c1")]) is verdict


def test_remarks() -> None:
    assert left_out(7, "8", "it crosses") == "number 7 (chromosome 8) is left out: it crosses"
    assert left_out(7, "", "two types fit") == "number 7 is left out: two types fit"
    assert corrected(2, "", "9") == "number 2: a person changed left out to chromosome 9"
    assert corrected(2, "9", "") == "number 2: a person changed chromosome 9 to left out"
    assert image_name(12, "X") == "row 12, chromosome X"
