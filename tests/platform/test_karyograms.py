"""Folders of karyograms become cohorts and verdicts; files without a cell are named."""

import errno
import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from homnet.cohorts.pairs import pairs_of
from homnet.errors import ConfigError, DataError, ManifestError, StoreError
from homnet.files import Staging
from homnet.simulator.cohort import simulate_person
from homnet.simulator.karyograms import KaryogramStyle, draw_karyogram
from homnet.simulator.laboratory import HospitalConfig, Laboratory
from homnet_platform.ingest import IngestConfig, ingest
from homnet_platform.karyograms import (
    KaryogramConfig,
    _cut_page,
    _with_digests,
    cut_karyograms,
    pages_of,
)


@pytest.fixture(scope="module")
def person():
    """Pairs of a person, no chromosome very bent."""
    laboratory = replace(Laboratory(), band_levels=(0.0, 0.0, 1.0, 0.0), bend=0.2)
    return simulate_person(11, HospitalConfig("h", laboratory, abnormal_fraction=0.0), 0, 6.0)


@pytest.fixture(scope="module")
def folder(person, images_of_cell, tmp_path_factory) -> Path:
    """Three karyograms of two people, a page that is none, and a text."""
    folder = tmp_path_factory.mktemp("lab") / "karyograms"
    (folder / "old").mkdir(parents=True)
    cells = person["cell_id"].unique().to_pylist()
    for number, name in enumerate(("p1_c1", "p1_c2", "old/p2_c1")):
        images = images_of_cell(person, cells[number], seed=1)
        style = KaryogramStyle(width_px=1000 + 200 * number)
        drawn = draw_karyogram(images, style, np.random.default_rng(number))
        Image.fromarray(drawn.image).save(folder / f"{name}.png")
    Image.new("L", (400, 300), 255).save(folder / "p2_blank.png")
    (folder / "notes.txt").write_text("nothing")
    return folder


def names(folder: Path) -> KaryogramConfig:
    cells = folder.parent / "cells.csv"
    cells.write_text(
        "path,patient_id,cell_id,band_level\np1_c1.png,p1,c1,400\np1_c2.png,p1,c2,\n"
        "old/p2_c1.png,p2,c1,550\np2_blank.png,p2,c2,550\n"
    )
    return KaryogramConfig(cells=cells)


def one_page(folder: Path) -> KaryogramConfig:
    cells = folder.parent / "one.csv"
    cells.write_text("path,patient_id,cell_id\np1_c1.png,p1,c1\n")
    return KaryogramConfig(cells=cells)


@pytest.mark.ray
def test_a_folder_becomes_a_cohort(folder, person, ray_cluster, tmp_path, capsys):
    config = IngestConfig(
        karyograms=folder, karyogram=names(folder), output=tmp_path / "mine", hospital="mine"
    )
    summary = ingest(config)
    table = summary.cohort.read()
    cells = set(zip(*(table[name].to_pylist() for name in ("patient_id", "cell_id")), strict=True))
    assert cells == {("p1", "c1"), ("p1", "c2"), ("p2", "c1")}
    levels = dict(zip(table["cell_id"].to_pylist(), table["band_level"].to_pylist(), strict=True))
    assert levels["c2"] == 550
    assert set(table["hospital"].to_pylist()) == {"mine"}
    said = capsys.readouterr().out
    assert "karyograms: 4, of which 1 could not be read" in said
    assert "the page is blank" in said

    # The pairs are those of the person, up to a common scale and what drawing changes.
    first = person["cell_id"][0].as_py()
    truth = {
        name: pair
        for name, cell, pair in zip(
            person["chromosome"].to_pylist(),
            person["cell_id"].to_pylist(),
            pairs_of(person),
            strict=True,
        )
        if cell == first
    }
    correlations = []
    for name, patient, cell, pair_PCL in zip(
        *(table[column].to_pylist() for column in ("chromosome", "patient_id", "cell_id")),
        pairs_of(table),
        strict=True,
    ):
        if (patient, cell) == ("p1", "c1"):
            one, other = (stretched(pairs.mean(axis=1)[0]) for pairs in (pair_PCL, truth[name]))
            correlations.append(np.corrcoef(one, other)[0, 1])
    assert len(correlations) >= 22
    assert np.median(correlations) > 0.95

    chromosomes = tmp_path / "mine-chromosomes"
    found = pd.read_csv(chromosomes / "found.csv", dtype=str, keep_default_na=False)
    manifest = pd.read_csv(chromosomes / "manifest.csv", dtype=str, keep_default_na=False)
    assert sorted(found["outlines"].unique()) == ["", *(f"pages/0000{n}.png" for n in range(3))]
    assert list(manifest["path"]) == list(found["path"][found["reason"] == ""])
    assert all((chromosomes / path).exists() for path in manifest["path"])
    assert sorted(path.name for path in (chromosomes / "pages").glob("*.png")) == [
        "00000.png",
        "00001.png",
        "00002.png",
    ]
    (blank,) = found[found["number"] == ""].to_dict("records")
    assert (blank["page"], blank["reason"]) == ("p2_blank.png", "the page is blank")


