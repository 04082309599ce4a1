"""Pictures are assigned to cells by their names or by a list; what cannot be is named."""

from pathlib import Path

import pytest

from homnet.errors import ManifestError, ManifestTooLargeError
from homnet.imaging.cells import BY_NAME, cells_of_list, cells_of_names, is_picture

HEADER = "path,patient_id,cell_id,hospital,band_level\n"


def listed(text, pictures=("a.png", "lab/b.tif"), **options):
    return cells_of_list(
        Path("cells.csv"), pictures, where="the folder", content=text.encode(), **options
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/B.PNG", True),
        ("a.tif", True),
        ("a.jfif", True),
        ("a/.b.png", False),
        (".a/b.png", True),
        ("png", False),
    ],
)
def test_pictures_are_known_by_their_names(path, expected):
    assert is_picture(path) == expected


def test_names_hold_patient_and_cell():
    found = cells_of_names(["q_1.png", "p_2-b.png"], BY_NAME, where="here", hint="do")
    assert [tuple(cell.values()) for cell in found] == [
        ("p_2-b.png", "p", "2-b", "", ""),
        ("q_1.png", "q", "1", "", ""),
    ]
    spaced = cells_of_names(["q _ 3.png", "q_4\ufeff.png"], BY_NAME, where="here", hint="do")
    assert [(cell["patient_id"], cell["cell_id"]) for cell in spaced] == [("q", "3"), ("q", "4")]
    one = cells_of_names(["x.y.png"], "{cell_id}", where="here", hint="do", patient_id="p")
    assert (one[0]["patient_id"], one[0]["cell_id"]) == ("p", "x.y")


@pytest.mark.parametrize("names", [["a.png"], ["lab/p_c.png"], ["p_c.png", "p_c.tif"]])
def test_names_that_say_no_cell_or_one_twice(names):
    with pytest.raises(
        ManifestError, match=r"is not \{patient_id\}_\{cell_id\}; do|karyograms of one cell"
    ):
        cells_of_names(names, BY_NAME, where="here", hint="do")


@pytest.mark.parametrize(
    ("path", "column"),
    [
        ("=1_c.png", "path"),
        ("@p_c.png", "path"),
        ("p_+1.png", "cell_id"),
        ("p_ =c.png", "cell_id"),
        ("lab/\r=p_c.png", "patient_id"),
    ],
)
def test_names_that_a_spreadsheet_takes_for_a_formula_are_refused(path, column):
    form = f"lab/{BY_NAME}" if path.startswith("lab") else BY_NAME
    with pytest.raises(ManifestError, match=f"here: .*'{column}' is .*takes it for a formula"):
        cells_of_names([path], form, where="here", hint="do")
    with pytest.raises(ManifestError, match="'patient_id' is '=1'; begin it otherwise"):
        cells_of_names(["c.png"], "{cell_id}", where="here", hint="do", patient_id="=1")
    with pytest.raises(ManifestError, match="row 2: 'patient_id' is '=1'; begin it otherwise"):
        listed(f"{HEADER}a.png,=1,c,,\n")


def test_a_name_with_two_meanings_is_refused():
    two_people = ["LAB_1_7.png", "LAB_2_7.png"]
    with pytest.raises(ManifestError, match="whether the patient is 'LAB' or 'LAB_1'; do"):
        cells_of_names(two_people, BY_NAME, where="here", hint="do")
    found = cells_of_names(two_people, "LAB_{patient_id}_{cell_id}", where="here", hint="do")
    assert [cell["patient_id"] for cell in found] == ["1", "2"]
    in_folders = cells_of_names(
        ["LAB_1/c_7.png"], "{patient_id}/c_{cell_id}", where="here", hint="do"
    )
    assert in_folders[0]["patient_id"] == "LAB_1"


def test_a_list_is_read_as_a_manifest_is():
    found = listed(f"\ufeff{HEADER}lab\\b.tif, q ,u\u0308,h,400\n\n./a.png,p,1,,\n")
    assert [tuple(cell.values()) for cell in found] == [
        ("a.png", "p", "1", "", ""),
        ("lab/b.tif", "q", "\xfc", "h", "400"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEADER}c.png,p,c,,\n", "row 2: 'path' is 'c.png'; there is no such picture in the fol"),
        (f"{HEADER}a.png,p,c,,\nlab/b.tif,p,c,,\n", "row 3: 'cell_id' is 'c'; an earlier row has"),
    ],
)
def test_lists_that_are_wrong(text, message):
    """More of them in the test of the job, which reads them from files."""
    with pytest.raises(ManifestError, match=message):
        listed(text)


def test_a_list_is_no_longer_than_allowed():
    with pytest.raises(ManifestTooLargeError, match="more than 1 rows"):
        listed(f"{HEADER}a.png,p,c,,\nlab/b.tif,p,d,,\n", max_rows=1)
