"""A folder of drawn chromosomes becomes a cohort, and whatever is wrong with one is reported."""

import re
import shutil
import unicodedata
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from homnet.cohorts.cohort import write_cohort
from homnet.cohorts.pairs import pairs_of
from homnet.errors import CohortError, ConfigError, ManifestError, StoreError
from homnet.files import write_whole
from homnet.imaging.extraction import ExtractionConfig, extract
from homnet.imaging.manifest import read_manifest
from homnet.imaging.reading import read_grey
from homnet.locations import files_in, to_location
from homnet.simulator.drawing import centre_line, draw_chromosome
from homnet_platform import ingest as ingest_module
from homnet_platform.ingest import (
    IngestConfig,
    _with_pseudonyms,
    digest_of_images,
    ingest,
    report_of,
)
from homnet_platform.job import root_cause
from homnet_platform.karyograms import KaryogramConfig

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def save_chromosome(path: Path, length_px: float, seed: int) -> None:
    num = round(3 * length_px)
    profile_CL = 120 + 50 * np.sin(np.arange(2 * num).reshape(2, num) / 11 + seed)
    drawing = draw_chromosome(
        profile_CL,
        centre_line(np.zeros(num), 1 / 3),
        6.0,
        samples_per_px=3.0,
        generator=np.random.default_rng(seed),
    )
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(drawing.image_HW).save(path)


