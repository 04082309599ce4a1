"""Zips of karyograms: whose cell each picture shows, corrections, and nothing else gets in."""

import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from homnet_serve.config import Limits
from homnet_serve.errors import RequestError
from homnet_serve.karyogram_zips import Pictures, cells_of_body, open_pictures

Maker = Callable[..., bytes]
SMALL = Limits(max_pictures=3, max_picture_bytes=2000, max_expanded_bytes=100_000)
CORRECTION = {"picture": "p_c.png", "number": 3, "chromosome": "7"}


@pytest.fixture
def opened(zip_of: Maker) -> Callable[..., Pictures]:
    """The opener of zips with a picture, or with other files."""

    def make(files: dict[str, bytes] | None = None, **beside: bytes) -> Pictures:
        named = {name.replace("_", "."): content for name, content in beside.items()}
        return open_pictures(zip_of({**(files or {"p_c.png": b""}), **named}), SMALL)

    return make


def cells(pictures: Pictures, **given: Any) -> list[tuple[str, ...]]:
    options = {"hospital": "h1", "patient_id": "", "band_level": 550, **given}
    found = cells_of_body(pictures, **options)
    names = ("path", "hospital", "patient_id", "cell_id", "band_level")
    return [tuple(cell[name] for name in names) for cell in found]


def test_names_say_whose_cell_it_is(opened: Callable[..., Pictures]) -> None:
    pictures = opened({"lab/p2_c-2.PNG": b"", "p1_c1.tif": b"", "lab/.p_c.png": b"", "a.txt": b""})
    assert pictures.names == ("lab/p2_c-2.PNG", "p1_c1.tif")
    assert cells(pictures) == [
        ("p1_c1.tif", "h1", "p1", "c1", "550"),
        ("lab/p2_c-2.PNG", "h1", "p2", "c-2", "550"),
    ]
    # With a patient, names say the cell only.
    assert [cell[2:4] for cell in cells(pictures, patient_id="U\u0308")] == [
        ("\xdc", "p1_c1"),
        ("\xdc", "p2_c-2"),
    ]


def test_a_list_goes_before_names_and_parameters(opened: Callable[..., Pictures]) -> None:
    listed = "path, patient_id,cell_id,hospital,band_level\n.\\p_c.png,q,k,h2,400\n"
    pictures = opened(cells_csv=b"\xef\xbb\xbf" + listed.encode())
    assert cells(pictures, patient_id="other") == [("p_c.png", "h2", "q", "k", "400")]


