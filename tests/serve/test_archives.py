"""Zips of images: pairs come out, bombs and paths do not get in."""

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from homnet.cohorts.pairs import pairs_of
from homnet.imaging.extraction import ExtractionConfig
from homnet_serve.archives import (
    ImagesOfBody,
    _name,
    measure_images,
    open_zip,
    read_manifest_of_body,
)
from homnet_serve.config import Limits
from homnet_serve.errors import RequestError

Maker = Callable[..., bytes]
HEADER = "path,hospital,patient_id,cell_id,chromosome,homolog\n"
CONFIGS = {"h1": ExtractionConfig()}
SMALL = Limits(max_expanded_bytes=200_000, max_images=50, max_image_bytes=20_000)


def _read(body: bytes, limits: Limits = SMALL) -> ImagesOfBody:
    archive, manifest = read_manifest_of_body(body, hospital="", band_level=400, limits=limits)
    return measure_images(archive, manifest, CONFIGS, limits)


def test_homologs_are_paired(images_zip: Maker) -> None:
    got = _read(images_zip(("1", "7"), num_cells=3))
    assert got.table.num_rows == 6
    assert got.refused == {}
    assert set(got.table["band_level"].to_pylist()) == {400}
    lengths = (pairs_of(got.table) > 0).any(axis=2).sum(axis=-1)
    assert (lengths > 100).all()
    is_long = np.array(got.table["chromosome"].to_pylist()) == "1"
    assert lengths[is_long].min() > lengths[~is_long].max()


def test_images_that_give_nothing_are_listed(png: Maker, zip_of: Maker) -> None:
    colour = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 40, 3), np.uint8)).save(
        colour, "PNG"
    )
    files = {
        "good.png": png(),
        "empty.png": png(0),
        "text.png": b"no image at all",
        "cut.png": png()[:60],
        "colour.png": colour.getvalue(),
        "huge.png": png(size=(1025, 40)),
        "third.png": png(),
    }
    lines = [
        f"{name},h1,p1,c{row // 2 if name != 'third.png' else 0},1,"
        f"{row % 2 if name != 'third.png' else 2}"
        for row, name in enumerate(files)
    ]
    body = zip_of({"manifest.csv": (HEADER + "\n".join(lines)).encode(), **files})
    got = _read(body)
    assert got.table.num_rows == 1
    refused = {image.row: image.reason for image in got.refused["h1", "p1"]}
    assert sorted(refused) == [3, 4, 5, 6, 7]
    assert "empty" in refused[3]
    assert "damaged" in refused[4]
    assert "colour" in refused[6]
    assert "larger than 1024" in refused[7]
    # Nothing is wrong with the image of a third copy.
    (noted,) = [image for image in got.noted["h1", "p1"] if image.row == 8]
    assert "further copy" in noted.note
    (third,) = [one for one in got.sent("h1", "p1") if one.name.startswith("row 8")]
    assert (third.refused, third.remarks) == ("", (noted.note,))


def test_an_image_as_wide_as_two_is_refused(png: Maker, zip_of: Maker) -> None:
    one = np.asarray(Image.open(io.BytesIO(png())))
    two, wide = np.hstack([one[:, :26], one[:, 10:]]), io.BytesIO()
    Image.fromarray(two).save(wide, "PNG")
    files = {f"{row}.png": wide.getvalue() if row == 3 else png() for row in range(10)}
    lines = [f"{row}.png,h1,p1,c0,{row + 1},0" for row in range(10)]
    got = _read(zip_of({"manifest.csv": (HEADER + "\n".join(lines)).encode(), **files}))
    assert got.table.num_rows == 9
    (image,) = got.refused["h1", "p1"]
    assert (image.row, image.reason[:9]) == (5, "too wide:")


def test_a_note_on_one_patient_does_not_name_the_image_of_another(
    png: Maker, zip_of: Maker
) -> None:
    files = {
        f"{name}_{homolog}.png": png(seed=homolog)
        for name in ("ANNA", "BERTA")
        for homolog in (0, 1)
    }
    lines = [f"{name},h1,{name[:-6]},c1,1,{name[-5]}" for name in files]
    got = _read(zip_of({"manifest.csv": (HEADER + "\n".join(lines)).encode(), **files}))
    notes = [one.note for one in got.noted["h1", "BERTA"]]
    assert len(notes) == 2
    assert all(note.startswith("it has the same pixels as another picture") for note in notes)
    assert "ANNA" not in str(notes)