def rows_of(people: int, cells: int, hospital: str) -> list[dict[str, object]]:
    """A manifest of the chromosomes 2 and 21 of some people."""
    return [
        {
            "path": f"{hospital}{person}/{cell}-{chromosome}-{homolog}.png",
            "hospital": hospital,
            "patient_id": f"{hospital}-p{person}",
            "cell_id": f"c{cell}",
            "chromosome": chromosome,
            "homolog": homolog,
            "abnormal": 0,
            "kind": "",
        }
        for person in range(people)
        for cell in range(cells)
        for chromosome in ("2", "21")
        for homolog in (0, 1)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hospitals; in the first, seven things are wrong, each in a chromosome of its own."""
    folder = tmp_path_factory.mktemp("images")
    manifest = pd.DataFrame(rows_of(4, 3, "north") + rows_of(2, 2, "south"))
    for seed, row in enumerate(manifest.itertuples()):
        save_chromosome(folder / row.path, 70 if row.chromosome == "2" else 30, seed)
    extra = {"hospital": "north", "patient_id": "north-p0", "cell_id": "c0", "chromosome": "21"}
    third = {**extra, "homolog": 2, "path": "north0/third.png", "abnormal": 0, "kind": ""}
    manifest = pd.concat([manifest, pd.DataFrame([third])], ignore_index=True)
    (folder / "north0/0-2-0.png").unlink()
    (folder / "north0/1-2-1.png").write_bytes(b"no image")
    Image.new("L", (30, 60), 255).save(folder / "north0/2-2-0.png")
    Image.new("RGB", (30, 60), (250, 0, 0)).save(folder / "north1/0-2-1.png")
    save_chromosome(folder / "north1/1-2-0.png", 190, 99)
    for homolog in (0, 1):
        (folder / f"north1/2-2-{homolog}.png").unlink()
    shutil.copy(folder / "south0/0-2-0.png", folder / "south1/0-2-0.png")
    abnormal = manifest["path"] == "north2/0-2-1.png"
    manifest.loc[abnormal, ["abnormal", "kind"]] = [1, "deletion"]
    # Order in the manifest does not matter.
    manifest = manifest.sample(frac=1, random_state=0)
    manifest.to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def config(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> IngestConfig:
    output = tmp_path_factory.mktemp("out") / "cohort"
    # The drawings have no bands that tell their ends apart.
    return IngestConfig(
        output, manifest=folder / "manifest.csv", band_level=400, images_per_file=10, turn="never"
    )


@pytest.fixture(scope="module")
def summary(config: IngestConfig):
    return ingest(config)


@pytest.fixture(scope="module")
def frame(summary) -> pd.DataFrame:
    table = summary.cohort.read()
    frame = table.drop_columns(["pair"]).to_pandas()
    return frame.assign(pair=list(pairs_of(table)))


def one(frame: pd.DataFrame, hospital: str, patient: str, cell: str, chromosome: str) -> pd.Series:
    keys = ["hospital", "patient_id", "cell_id", "chromosome"]
    rows = frame[(frame[keys] == [hospital, f"{hospital}-{patient}", cell, chromosome]).all(axis=1)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_every_image_is_accounted_for(summary, frame):
    assert summary.num_images == 4 * 3 * 4 + 2 * 2 * 4 + 1
    assert summary.num_pairs * 2 + summary.num_single + summary.num_left_out == summary.num_images
    assert len(frame) == summary.num_pairs + summary.num_single == 31
    assert summary.num_single == 5
    assert summary.reasons == {
        "the image file is missing": 3,
        "the image file is damaged": 1,
        "the image is empty": 1,
        "a colour image, not a grey one": 1,
        "too long": 1,
        "a further copy": 1,
    }


def test_an_image_as_wide_as_two_is_left_out(tmp_path: Path) -> None:
    """Which the others of its cell tell, ten or more."""
    for name in range(10):
        save_chromosome(tmp_path / f"{name}.png", 60.0, seed=name)
    image = np.asarray(Image.open(tmp_path / "4.png"))
    rows, columns = (np.flatnonzero((image < 200).any(axis=a)) for a in (1, 0))
    tight = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    two = np.pad(np.hstack([tight, tight]), 10, constant_values=255)
    Image.fromarray(two).save(tmp_path / "4.png")
    pd.DataFrame(
        [
            {"path": f"{n}.png", "patient_id": "p", "cell_id": "c", "chromosome": n + 1}
            | {"homolog": 0}
            for n in range(10)
        ]
    ).to_csv(tmp_path / "manifest.csv", index=False)
    config = IngestConfig(
        tmp_path / "cohort", manifest=tmp_path / "manifest.csv", hospital="h", turn="never"
    )
    found = ingest(config)
    assert found.cohort.num_pairs == 9
    assert found.reasons == {"too wide": 1}


def test_report_lists_each_image_left_out_or_flagged_with_its_row(summary, config):
    report = pd.read_csv(summary.report, keep_default_na=False)
    manifest = pd.read_csv(config.manifest)
    assert (report["reason"] != "").sum() == summary.num_left_out
    assert (report[["reason", "flags", "note"]] != "").any(axis=1).all()
    for line in report.itertuples():
        assert manifest["path"][line.row - 2] == line.path
    long = report[report["path"] == "north1/1-2-0.png"].iloc[0]
    assert long["reason"].startswith("too long: 5")
    assert long["flags"] == "too_long"
    (copied,) = (note for note in report["note"] if "same pixels" in note)
    assert copied == "south1/0-2-0.png has the same pixels as south0/0-2-0.png"
    assert summary.flags["same_pixels"] == 1


def test_pairs_hold_what_extraction_reads(frame, folder):
    row = one(frame, "south", "p1", "c1", "21")
    for homolog in (0, 1):
        image = read_grey(folder / f"south1/1-21-{homolog}.png", max_side_px=1024)
        expected = extract(image, ExtractionConfig()).sequence_CL
        np.testing.assert_array_equal(row["pair"][homolog], expected)
    assert row["quality"]["straightness"] > 0.98
    assert list(row["quality"]["flags"]) == []
    assert row["band_level"] == 400


@pytest.mark.parametrize(("cell", "usable"), [("c0", 1), ("c1", 0), ("c2", 1)])
def test_the_usable_homolog_of_a_broken_pair_takes_the_first_place(frame, folder, cell, usable):
    row = one(frame, "north", "p0", cell, "2")
    image = read_grey(folder / f"north0/{cell[1]}-2-{usable}.png", max_side_px=1024)
    np.testing.assert_array_equal(row["pair"][0], extract(image, ExtractionConfig()).sequence_CL)
    assert not row["pair"][1].any()
    assert "single_homolog" in row["quality"]["flags"]


def test_a_chromosome_without_any_usable_image_has_no_row(frame):
    keys = frame[["hospital", "patient_id", "cell_id", "chromosome"]]
    assert not (keys == ["north", "north-p1", "c2", "2"]).all(axis=1).any()


def test_abnormality_names_its_homolog(frame):
    row = one(frame, "north", "p2", "c0", "2")
    assert (row["abnormal"], row["kind"], row["homolog"]) == (True, "deletion", 1)
    assert frame["abnormal"].sum() == 1


def test_files_hold_whole_patients_and_the_cohort_knows_its_origin(summary, config):
    cohort = summary.cohort
    # Files of about ten images hold one patient each here; write_cohort refuses divided ones.
    assert len(cohort.files) == 6
    assert cohort.hospitals == ("north", "south")
    assert dict(cohort.scale) == {"north": 3.0, "south": 3.0}
    assert cohort.provenance["job"] == "ingest"
    assert str(config.manifest.parent) not in str(cohort.provenance)


@pytest.mark.slow
def test_the_same_images_give_the_same_cohort_in_files_of_any_size(summary, config):
    """Orientation too depends on the patient's own images only."""
    few, many = (
        ingest(
            replace(
                config,
                output=config.output.with_name(f"{size}"),
                images_per_file=size,
                turn="images",
            )
        )
        for size in (10_000, 10)
    )
    assert (len(few.cohort.files), len(many.cohort.files)) == (2, 6)
    assert few.cohort.read().equals(many.cohort.read())
    assert set(few.flags) - set(summary.flags) <= {"turned", "ends_uncertain"}
    assert few.flags["ends_uncertain"] > 0


KEY = "0123456789abcdef"


def key_file(tmp_path: Path, key: str = KEY) -> Path:
    path = tmp_path / "key"
    path.write_text(key)
    return path


def test_pseudonyms_hide_names_everywhere_and_depend_on_the_key(
    summary, config, tmp_path, monkeypatch, capfd
):
    keyed = replace(config, output=tmp_path / "keyed", pseudonym_key_file=key_file(tmp_path))
    done = ingest(keyed)
    printed = "".join(capfd.readouterr())
    names = summary.cohort.read().select(["patient_id", "cell_id"]).to_pydict()
    hidden = {*names["patient_id"], "north1/", "south0/", config.manifest.name, KEY}
    described = (keyed.output / "cohort.json").read_text()
    for text in (described, done.report.read_text(), printed):
        assert not [name for name in hidden if name in text]
    columns = done.cohort.read().select(["patient_id", "cell_id"]).to_pydict()
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in chain(*columns.values()))
    assert len(set(columns["patient_id"])) == 6
    report = pd.read_csv(done.report, keep_default_na=False)
    assert "path" not in report
    named = pd.read_csv(summary.report, keep_default_na=False)
    # Which of two equal images comes first depends on the order of the names.
    (note,) = (one for one in report["note"] if "same pixels" in one)
    assert re.fullmatch(r"row \d+ has the same pixels as row \d+", note)
    report, named = (one[one["flags"] != "same_pixels"] for one in (report, named))
    assert report["row"].tolist() == named["row"].tolist()
    assert report["reason"].tolist() == named["reason"].tolist()
    pairs = zip(report["patient_id"], named["patient_id"], strict=True)
    assert len(set(pairs)) == named["patient_id"].nunique() == report["patient_id"].nunique()
    # The variable gives the same as the file; another key gives others.
    monkeypatch.setenv("HOMNET_PSEUDONYM_KEY", KEY + "\n")
    again = ingest(replace(config, output=tmp_path / "again")).cohort.read()
    assert again.equals(done.cohort.read())
    monkeypatch.setenv("HOMNET_PSEUDONYM_KEY", KEY + "!")
    others = ingest(replace(config, output=tmp_path / "other")).cohort.read()["patient_id"]
    assert not set(columns["patient_id"]) & set(others.to_pylist())