def stretched(profile_L):
    length = np.count_nonzero(profile_L)
    return np.interp(np.linspace(0, length - 1, 80), np.arange(length), profile_L[:length])


@pytest.mark.ray
def test_cutting_resumes_and_keeps_what_is_finished(folder, ray_cluster, tmp_path):
    output = tmp_path / "cut"
    manifest = cut_karyograms(folder, one_page(folder), output)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.png")}
    assert cut_karyograms(folder, one_page(folder), output) == manifest
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.png")} == before
    beside = [tmp_path / "cut-cohort", tmp_path / ".mine.partial", tmp_path / "none"]
    for one in beside[:2]:
        one.mkdir()
    old = rf"remove {output} and {beside[0]} and {beside[1]}, or choose another --output"
    with pytest.raises(DataError, match=f"exists already, .*; {old}"):
        cut_karyograms(folder, replace(one_page(folder), px_per_um=20.0), output, made_of_it=beside)


@pytest.fixture
def two_blank(tmp_path) -> Path:
    """A folder of two pictures of which nothing can be used."""
    folder = tmp_path / "blank"
    folder.mkdir()
    for number in (1, 2):
        Image.new("L", (400, 300 + number), 255).save(folder / f"p_{number}.png")
    return folder


@pytest.mark.ray
def test_a_picture_that_changed_under_its_name_is_no_old_page(two_blank, ray_cluster, tmp_path):
    def cut(folder):
        cut_karyograms(folder, KaryogramConfig(), tmp_path / "cut")

    with pytest.raises(DataError, match="no chromosome could be used"):
        cut(two_blank)
    partial = tmp_path / ".cut.partial"
    pages = sorted((partial / "content/pages").glob("*.csv"))
    before = [path.stat().st_mtime_ns for path in pages]
    # The same pictures in another folder are the same pictures.
    other = shutil.copytree(two_blank, tmp_path / "moved")
    with pytest.raises(DataError, match="no chromosome could be used"):
        cut(other)
    assert [path.stat().st_mtime_ns for path in pages] == before
    Image.new("L", (400, 500), 255).save(other / "p_2.png")
    with pytest.raises(DataError, match=r"\.cut\.partial: holds unfinished work with other"):
        cut(other)


def cut_page(folder, number, tmp_path, config=None, **changes):
    staging = Staging(tmp_path / "cut")
    staging.claim({})
    listed = pages_of(folder, config or KaryogramConfig())
    pages = [{**page, **changes} for page in _with_digests(listed, folder)]
    return _cut_page(
        number, pages=pages, folder=folder, staging=staging, layout=None, px_per_um=None
    )


def test_a_picture_that_changes_or_goes_while_pages_are_cut(two_blank, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"p_1\.png: the picture has changed since cutting began"):
        cut_page(two_blank, 0, tmp_path, sha256="0")
    with pytest.raises(StoreError, match=r"p_3\.png: was in the folder and is gone"):
        cut_page(two_blank, 1, tmp_path, path="p_3.png")

    def refuse(path, mode):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreError, match=r"p_1\.png: cannot be read \(Input/output error\)"):
        cut_karyograms(two_blank, KaryogramConfig(), tmp_path / "cut")


def test_chromosomes_that_are_too_large_are_listed_and_not_cut_out(folder, tmp_path, monkeypatch):
    """Even if none is left whose band level could be estimated."""
    monkeypatch.setattr("homnet.imaging.cutting.MAX_SIDE_PX", 10)
    _, text = cut_page(folder, 0, tmp_path, one_page(folder))
    rows = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    assert len(rows) > 40
    assert rows["reason"].str.contains("pixels at the common scale, at most 10").sum() > 40
    assert set(rows["path"]) == {""}


@pytest.mark.ray
def test_a_stated_scale_is_used(folder, ray_cluster, tmp_path):
    heights = []
    for px_per_um in (18.0, 36.0):
        config = replace(one_page(folder), px_per_um=px_per_um)
        manifest = cut_karyograms(folder, config, tmp_path / f"at-{px_per_um:g}")
        rows = pd.read_csv(manifest, dtype=str)
        path = rows["path"][(rows["chromosome"] == "1") & (rows["homolog"] == "0")].iloc[0]
        heights.append(Image.open(manifest.parent / path).height)
    assert heights[0] == pytest.approx(2 * heights[1], abs=2)


