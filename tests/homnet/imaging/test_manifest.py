import errno
import re
from pathlib import Path

import pandas as pd
import pytest

from homnet.errors import ManifestError, StoreError
from homnet.imaging.manifest import find_image, read_manifest

HEADER = "path,patient_id,cell_id,chromosome,homolog"
ROWS = ["a/1.png,p1,c1,1,0", "a/2.png,p1,c1,1,1", "a/3.png,p1,c2,X,0"]


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def read(path: Path):
    return read_manifest(path, hospital="here", band_level=400)


def test_defaults_fill_what_the_laboratory_leaves_out(tmp_path):
    frame = read(write(tmp_path, *ROWS))
    assert frame["row"].tolist() == [2, 3, 4]
    assert frame["homolog"].tolist() == [0, 1, 0]
    assert frame["hospital"].unique().tolist() == ["here"]
    assert frame["band_level"].unique().tolist() == [400]
    assert not frame["abnormal"].any()
    assert (frame["kind"] == "").all()


def test_optional_columns_are_read_and_others_ignored(tmp_path):
    header = f"{HEADER},kind,abnormal,hospital,band_level,remark"
    frame = read(
        write(
            tmp_path,
            "1.png, p1,c1,7,0,deletion,true,north,550,?",
            "2.png,p1,c1,7,1,,0,,550,",
            header=header,
        )
    ).sort_values("row")
    assert frame["abnormal"].tolist() == [True, False]
    assert frame["kind"].tolist() == ["deletion", ""]
    assert frame["hospital"].tolist() == ["north", "here"]
    assert frame["band_level"].tolist() == [550, 550]
    assert frame["patient_id"].tolist() == ["p1", "p1"]
    assert "remark" not in frame


def test_what_nobody_sees_around_a_value_is_no_part_of_it(tmp_path):
    rows = ['a.png, "p,1", c1, 1, 0', "b.png,\ufeffp2\u200b,c1,1,0"]
    assert sorted(read(write(tmp_path, *rows))["patient_id"]) == ["p,1", "p2"]


def test_a_band_level_stated_once_holds_for_the_cell_and_none_is_made_up(tmp_path):
    rows = [f"{ROWS[0]},", f"{ROWS[1]},700", f"{ROWS[2]},"]
    path = write(tmp_path, *rows, header=f"{HEADER},band_level")
    levels = read(path).set_index("cell_id")["band_level"]
    assert levels.to_dict() == {"c1": 700, "c2": 400}
    levels = read_manifest(path, hospital="here", band_level=None).set_index("cell_id")
    assert levels["band_level"].to_dict() == {"c1": 700, "c2": 0}


def test_blank_lines_change_no_row_number(tmp_path):
    frame = read(write(tmp_path, ROWS[0], "", ROWS[1], ",,,,", "", header=HEADER))
    assert frame["row"].tolist() == [2, 4]


def test_a_third_copy_is_read_and_no_error(tmp_path):
    frame = read(write(tmp_path, *ROWS, "a/4.png,p1,c1,1,2"))
    assert frame["homolog"].tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("rows", [["1.png,p1,c1,1,1", "2.png,p1,c1,1,2"], ["1.png,p1,c1,1,1"]])
def test_homologs_are_numbered_from_zero(tmp_path, rows):
    with pytest.raises(ManifestError, match="homologs are numbered from 0: the two of a pair"):
        read(write(tmp_path, *rows))