def test_a_name_has_one_pseudonym_in_every_unicode_form(tmp_path, monkeypatch):
    names = [unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD")]
    rows = pd.DataFrame(rows_of(1, 2, "n")).assign(patient_id=[names[0], names[1]] * 4)
    assert rows["patient_id"].nunique() == 2
    rows.to_csv(tmp_path / "manifest.csv", index=False)
    frame = read_manifest(tmp_path / "manifest.csv", hospital="n", band_level=400)
    assert _with_pseudonyms(frame, KEY.encode())["patient_id"].nunique() == 1
    two = pd.DataFrame(rows_of(2, 1, "n"))
    assert _with_pseudonyms(two, KEY.encode())["patient_id"].nunique() == 2
    monkeypatch.setattr("homnet_platform.ingest._pseudonym", lambda key, *names: "0")
    with pytest.raises(CohortError, match="patient_id have one pseudonym"):
        _with_pseudonyms(two, KEY.encode())


def test_one_patient_id_in_two_hospitals_is_refused_before_images_are_measured(folder, tmp_path):
    manifest = folder / "shared.csv"
    rows = pd.DataFrame(rows_of(1, 1, "north") + rows_of(1, 1, "south")).assign(patient_id="p")
    rows.to_csv(manifest, index=False)
    config = IngestConfig(tmp_path / "cohort", manifest=manifest)
    with pytest.raises(CohortError, match=r"patient p is in hospital 'north' and in .*'south'"):
        ingest(config)
    assert list(tmp_path.iterdir()) == []
    keyed = replace(config, pseudonym_key_file=key_file(tmp_path))
    assert len(set(ingest(keyed).cohort.patients["north"])) == 1


def test_existing_output_wrong_manifest_and_wrong_settings_are_refused(summary, config, tmp_path):
    with pytest.raises(CohortError, match="exists already"):
        ingest(config)
    with pytest.raises(ManifestError, match="no such file"):
        ingest(replace(config, manifest=tmp_path / "none.csv", output=tmp_path / "out"))
    with pytest.raises(ConfigError, match="--band-level is 500"):
        replace(config, band_level=500)
    with pytest.raises(ConfigError, match=r"--hospital is 'St\. Mary'; use letters"):
        replace(config, hospital="St. Mary")
    assert replace(config, hospital="Mu\u0308nster").hospital
    with pytest.raises(ConfigError, match=r"--karyogram\.\* is for --karyograms"):
        replace(config, karyogram=KaryogramConfig(px_per_um=20.0))


def test_the_report_is_there_when_the_cohort_is_published(folder, tmp_path, monkeypatch):
    pd.DataFrame(rows_of(2, 2, "south")).to_csv(folder / "some.csv", index=False)
    found = []

    def write(path, *args, **kwargs):
        cohort = write_cohort(path, *args, **kwargs)
        found.append(report_of(path).exists())
        return cohort

    monkeypatch.setattr("homnet_platform.ingest.write_cohort", write)
    ingest(IngestConfig(tmp_path / "cohort", manifest=folder / "some.csv", band_level=400))
    assert found == [True]


def test_a_run_that_comes_second_leaves_the_report_of_the_first(folder, tmp_path, monkeypatch):
    pd.DataFrame(rows_of(2, 2, "south")).to_csv(folder / "some.csv", index=False)
    config = IngestConfig(tmp_path / "cohort", manifest=folder / "some.csv", band_level=400)
    measured = ingest_module._measured
    first = list[bytes]()

    def slowly(*args):
        yield from measured(*args)
        if not first:  # meanwhile another run is done
            first.append(b"")
            ingest(config)
            first[0] = report_of(config.output).read_bytes()
            report_of(config.output).write_bytes(b"the first run's")

    monkeypatch.setattr(ingest_module, "_measured", slowly)
    with pytest.raises(CohortError, match="exists already"):
        ingest(config)
    assert first[0]
    assert report_of(config.output).read_bytes() == b"the first run's"


def test_an_image_that_the_disk_does_not_give_ends_the_job(tmp_path):
    """A link to itself stands for a share that is lost: it can be made without being root."""
    rows = pd.DataFrame(rows_of(1, 1, "south"))
    rows.to_csv(tmp_path / "manifest.csv", index=False)
    for path in rows["path"]:
        save_chromosome(tmp_path / path, 30, 1)
    image = tmp_path / rows["path"][2]
    image.unlink()
    image.symlink_to(image)
    with pytest.raises(Exception) as caught:  # noqa: PT011  (Ray's, around ours)
        ingest(IngestConfig(tmp_path / "cohort", manifest=tmp_path / "manifest.csv"))
    cause = root_cause(caught.value)
    assert isinstance(cause, StoreError)
    assert str(cause).startswith(f"{image}: cannot be read (Too many levels of symbolic links);")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.csv", "south0"]


def test_a_cohort_knows_its_images(summary, config, folder, tmp_path):
    rows = read_manifest(config.manifest, hospital="hospital", band_level=400)
    known = summary.cohort.provenance["images_sha256"]
    assert digest_of_images(rows.sample(frac=1, random_state=0), folder) == known
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "south1/1-2-0.png").unlink()
    assert digest_of_images(rows, other) != known
    shutil.copy(folder / "south1/1-2-1.png", other / "south1/1-2-0.png")
    assert digest_of_images(rows, other) != known