def test_more_rows_than_images_are_allowed_are_over_a_limit(zip_of: Maker) -> None:
    with pytest.raises(RequestError, match="more than 50 rows") as error:
        _read(zip_of({"manifest.csv": b"\n" * 100 + b"a"}))
    assert error.value.status == 413


@pytest.mark.parametrize("name", ["u\u0308.png", "./\xfc.png", "img\\..png", "img//..png"])
def test_names_are_compared_as_people_read_them(png: Maker, zip_of: Maker, name: str) -> None:
    path = "img\\..png" if "img" in name else "\xfc.png"
    row = f"{HEADER}{path},h1,p1,c1,1,0\n"
    got = _read(zip_of({"./manifest.csv": row.encode(), name: png()}))
    assert (got.table.num_rows, got.refused) == (1, {})


def _in_zip(name: bytes) -> zipfile.ZipInfo:
    """A file of a zip that does not say how its name is written."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("x" * len(name), b"")
    renamed = content.getvalue().replace(b"x" * len(name), name)
    return zipfile.ZipFile(io.BytesIO(renamed)).infolist()[0]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("\xfc.png".encode(), "\xfc.png"),  # by macOS
        ("M\xdcLLER.png".encode("cp437"), "M\xdcLLER.png"),
        (b"plain.png", "plain.png"),
    ],
)
def test_names_whose_encoding_is_not_said_are_read_if_they_can_be(
    written: bytes, name: str
) -> None:
    assert _name(_in_zip(written)) == name


def test_a_name_with_other_letters_elsewhere_is_refused() -> None:
    with pytest.raises(RequestError, match=r"does not say how the name .* is written"):
        _name(_in_zip("S\xd8REN_1.png".encode("cp850")))


def test_nothing_usable_is_no_error(zip_of: Maker) -> None:
    body = zip_of({"manifest.csv": f"{HEADER}a.png,h1,p1,c1,1,0\n".encode(), "a.png": b""})
    got = _read(body)
    assert got.table.num_rows == 0
    assert len(got.refused["h1", "p1"]) == 1


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../../etc/passwd", "..\\up.png", "C:\\a.png", "\\\\host\\a"]
)
def test_paths_lead_nowhere(png: Maker, zip_of: Maker, path: str) -> None:
    row = f"{HEADER}{path},h1,p1,c1,1,0\n"
    with pytest.raises(RequestError, match="row 2: 'path'") as error:
        _read(zip_of({"manifest.csv": row.encode(), path: png()}))
    assert error.value.status == 422


def test_a_file_of_the_machine_is_not_read(zip_of: Maker) -> None:
    with pytest.raises(RequestError, match=r"the zip has no file 'setup\.cfg'"):
        _read(zip_of({"manifest.csv": f"{HEADER}setup.cfg,h1,p1,c1,1,0\n".encode()}))


def test_bombs_are_refused_before_they_expand(zip_of: Maker) -> None:
    row = f"{HEADER}a.png,h1,p1,c1,1,0\n".encode()
    with pytest.raises(RequestError, match="expands to more") as error:
        _read(zip_of({"manifest.csv": row, "a.png": bytes(10**6)}))
    assert error.value.status == 413
    with pytest.raises(RequestError, match="more than 20000 bytes"):
        _read(zip_of({"manifest.csv": row, "a.png": bytes(30_000)}))
    with pytest.raises(RequestError, match="more than 51 files"):
        _read(zip_of({"manifest.csv": row, **{f"{n}.png": b"" for n in range(60)}}))


def test_a_size_that_lies_does_not_expand(zip_of: Maker) -> None:
    body = bytearray(zip_of({"manifest.csv": HEADER.encode(), "a.png": bytes(10**6)}))
    entry = body.rindex(b"PK\x01\x02")
    struct.pack_into("<I", body, entry + 24, 100)  # uncompressed size in the directory
    row = f"{HEADER}a.png,h1,p1,c1,1,0\n".encode()
    with zipfile.ZipFile(io.BytesIO(body)) as archive, pytest.raises(zipfile.BadZipFile):
        archive.read("a.png")
    body = bytearray(zip_of({"manifest.csv": row, "a.png": bytes(10**6)}))
    struct.pack_into("<I", body, body.rindex(b"PK\x01\x02") + 24, 100)
    with pytest.raises(RequestError, match="cannot be unpacked"):
        _read(bytes(body))


def test_a_size_that_lies_takes_no_memory(zip_of: Maker) -> None:
    body = bytearray(zip_of({"a.png": bytes(2**25)}))
    struct.pack_into("<I", body, body.rindex(b"PK\x01\x02") + 24, 100)
    archive = open_zip(bytes(body), 1, SMALL, "images")
    tracemalloc.start()
    try:
        with pytest.raises(RequestError, match="cannot be unpacked"):
            archive.read("a.png", 1000, "body")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**18


def test_a_file_that_begins_beyond_all_numbers_is_refused(zip_of: Maker) -> None:
    row = f"{HEADER}a.png,h1,p1,c1,1,0\n".encode()
    body = io.BytesIO(zip_of({"manifest.csv": row}))
    with zipfile.ZipFile(body, "a") as archive:
        far = zipfile.ZipInfo("a.png")
        far.extra = struct.pack("<HHQ", 1, 8, 2**63)  # zip64: where the file begins
        archive.writestr(far, b"")
    patched = bytearray(body.getvalue())
    struct.pack_into("<I", patched, patched.rindex(b"PK\x01\x02") + 42, 0xFFFFFFFF)
    with pytest.raises(RequestError, match=r"'a\.png' cannot be unpacked"):
        _read(bytes(patched))


def test_broken_zips_are_refused(images_zip: Maker) -> None:
    body = images_zip(("1",), num_cells=1)
    rng = np.random.default_rng(0)
    statuses = []
    for number in range(80):
        damaged = bytearray(body)
        for at in rng.integers(0, len(body), 1 + number % 8):
            damaged[at] = rng.integers(0, 256)
        if number % 4 == 0:
            damaged = damaged[: rng.integers(0, len(body))]
        try:
            _read(bytes(damaged))
        except RequestError as error:
            statuses.append(error.status)
    assert set(statuses) <= {413, 422}
    assert len(statuses) > 40


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not a zip"),
        (b"PK\x05\x06", "not a zip"),
        (b"PK\x03\x04" * 20, "not a zip"),
        (b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + bytes(18), "zip64"),
        (b"PK\x05\x06" + bytes(18), "the zip has no file 'manifest.csv'"),
        (b"PK\x05\x06" + b"\xff" * 18, "more than 51 files"),
    ],
)
def test_what_is_no_zip_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        _read(body)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("", "it has nothing"),
        ("a,b\n1,2\n", "column 'path' is missing"),
        (HEADER, "there is no row"),
        (HEADER + "a.png,h1,p1,c1,24,0\n", "row 2: 'chromosome' is '24'"),
        (HEADER + "a.png,h1,p1,c1,1,x\n", "row 2: 'homolog' is 'x'"),
        (HEADER + "a.png,h/1,p1,c1,1,0\n", "row 2: 'hospital'"),
        (HEADER + "a.png,h1,,c1,1,0\n", "row 2: 'patient_id'"),
        (HEADER + "a.png,h1,p1,c1,1,0\n" * 2, "row 3: 'homolog'"),
        (HEADER + "a.png,h1,p1,c1,1,0,9,9\n", "row 2: it has 8 values"),
        ("," * 100_000, "a line of 100000 bytes"),
    ],
)
def test_wrong_manifests_are_named(zip_of: Maker, png: Maker, manifest: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as error:
        _read(zip_of({"manifest.csv": manifest.encode(), "a.png": png()}))
    assert error.value.status == 422


def test_nobody_waits_any_more(images_zip: Maker) -> None:
    archive, manifest = read_manifest_of_body(
        images_zip(), hospital="", band_level=550, limits=SMALL
    )
    with pytest.raises(RequestError, match="given up"):
        measure_images(archive, manifest, CONFIGS, SMALL, stopped=lambda: True)


def test_other_compressions_and_twins_are_refused(zip_of: Maker) -> None:
    row = f"{HEADER}a.png,h1,p1,c1,1,0\n".encode()
    with pytest.raises(RequestError, match="deflate"):
        _read(zip_of({"manifest.csv": row, "a.png": b"x"}, zipfile.ZIP_BZIP2))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("manifest.csv", row)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("manifest.csv", row)
    with pytest.raises(RequestError, match="two files of one name"):
        _read(out.getvalue())