@pytest.mark.parametrize(
    ("files", "given", "said"),
    [
        ({"scan.png": b""}, {}, "the name of 'scan.png' is not {patient_id}_{cell_id}"),
        ({"l_1_c.png": b"", "l_2_c.png": b""}, {}, "whether the patient is 'l' or 'l_1'; name all"),
        ({"a/p_c.png": b"", "b/p_c.png": b""}, {}, "whose cell 'a/p_c.png' shows"),
        (
            {"c.png": b"", "c.tif": b""},
            {"patient_id": "p"},
            "are karyograms of one cell, 'c' of patient",
        ),
        ({"p_c.png": b""}, {"hospital": ""}, "no hospital is given"),
        ({"p_c.png": b""}, {"patient_id": "p" * 129}, "'patient_id' has 129 characters"),
    ],
)
def test_pictures_without_a_cell_are_named(
    opened: Callable[..., Pictures], files: dict[str, bytes], given: dict[str, str], said: str
) -> None:
    with pytest.raises(RequestError, match=said) as error:
        cells(opened(files), **given)
    assert error.value.status == 422


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (
            "path,patient_id,cell_id\nno.png,p,c\n",
            "row 2: 'path' is 'no.png'; there is no such picture in the body",
        ),
        (
            "path,patient_id,cell_id\n../p_c.png,p,c\n",
            "row 2: 'path' is '../p_c.png'; there is no such picture",
        ),
        ("path,patient_id,cell_id\np_c.png,,c\n", "row 2: 'patient_id' is ''; give a value"),
        (
            "path,patient_id,cell_id\np_c.png,p,c\np_c.png,p,d\n",
            "row 3: 'path' is 'p_c.png'; an earlier row",
        ),
        ("path,patient_id,cell_id,band_level\np_c.png,p,c,500\n", "'band_level' is '500'"),
        ("path;patient_id;cell_id\np_c.png;p;c\n", "separated by semicolons"),
        ("path,patient_id\np_c.png,p\n", "column 'cell_id' is missing"),
        ("path,patient_id,cell_id\n" + "p_c.png,p,c\n" * 9, "more than 3 rows"),
        ("path,patient_id,cell_id\nq_d.png,p,c\n", "whose cell 'p_c.png' shows; list it"),
    ],
)
def test_wrong_lists_of_cells_are_named(
    opened: Callable[..., Pictures], listed: str, said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        cells(opened({"p_c.png": b"", "q_d.png": b""}, cells_csv=listed.encode()))


def test_what_stands_beside_the_pictures_is_read(opened: Callable[..., Pictures]) -> None:
    two = [CORRECTION, {**CORRECTION, "picture": "./p_c.png", "number": 4, "chromosome": ""}]
    pictures = opened(layout_csv=b"1,2,3,,4,5\n", corrections_json=json.dumps(two).encode())
    assert pictures.layout is not None
    assert pictures.layout.rows == (("1", "2", "3", "4", "5"),)
    assert pictures.num_corrections == 2
    assert [one.chromosome for one in pictures.corrections["p_c.png"].values()] == ["7", ""]


@pytest.mark.parametrize(
    ("files", "status", "said"),
    [
        ({"a.txt": b""}, 422, "there is no picture in it"),
        ({f"p_{n}.png": b"" for n in range(4)}, 413, "4 pictures, at most 3"),
        ({f"{n}.txt": b"" for n in range(10)}, 413, "more than 9 files"),
        ({"p_c.png": bytes(2001)}, 413, "more than 2000 bytes"),
        ({"p_c.png": b"", "big.txt": bytes(10**6)}, 413, "expands to more"),
        ({"p_c.png": b"", "lab/cells.csv": b""}, 422, "send cells.csv outside any folder"),
        (
            {"p_c.png": b"", "Corrections.json": b""},
            422,
            "send corrections.json outside any folder",
        ),
        ({"p_c.png": b"", "layout.csv": b"1,1"}, 422, "layout.csv: line 1: type 1 is in"),
        ({"p_c.png": b"", "layout.csv": b"\xff"}, 422, "cannot be read as text"),
    ],
)
def test_other_zips_are_refused(
    zip_of: Maker, files: dict[str, bytes], status: int, said: str
) -> None:
    with pytest.raises(RequestError, match=said) as error:
        open_pictures(zip_of(files), SMALL)
    assert error.value.status == status


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not readable JSON"),
        ("\x00", "not readable JSON"),
        ("[" * 100_000, "recursion"),
        ('{"a": 1}', "valid list"),
        ("[1]", "should be an object"),
        ([{**CORRECTION, "number": "x"}], r"'\[0\].number'"),
        ([{**CORRECTION, "number": True}], r"'\[0\].number'"),
        ('[{"picture": "p_c.png", "number": 3, "number": 4, "chromosome": "7"}]', "stands twice"),
        ([{**CORRECTION, "number": 10**30}], "number"),
        ([{**CORRECTION, "chromosome": "23"}], "chromosome"),
        ([{**CORRECTION, "chromosme": "1"}], "chromosme"),
        ([{**CORRECTION, "picture": "/etc/passwd"}], r"\[0\]: there is no picture '/etc/passwd'"),
        ([CORRECTION, {**CORRECTION, "chromosome": "8"}], r"\[1\]: number 3 .* is corrected twice"),
        ([CORRECTION, CORRECTION], r"\[1\]: number 3 .* is corrected twice"),
    ],
)
def test_wrong_corrections_are_named(
    opened: Callable[..., Pictures], text: object, said: str
) -> None:
    content = text if isinstance(text, str) else json.dumps(text)
    with pytest.raises(RequestError, match=said) as error:
        opened(corrections_json=content.encode())
    assert error.value.status == 422
    assert str(error.value).startswith("corrections.json: ")
    assert len(str(error.value)) < 300


def test_packed_otherwise(zip_of: Maker) -> None:
    with pytest.raises(RequestError, match="use deflate"):
        open_pictures(zip_of({"p_c.png": b""}, zipfile.ZIP_BZIP2), SMALL)
