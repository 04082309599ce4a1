"""Numbers of an evaluation as text."""

import pytest

from homnet.report.tables import (
    ABSENT,
    cell,
    distinct,
    interval,
    number,
    percent,
    probable,
    scopes,
)


def test_estimates_are_printed_with_their_interval() -> None:
    assert cell({"value": 0.75, "low": 0.4281, "high": 0.945}) == "0.750 (0.43 to 0.94)"
    assert cell({"value": 0.75, "low": 0.4281, "high": 0.945}, 3) == "0.750 (0.428 to 0.945)"
    assert cell({"value": 0.75, "low": None, "high": None}) == "0.750"
    assert cell({"value": None, "low": None, "high": None}) == ABSENT
    assert cell(None) == ABSENT
    assert interval(None) == ""


def test_numbers_have_no_negative_zero() -> None:
    assert number(-0.0001) == "0.000"
    assert number(None) == ABSENT


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.0004, "0.04 %"),
        (0.03, "3 %"),
        (0.0312, "3.1 %"),
        (0.099, "9.9 %"),
        (0.5, "50 %"),
        (0.99, "99 %"),
        (0.995, "99.5 %"),
        (0.9999, "99.99 %"),
        (1.0, "100 %"),
    ],
)
def test_neither_rare_nor_almost_all_is_rounded_away(share: float, text: str) -> None:
    assert percent(share) == text


def test_no_probability_is_a_certainty() -> None:
    assert [probable(one) for one in (0.0, 0.00501, 0.9949, 0.995)] == [
        "below 0.01", "0.01", "0.99", "above 0.99",
    ]  # fmt: skip
    assert [probable(one, 3) for one in (0.0004, 0.9994, 0.9999)] == [
        "below 0.001", "0.999", "above 0.999",
    ]  # fmt: skip


def test_numbers_that_differ_are_told_apart() -> None:
    assert distinct(4.86, 4.94) == ("4.86", "4.94")
    assert distinct(4.8601, 4.8604) == ("4.8601", "4.8604")
    assert distinct(2.0, 4.94) == ("2.0", "4.9")
    assert distinct(-1.5, -1.5) == ("-1.5", "-1.5")


def test_all_hospitals_are_a_scope_where_there_are_several() -> None:
    one = {"hospitals": {"a": {}}, "overall": {}}
    assert [name for name, _ in scopes(one)] == ["a"]
    both = {"hospitals": {"a": {}, "b": {}}, "overall": {}}
    assert [name for name, _ in scopes(both)] == ["a", "b", "all hospitals"]