def test_rows_are_sorted_so_that_homologs_are_neighbours(tmp_path):
    frame = read(write(tmp_path, *reversed(ROWS)))
    assert frame["path"].tolist() == ["a/1.png", "a/2.png", "a/3.png"]
    assert frame["row"].tolist() == [4, 3, 2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a/4.png,p1,c1,23,0", "row 5: 'chromosome' is '23'"),
        ("a/4.png,p1,c1,x,0", "row 5: 'chromosome' is 'x'"),
        ("a/4.png,p1,c1,2,-1", "row 5: 'homolog' is '-1'"),
        (
            "a/4.png,p1,c1,2,left",
            "row 5: 'homolog' is 'left'; expected 0 or 1, or 2 to 9 for a further copy",
        ),
        ("a/4.png,p1,c1,2,10", "row 5: 'homolog' is '10'"),
        ("a/4.png,p1,c1,2,", "row 5: 'homolog' is ''"),
        ("a/4.png,,c1,2,0", "row 5: 'patient_id' is ''"),
        ("a/4.png,p1,,2,0", "row 5: 'cell_id' is ''"),
        (",p1,c1,2,0", "row 5: 'path' is ''"),
        ("/etc/4.png,p1,c1,2,0", "row 5: 'path' is '/etc/4.png'"),
        ("a/../../4.png,p1,c1,2,0", "row 5: 'path' is 'a/../../4.png'"),
        ("C:\\4.png,p1,c1,2,0", "row 5: 'path' is"),
        ("..\\4.png,p1,c1,2,0", "row 5: 'path' is"),
        ("a/4.png,p1,c1,1,1", "row 5: 'homolog' is '1'; an earlier row"),
        ("a/4.png,p1,c2,X,2", "row 5: 'homolog' is '2'; homologs are numbered from 0"),
        ("a/1.png,p2,c1,1,0", "row 5: 'path' is 'a/1.png'; an earlier row names the same file"),
        (".\\a\\1.png,p2,c1,1,0", "row 5: 'path' is 'a/1.png'; an earlier row names the same"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    path = write(tmp_path, *ROWS, row)
    with pytest.raises(ManifestError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["=1+1", "+1", "@SUM(A1)", "=HYPERLINK"])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_name_that_a_spreadsheet_takes_for_a_formula_is_refused(tmp_path, column, name):
    """The report beside the cohort holds it, and a laboratory opens the report."""
    values = ["a/4.png", "p1", "c9", "1", "0"]
    values[column] = name
    message = f"row 5: '{HEADER.split(',')[column]}' is '{name}'; begin it otherwise: a spreadsheet"
    with pytest.raises(ManifestError, match=re.escape(message)):
        read(write(tmp_path, *ROWS, ",".join(values)))


@pytest.mark.parametrize("path", ["./=1.png", ".\\.\\+1.png"])
def test_a_path_that_becomes_a_formula_is_refused(tmp_path, path):
    with pytest.raises(ManifestError, match="a spreadsheet takes it for a formula"):
        read(write(tmp_path, *ROWS, f"{path},p1,c9,1,0"))


def test_names_that_hold_such_characters_later_are_taken(tmp_path):
    frame = read(write(tmp_path, "a/=1.png,p+1,c@1,1,0", "a/2.png,-7,1=2,1,0"))
    assert sorted(frame["patient_id"]) == ["-7", "p+1"]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("band_level", ("500", "500"), "row 2: 'band_level' is '500'; expected 300, 400, 550, 700"),
        ("band_level", ("", "500"), "row 3: 'band_level' is '500'; expected 300, 400, 550, 700"),
        ("band_level", ("0", "0"), "row 2: 'band_level' is '0'; expected 300, 400, 550, 700"),
        ("band_level", ("550", "400"), "row 3: 'band_level' is '400'; an earlier row"),
        ("abnormal", ("0", "perhaps"), "row 3: 'abnormal' is 'perhaps'"),
        ("kind", ("deletion", ""), "row 2: 'kind' is 'deletion'; only an abnormal"),
        ("hospital", ("a", "../b"), "row 3: 'hospital' is '../b'"),
    ],
)
def test_a_bad_optional_value_is_named(tmp_path, column, values, message):
    rows = [f"{row},{value}" for row, value in zip(ROWS[:2], values, strict=True)]
    with pytest.raises(ManifestError) as caught:
        read(write(tmp_path, *rows, header=f"{HEADER},{column}"))
    assert message in str(caught.value)


def test_files_that_are_no_manifest_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="no such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(ManifestError, match="row 1: column 'homolog' is missing"):
        read(write(tmp_path, "1.png,p1,c1,1", header="path,patient_id,cell_id,chromosome"))
    with pytest.raises(ManifestError, match="no row below the header"):
        read(write(tmp_path))
    with pytest.raises(ManifestError, match="row 5: it has 6 values, the header 5; put values"):
        read(write(tmp_path, *ROWS, "a/4.png,p1,c1,2,0,more"))


