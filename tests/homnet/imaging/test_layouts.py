"""Layouts of karyograms: those that are known, and tables of users."""

from pathlib import Path

import pytest

from homnet.errors import DataError
from homnet.imaging.layouts import LAYOUTS, read_layout
from homnet.karyotype.chromosomes import CHROMOSOMES


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_known_layouts_hold_every_type_once(layout):
    names = [name for row in layout.rows for name in row]
    assert sorted(names) == sorted(CHROMOSOMES)


@pytest.mark.parametrize(
    "content", [b"1,2,,3\n\nx, Y\n", b"\xef\xbb\xbf1;2;3\r\nX;Y", b"1,2,3\rX,Y"]
)
def test_a_table_has_one_line_per_row(content):
    assert read_layout(Path("own.csv"), content).rows == (("1", "2", "3"), ("X", "Y"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"1,2\n23", "line 2: '23'"),
        (b"1,2\n3,1", "line 2: type 1 is in the table twice"),
        (b"\n,,\n", "no type"),
        (b"\xff\xfe1", "cannot be read as text"),
        (b"1" + 5000 * b"," + b"\n2", "more than 4096 bytes"),
        (None, "no such file"),
    ],
)
def test_tables_that_are_wrong_are_refused(content, says, tmp_path):
    with pytest.raises(DataError, match=says):
        read_layout(tmp_path / "own.csv", content)
