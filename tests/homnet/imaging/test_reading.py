"""Files are read as a viewer shows them on white, or refused with a sentence."""

import errno
import io
import os
import struct
import zlib
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from homnet.errors import DataError, StoreError
from homnet.imaging.reading import FORMATS, read_grey, read_page
from homnet.locations import RemotePath

GREY = np.random.default_rng(0).integers(0, 256, (7, 5), np.uint8)
BLOCKS = np.kron(GREY[:3, :2], np.ones((8, 8))).astype(np.uint8)
INVERSE = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}


def read(image: Image.Image, form: str, **options: object) -> np.ndarray:
    file = io.BytesIO()
    image.save(file, form, **options)
    return read_grey(file, max_side_px=1024)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_grey_is_read_in_every_format_and_mode(form: str, mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(GREY).convert(mode)
    options = {"lossless": True} if form == "WEBP" else {}
    np.testing.assert_array_equal(read(image, form, **options), GREY)
    image.save(tmp_path / "a", form, **options)
    np.testing.assert_array_equal(read_grey(tmp_path / "a", max_side_px=1024), GREY)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", INVERSE)
def test_a_stored_orientation_is_applied_once(form: str, orientation: int) -> None:
    exif, method = Image.Exif(), INVERSE[orientation]
    exif[0x0112] = orientation
    stored = Image.fromarray(BLOCKS)
    if method is not None:
        stored = stored.transpose(Image.Transpose(method))
    shown = read(stored, form, exif=exif).astype(int)
    assert shown.shape == BLOCKS.shape
    assert np.abs(shown - BLOCKS).max() < 12


def test_transparent_pixels_are_white() -> None:
    clear = GREY < 128
    alpha = np.where(clear, 0, 255).astype(np.uint8)
    white = np.where(clear, 255, GREY)
    colour = np.stack([GREY, np.where(clear, 9, GREY), GREY], axis=-1)  # only where it is clear
    rgba = np.dstack([colour, alpha])
    np.testing.assert_array_equal(read(Image.fromarray(rgba), "PNG"), white)
    la = Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(alpha)))
    np.testing.assert_array_equal(read(la, "PNG"), white)
    half = Image.merge("LA", (Image.new("L", (2, 2), 0), Image.new("L", (2, 2), 128)))
    assert (read(half, "PNG") == 127).all()
    level = int(GREY[0, 0])
    for form, mode in (("PNG", "L"), ("PNG", "RGB"), ("PNG", "P"), ("GIF", "L")):
        image = Image.fromarray(GREY).convert(mode)
        chosen = (level,) * 3 if mode == "RGB" else level
        shown = read(image, form, transparency=chosen)
        np.testing.assert_array_equal(shown, np.where(level == GREY, 255, GREY))


def with_frames(form: str) -> bytes:
    file, image = io.BytesIO(), Image.fromarray(GREY)
    image.save(file, form, save_all=True, append_images=[Image.fromarray(255 - GREY)])
    return file.getvalue()


def jpeg_of_many_scans() -> bytes:
    file = io.BytesIO()
    Image.new("L", (64, 64), 255).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * 200 + content[-2:]