def test_one_patient_id_in_two_hospitals_is_refused_before_karyograms_are_cut(tmp_path):
    cells = tmp_path / "cells.csv"
    cells.write_text("path,patient_id,cell_id,hospital\na.png,p,1,\nb.png,p,2,north\n")
    (tmp_path / "pages").mkdir()
    for name in "ab":
        (tmp_path / f"pages/{name}.png").touch()
    config = IngestConfig(
        tmp_path / "cohort",
        karyograms=tmp_path / "pages",
        karyogram=KaryogramConfig(cells=cells),
    )
    with pytest.raises(CohortError, match=r"patient p is in hospital 'hospital' and in .*'north'"):
        ingest(config)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.csv", "pages"]


@pytest.mark.slow
def test_images_in_a_bucket_give_the_same_cohort(summary, folder, config, bucket):
    images = to_location(bucket("images"))
    for name in files_in(folder, recursive=True):
        write_whole(images / name, (folder / name).read_bytes())
    stored = replace(
        config, manifest=images / "manifest.csv", output=to_location(bucket("cohorts/c"))
    )
    found = ingest(stored)
    assert found.cohort.fingerprint == summary.cohort.fingerprint
    assert found.report.read_bytes() == summary.report.read_bytes()
    with pytest.raises(CohortError, match="exists already"):
        ingest(stored)
    elsewhere = replace(stored, manifest=images / "missing.csv", output=images / "c")
    with pytest.raises(ManifestError, match=r"missing\.csv\?.*: there is no such file"):
        ingest(elsewhere)


def test_a_manifest_without_any_usable_image_leaves_a_report_and_no_cohort(tmp_path):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,patient_id,cell_id,chromosome,homolog\nnone.png,p,c,1,0\n")
    config = IngestConfig(tmp_path / "cohort", manifest=manifest)
    with pytest.raises(
        CohortError, match=r"no pair to write; 1 of 1 images: the image file is missing; all .*csv"
    ):
        ingest(config)
    assert not config.output.exists()
    assert "missing" in report_of(config.output).read_text()