@pytest.mark.ray
def test_pages_of_which_nothing_can_be_used(ray_cluster, tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    Image.new("L", (400, 300), 255).save(pages / "p_1.png")
    with pytest.raises(DataError, match="no chromosome could be used; the page is blank"):
        cut_karyograms(pages, KaryogramConfig(), tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_cells_from_file_names(tmp_path):
    (tmp_path / "anna").mkdir()
    for name in ("anna/cell 1.png", "anna/cell 2.PNG", "anna/.hidden.png", "anna/list.csv"):
        (tmp_path / name).touch()
    config = KaryogramConfig(names="{patient_id}/cell {cell_id}")
    assert [(page["patient_id"], page["cell_id"]) for page in pages_of(tmp_path, config)] == [
        ("anna", "1"),
        ("anna", "2"),
    ]
    # A name does not reach into a folder.
    with pytest.raises(ManifestError, match=r"'anna/cell 1.png' is not .*--karyogram.names"):
        pages_of(tmp_path, KaryogramConfig())


CELLS = "path,patient_id,cell_id,hospital,band_level\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,patient_id\na.png,p\n", "row 1: column 'cell_id' is missing"),
        ("path;patient_id;cell_id\na.png;p;c\n", "row 1: the columns are separated by semicolons"),
        ("path\tpatient_id\tcell_id\na.png\tp\tc\n", "row 1: the columns are separated by tabs"),
        ("path,cell_id,patient_id,cell_id\na.png,c,p,c\n", "row 1: column 'cell_id' is there more"),
        ((CELLS + "a.png,p,c\n").encode("utf-16"), "the file is UTF-16"),
        ((CELLS + "a.png,M\xfcller,c\n").encode("latin-1"), "row 2: not UTF-8 text"),
        (CELLS + "a.png,p\0,c\n", "not a readable CSV file"),
        (CELLS + "a.png,p,c,,,more\n", "row 2: it has 6 values, the header 5"),
        (CELLS + '"a.png,p,c\n', "row 2: not a readable CSV file"),
        (CELLS + "\n,,\n", "row 1: there is no row below the header"),
        (CELLS + "\na.png,p, \n", "row 3: 'cell_id' is ''; give a value"),
        (CELLS + ",p,c\n", "row 2: 'path' is ''; give a value"),
        (CELLS + "c.png,p,c\n", "row 2: 'path' is 'c.png'; there is no such picture"),
        (CELLS + "a.png,p,c\n./a.png,p,d\n", "row 3: 'path' is 'a.png'; an earlier row names"),
        (CELLS + "a.png,p,c\nold/b.png,p,c\n", "row 3: 'cell_id' is 'c'; an earlier row has"),
        (CELLS + "a.png,p,c,,500\n", "row 2: 'band_level' is '500'; expected 300, 400, 550, 700"),
        (CELLS + "a.png,p,c,north/2,\n", "row 2: 'hospital' is 'north/2'; use letters"),
        (None, "there is no such file"),
    ],
)
def test_lists_of_cells_that_are_wrong(lab, content, message):
    cells = lab.parent / "cells.csv"
    if content is not None:
        cells.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ManifestError) as caught:
        pages_of(lab, KaryogramConfig(cells=cells))
    assert str(caught.value).startswith(f"{cells}: {message}")


@pytest.fixture
def lab(tmp_path) -> Path:
    """A folder of three files that are called pictures."""
    folder = tmp_path / "lab"
    (folder / "old").mkdir(parents=True)
    for name in ("a.png", "old/b.png", "u\u0308.png"):
        (folder / name).touch()
    return folder


def test_lists_of_cells_as_spreadsheets_write_them(lab, capsys):
    cells = lab.parent / "cells.csv"
    rows = "a.png, p , c,,,\r\n\r\n.\\old\\b.png,q,c,north,400,\r\n"
    cells.write_bytes(("\ufeff" + CELLS.replace("\n", ",\r\n") + rows).encode())
    first, second = pages_of(lab, KaryogramConfig(cells=cells))
    assert list(first.values()) == ["a.png", "p", "c", "", ""]
    assert list(second.values()) == ["old/b.png", "q", "c", "north", "400"]
    said = capsys.readouterr().out
    assert "1 of the 3 pictures of the folder are in no row of cells.csv" in said
    assert "'\xfc.png'" in said
    cells.write_text(CELLS + "a.png,p,c\nold/b.png,p,d\n\xfc.png,p,e\n")
    assert pages_of(lab, KaryogramConfig(cells=cells))[2]["path"] == "u\u0308.png"
    assert not capsys.readouterr().out


def test_two_pictures_of_one_cell_and_empty_folders(tmp_path):
    with pytest.raises(ManifestError, match="there is no such folder"):
        pages_of(tmp_path / "none", KaryogramConfig())
    with pytest.raises(ManifestError, match="there is no picture"):
        pages_of(tmp_path, KaryogramConfig())
    for name in ("p_c.png", "p_c.tif"):
        (tmp_path / name).touch()
    with pytest.raises(ManifestError, match=r"'p_c\.png' are karyograms of one cell, 'c'"):
        pages_of(tmp_path, KaryogramConfig())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": "{patient_id}"}, "it needs {cell_id} once"),
        ({"px_per_um": 0.0}, "give a number from 0.5 to 500"),
    ],
)
def test_settings_that_are_wrong(settings, message):
    with pytest.raises(ConfigError, match=message):
        KaryogramConfig(**settings)


@pytest.mark.parametrize("given", [{}, {"manifest": Path("m.csv"), "karyograms": Path("k")}])
def test_ingest_wants_one_kind_of_pictures(given):
    with pytest.raises(ConfigError, match="either --manifest or --karyograms"):
        IngestConfig(output=Path("o"), **given)
