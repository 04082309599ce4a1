"""Pictures of a run are found again, with what was said of them."""

from pathlib import Path

import pytest

from homnet.errors import DataError
from homnet.patients.pictures import NOTHING_USED, SentPicture
from homnet_platform.karyograms import FOUND
from homnet_platform.patients.pictures import pictures_of

MANIFEST = """path,patient_id,cell_id,chromosome,homolog,hospital
pages/0/a.png,007,c1,1,0,
pages/0/b.png,007,c1,1,1,
pages/0/c.png,007,c2,1,0,
pages/0/d.png,q,c1,X,0,north
"""
REPORT = """row,path,hospital,patient_id,cell_id,chromosome,homolog,reason,flags,note
3,pages/0/b.png,h,007,c1,1,1,blank,,
4,pages/0/c.png,h,007,c2,1,0,,,pages/0/c.png has the same pixels as pages/0/a.png
5,pages/0/d.png,north,q,c1,X,0,blank,,
"""
PAGES = """page,hospital,patient_id,cell_id,number,chromosome,reason,path
one.png,,007,c1,1,1,,pages/0/a.png
one.png,,007,c1,2,1,,pages/0/b.png
one.png,,007,c1,3,,two types fit,
two.png,,007,c2,1,1,,pages/0/c.png
none.png,north,q,c2,,,the page is blank,
left.png,north, q,c3,1,,two types fit,
"""


def written(folder: Path) -> tuple[Path, Path]:
    manifest, report = folder / "manifest.csv", folder / "cohort-extraction.csv"
    manifest.write_text(MANIFEST)
    report.write_text(REPORT)
    (folder / FOUND).write_text(PAGES)
    (folder / "pages/0").mkdir(parents=True)
    for name in "abcd":
        (folder / f"pages/0/{name}.png").touch()
    return manifest, report


def test_single_images(tmp_path: Path) -> None:
    manifest, report = written(tmp_path)
    pictures = pictures_of(manifest, "h", None, report, cut=False)
    assert pictures.files == {
        ("h", "007", "c1", "1"): [tmp_path / "pages/0/a.png"],
        ("h", "007", "c2", "1"): [tmp_path / "pages/0/c.png"],
    }
    assert pictures.sent == {
        ("h", "007"): [
            SentPicture("row 3, chromosome 1", "c1", "blank"),
            SentPicture(
                "row 4, chromosome 1",
                "c2",
                remarks=("it has the same pixels as another picture",),
            ),
        ],
        ("north", "q"): [SentPicture("row 5, chromosome X", "c1", "blank")],
    }


def test_karyograms(tmp_path: Path) -> None:
    manifest, report = written(tmp_path)
    pictures = pictures_of(manifest, "h", None, report, cut=True)
    assert pictures.sent == {
        ("h", "007"): [
            SentPicture(
                "one.png",
                "c1",
                remarks=(
                    "number 2 (chromosome 1) is left out: blank",
                    "number 3 is left out: two types fit",
                ),
            ),
            SentPicture(
                "two.png",
                "c2",
                remarks=("number 1: it has the same pixels as another picture",),
            ),
        ],
        ("north", "q"): [
            SentPicture("none.png", "c2", "the page is blank"),
            SentPicture("left.png", "c3", NOTHING_USED, ("number 1 is left out: two types fit",)),
        ],
    }
    # What is read is what is there now, also in a process that has read it before.
    found = manifest.with_name("found.csv")
    found.write_text(found.read_text().replace("the page is blank", "it has no scale"))
    again = pictures_of(manifest, "h", None, report, cut=True)
    assert again.sent["north", "q"][0] == SentPicture("none.png", "c2", "it has no scale")


def test_without_a_report_nobody_knows_what_was_used(tmp_path: Path) -> None:
    manifest, report = written(tmp_path)
    report.unlink()
    with pytest.raises(DataError, match=r"-extraction\.csv: there is no such file.*; remove the"):
        pictures_of(manifest, "h", None, report, cut=False)
    report.write_text(REPORT.splitlines()[0] + "\n")
    pictures = pictures_of(manifest, "h", None, report, cut=False)
    assert len(pictures.files["h", "007", "c1", "1"]) == 2
    assert pictures.sent == {("h", "007"): [], ("north", "q"): []}