def saved(image: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def png_of_16_bits(kind: int, channels: int) -> bytes:
    """A PNG that Pillow opens, as it does 16 bits of grey with opacity and of colour, as 8 bits."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = b"".join(b"\0" + bytes([63, 1] * channels * 2) for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, kind, 0, 0, 0)
    packed = zlib.compress(rows)
    return PNG[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def reduced() -> bytes:
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "TIFF", tiffinfo={254: 1})
    return file.getvalue()


PNG = saved(Image.fromarray(GREY))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"damaged \(or none of PNG, TIFF, JPEG, BMP, GIF, WEBP\)"),
        (b"not an image", "damaged"),
        (saved(Image.fromarray(GREY), "PPM"), "none of PNG"),
        (PNG[:50], "damaged"),
        (PNG[:45] + bytes(4) + PNG[49:], "damaged"),
        (bytes(33 * 2**20), "more than 33554432 bytes"),
        *[(with_frames(form), "several frames") for form in ("TIFF", "GIF", "PNG", "WEBP", "MPO")],
        (saved(Image.new("RGB", (20, 30), (200, 30, 30))), "colour"),
        (saved(Image.new("1", (20, 30))), r"not an 8-bit grey image \(1 bit\)"),
        (saved(Image.fromarray(np.zeros((20, 30), np.uint16))), r"\(16 bits or more\)"),
        (png_of_16_bits(2, 3), r"not an 8-bit image \(16 bits a channel\)"),
        (png_of_16_bits(4, 2), r"not an 8-bit image \(16 bits a channel\)"),
        (reduced(), "the first page of the file is a smaller copy"),
        (saved(Image.new("F", (20, 30)), "TIFF"), r"\(floating-point levels\)"),
        (saved(Image.new("CMYK", (20, 30)), "JPEG"), r"\(printing colours\)"),
        (saved(Image.new("L", (1025, 2))), "larger than 1024"),
        (saved(Image.new("1", (20_000, 20_000))), "larger than 1024"),
        (jpeg_of_many_scans(), "more than 100 scans"),
    ],
)
def test_other_files_are_refused_with_a_sentence(content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_grey(io.BytesIO(content), max_side_px=1024)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        read_grey(tmp_path / "none.png", max_side_px=1024)
    (tmp_path / "folder.png").mkdir()
    for name in ("folder.png", "folder.png/none.png", 300 * "a"):
        with pytest.raises(DataError, match="missing"):
            read_grey(tmp_path / name, max_side_px=1024)
    (tmp_path / "a.png").write_bytes(PNG)
    with pytest.raises(DataError, match="missing"):
        read_grey(tmp_path / "a.png" / "b.png", max_side_px=1024)


@pytest.mark.filterwarnings("ignore")
def test_a_store_that_does_not_answer_is_no_damaged_file() -> None:
    class Refusing:
        def open_input_stream(self, key: str) -> NoReturn:
            raise OSError(f"AWS Error SLOW_DOWN at {key}")

    with pytest.raises(StoreError, match=r"a\.png: the store does not answer"):
        read_grey(RemotePath(Refusing(), "bucket/a.png", "s3://", ""), max_side_px=1024)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE])
def test_a_disk_that_does_not_give_a_file_is_no_damaged_file(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, mode: str) -> NoReturn:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        StoreError, match=rf"a\.png: cannot be read \({os.strerror(number)}\); give"
    ):
        read_grey(tmp_path / "a.png", max_side_px=1024)


def test_a_lack_of_memory_is_no_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(MemoryError):
        read_grey(io.BytesIO(PNG), max_side_px=1024)


def test_damaged_files_raise_nothing_else() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(BLOCKS)
    files = [saved(image, form) for form in FORMATS] + [saved(image.convert("P"), "PNG")]
    refused = 0
    for number in range(700):
        content = bytearray(files[number % len(files)])
        for at in rng.integers(0, min(len(content), 300), 1 + number % 5):
            content[at] = rng.integers(0, 256)
        try:
            read_grey(io.BytesIO(content[: None if number % 2 else -9]), max_side_px=1024)
        except DataError:
            refused += 1
    assert refused > 300


IMAGEJ = "ImageJ=1.54f\nimages=1\nunit={}\nspacing=1.0\n"
OME = '<OME><Pixels PhysicalSizeX="0.05" {}SizeX="8"/></OME>'


@pytest.mark.parametrize(
    ("form", "options", "px_per_um"),
    [
        ("PNG", {}, None),
        ("PNG", {"dpi": (508_000.0, 508_000.0)}, 20.0),
        ("JPEG", {"dpi": (300, 300)}, 300 / 25_400),
        (
            "TIFF",
            {"x_resolution": 200_000.0, "y_resolution": 200_000.0, "resolution_unit": 3},
            20.0,
        ),
        ("TIFF", {"description": IMAGEJ.format("micron"), "x_resolution": 12.5}, 12.5),
        ("TIFF", {"description": IMAGEJ.format("mm"), "x_resolution": 12_500.0}, 12.5),
        ("TIFF", {"description": IMAGEJ.format("pixel"), "x_resolution": 12.5}, None),
        ("TIFF", {"description": IMAGEJ.format("micron")}, None),
        ("TIFF", {"description": OME.format("")}, 20.0),
        ("TIFF", {"description": OME.format('PhysicalSizeXUnit="nm" ')}, 20_000.0),
        ("TIFF", {"description": OME.format('PhysicalSizeXUnit="parsec" ')}, None),
        ("TIFF", {"description": '<Pixels PhysicalSizeX="0"/>'}, None),
        ("TIFF", {"description": '<Pixels PhysicalSizeX="wide"/>'}, None),
        ("TIFF", {"description": '<Pixels PhysicalSizeX="-0.05"/>'}, None),
        ("TIFF", {"description": '<Pixels PhysicalSizeX="nan"/>'}, None),
        ("TIFF", {"description": '<Pixels PhysicalSizeX="1e-320"/>'}, None),
    ],
)
def test_the_resolution_that_a_file_states(
    form: str, options: dict[str, object], px_per_um: float | None
) -> None:
    file = io.BytesIO()
    Image.new("L", (8, 8), 255).save(file, form, **options)
    page = read_page(file, max_side_px=100, max_bytes=10_000)
    assert page.px_per_um == (None if px_per_um is None else pytest.approx(px_per_um, rel=1e-3))
