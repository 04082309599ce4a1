"""What a verdict says of pictures that were refused, and a report of those that were read."""

from collections.abc import Callable

import pytest

from homnet.imaging.pairing import SURPLUS
from homnet.patients.pictures import (
    SentPicture,
    corrected,
    left_out,
    sent_image,
    with_pictures,
    without_names,
)
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
        (1, "A picture could not be used: 0.png (blank)."),
        (2, "2 pictures could not be used: 0.png (blank); 1.png (blank)."),
        (5, "5 pictures could not be used: 0.png (blank); 1.png (blank); 2.png (blank); 2 more."),
    ],
)
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
    assert corrected(2, "", "9") == "number 2 was left out; a person named it chromosome 9"
    assert corrected(2, "9", "") == "number 2 was read as chromosome 9; a person left it out"


def test_a_third_copy_is_no_fault_of_its_image() -> None:
    assert sent_image(9, "21", "c1", SURPLUS, "").remarks == (SURPLUS,)
    assert sent_image(9, "21", "c1", "blank", "").refused == "blank"


def test_the_picture_of_another_patient_is_not_named() -> None:
    note = "p 1; a.png has the same pixels as q.png; its cell is stated to have 300 bands"
    assert without_names(note) == (
        "it has the same pixels as another picture; its cell is stated to have 300 bands"
    )
    assert without_names("a has the same pixels as b") == (
        "it has the same pixels as another picture"
    )
    assert without_names("its cell is odd") == "its cell is odd"
