from pathlib import Path

import pytest

from homnet.errors import ManifestError
from homnet.imaging.manifest import read_manifest

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


def test_blank_lines_change_no_row_number(tmp_path):
    frame = read(write(tmp_path, ROWS[0], "", ROWS[1], ",,,,", "", header=HEADER))
    assert frame["row"].tolist() == [2, 4]


def test_a_third_copy_is_read_and_no_error(tmp_path):
    frame = read(write(tmp_path, *ROWS, "a/4.png,p1,c1,1,2"))
    assert frame["homolog"].tolist() == [0, 1, 2, 0]


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
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    path = write(tmp_path, *ROWS, row)
    with pytest.raises(ManifestError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("band_level", ("500", "500"), "row 2: 'band_level' is '500'; expected 300, 400, 550, 700"),
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
    for rows in ([f"{row},more" for row in ROWS], [*ROWS, "a/4.png,p1,c1,2,0,more"]):
        with pytest.raises(ManifestError, match="not a readable CSV"):
            read(write(tmp_path, *rows))
    binary = tmp_path / "image.csv"
    binary.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff\xfe")
    with pytest.raises(ManifestError, match="not a readable CSV"):
        read(binary)
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(ManifestError, match="not a readable CSV"):
        read(empty)