TABLE = "\n".join([HEADER, *ROWS])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "not a readable CSV file; save the list as"),
        (b"", "row 1: column 'path' is missing; it has nothing"),
        (b"\n\n\n", "row 1: column 'path' is missing; it has nothing"),
        (TABLE.encode("utf-16"), "the file is UTF-16; save it as 'CSV UTF-8'"),
        (TABLE.encode("utf-16-be"), "not a readable CSV file"),
        (TABLE.replace("p1", "M\xfcller").encode("latin-1"), "row 2: not UTF-8 text; save"),
        (TABLE.replace(",", ";").encode(), "row 1: the columns are separated by semicolons"),
        (TABLE.replace(",", "\t").encode(), "row 1: the columns are separated by tabs"),
        (f"{HEADER},path\n1.png,p1,c1,1,0,b".encode(), "row 1: column 'path' is there more"),
        (f'{HEADER}\n"1.png,p1,c1,1,0\n'.encode(), "row 2: not a readable CSV file"),
        (f"{HEADER}{',' * 60}\n1.png,p1,c1,1,0".encode(), "row 1: 65 columns, at most 64"),
        (b"," * 2_000_000, "a line of 2000000 bytes, at most 16384"),
        (TABLE.encode() + b"\n" * 900 + b"a", "more than 100 rows"),
        (TABLE.encode() + b"\r" * 900 + b"a", "more than 100 rows"),
        (("z" * 900 + "," + HEADER.replace("cell", "c")).encode(), "it has " + "z" * 60 + "..."),
        (f"{HEADER}\n{'z' * 900}/../a,p1,c1,1,0".encode(), "'path' is '" + "z" * 60 + "...'"),
    ],
)
def test_what_a_list_is_not_is_said(tmp_path, content, message):
    path = tmp_path / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, hospital="here", band_level=400, max_rows=100)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize(
    "content",
    [
        TABLE.replace(",", " , "),
        "\ufeff\ufeff" + TABLE,
        TABLE.replace("\n", ",\n") + ",",
        TABLE.replace("\n", "\r\n") + "\r\n\r\n",
        TABLE.replace("\n", "\r"),
        TABLE.replace("a/", "a\\"),
        TABLE.replace("a/", "./a//"),
        "\n".join(f'"{line}"'.replace(",", '","') for line in TABLE.split("\n")),
    ],
)
def test_ways_of_writing_the_same_list(tmp_path, content):
    expected = read(write(tmp_path, *ROWS))
    path = tmp_path / "other.csv"
    path.write_text(content, newline="")
    pd.testing.assert_frame_equal(read(path), expected)


def test_names_of_one_patient_in_two_unicode_forms_are_one(tmp_path):
    rows = ["a.png,Mu\u0308ller,c1,1,0", "u\u0308.png,M\xfcller,c1,1,1"]
    frame = read(write(tmp_path, *rows))
    assert frame["patient_id"].tolist() == ["M\xfcller"] * 2
    assert frame["path"].tolist() == ["a.png", "\xfc.png"]


def test_an_image_is_found_whatever_form_its_name_has(tmp_path):
    (tmp_path / "u\u0308").mkdir()
    (tmp_path / "u\u0308" / "e\u0301.png").touch()
    assert find_image(tmp_path, "\xfc/\xe9.png").exists()
    assert find_image(tmp_path, "\xfc/a.png") == tmp_path / "u\u0308" / "a.png"
    too_long = 300 * "a" + ".png"  # no error here: it is one row that cannot be read
    assert find_image(tmp_path, too_long) == tmp_path / too_long


def test_an_image_in_a_folder_that_the_disk_does_not_give_is_not_missing(tmp_path, monkeypatch):
    def refuse(path, **_):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(StoreError, match=r"a\.png: cannot be read \(Input/output error\); give"):
        find_image(tmp_path, "a.png")
