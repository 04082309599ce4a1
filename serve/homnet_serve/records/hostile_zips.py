"""Endless hostile zips: damaged, odd and costly images, and manifests, by kind."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from homnet_serve.records.hostile_bodies import cut, damaged

HEADER: Final = "path,hospital,patient_id,cell_id,chromosome,homolog"
IMAGES_PER_ZIP: Final = 8
_FORMATS: Final = ("PNG", "TIFF", "JPEG", "BMP", "GIF", "WEBP")
_MODES: Final = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "YCbCr", "HSV")
_VALUES: Final = (
    *("", " ", "0", "1", "2", "9", "-1", "1e3", "nan", "23", "X", "../a.png", "/etc/passwd"),
    *(
        "C:\\a",
        "\\\\h\\a",
        "a\\b",
        "'",
        '"',
        ";",
        "\t",
        "\ufeff",
        "\u202e",
        "u\u0308",
        "\U0001f9ec",
    ),
    *("=1+1", "\x00", "\r", "\n", "a" * 5000, "p" * 129, "%s", "{}", "NULL"),
)


def image_zips(rng: np.random.Generator, hospital: str) -> Iterator[tuple[str, bytes]]:
    """Yields kinds and zips with a sound manifest and damaged or odd images, without end."""
    makers = sorted(_IMAGES)
    while True:
        for kind in makers:
            files = [_IMAGES[kind](rng) for _ in range(IMAGES_PER_ZIP)]
            rows = [
                f"{number}.png,{hospital},p,c{number // 2},{1 + number // 4},{number % 2}"
                for number in range(IMAGES_PER_ZIP)
            ]
            yield f"image {kind}", _zip("\n".join([HEADER, *rows]).encode(), files)


def manifest_zips(rng: np.random.Generator, hospital: str) -> Iterator[tuple[str, bytes]]:
    """Yields kinds and zips with damaged or odd manifests, or that are damaged, without end."""
    sound = [_encoded(_chromosome(rng), "PNG") for _ in range(4)]
    rows = [f"{number}.png,{hospital},p,c{number // 2},1,{number % 2}" for number in range(4)]
    text = "\n".join([HEADER, *rows]) + "\n"
    makers = sorted(_MANIFESTS)
    while True:
        for kind in makers:
            yield f"manifest {kind}", _zip(_MANIFESTS[kind](text, rng), sound)
        whole = _zip(text.encode(), sound)
        broken = damaged(whole, rng, len(whole), most=4)
        yield "zip bytes", broken
        yield "zip cut", cut(broken, rng)
        # The directory lies about one number: sizes, offsets, dates, methods, flags.
        body = bytearray(whole)
        at = body.rfind(b"PK\x01\x02") + 4 + 2 * int(rng.integers(20))
        body[at : at + 4] = struct.pack("<I", int(rng.choice((0, 1, 2**16, 2**31, 2**32 - 1))))
        yield "zip directory", bytes(body)


def _zip(manifest: bytes, images: list[bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.csv", manifest)
        for number, image in enumerate(images):
            archive.writestr(f"{number}.png", image)
    return content.getvalue()


def _chromosome(rng: np.random.Generator) -> Image.Image:
    """A banded bar on white, upright or bent."""
    height, width = int(rng.integers(40, 160)), int(rng.integers(24, 60))
    image = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(image)
    bend = rng.uniform(-8, 8)
    for y in range(6, height - 6):
        middle = width / 2 + bend * np.sin(np.pi * y / height)
        grey = int(120 + 60 * np.sin(y / rng.uniform(3, 5)))
        draw.line([(middle - 7, y), (middle + 7, y)], fill=grey)
    return image


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def _any_format(image: Image.Image, rng: np.random.Generator) -> bytes:
    """The image in some format that takes its mode."""
    for kind in rng.permutation(_FORMATS):
        try:
            return _encoded(image, str(kind))
        except (OSError, ValueError, KeyError):
            continue
    return _encoded(image.convert("L"), "PNG")


def _bytes_changed(rng: np.random.Generator) -> bytes:
    content = _any_format(_chromosome(rng), rng)
    return damaged(content, rng, len(content) if rng.integers(2) else 120, most=8)


def _mode(rng: np.random.Generator) -> bytes:
    mode = str(rng.choice(_MODES))
    try:
        return _any_format(_chromosome(rng).convert(mode), rng)
    except (OSError, ValueError):
        return _encoded(_chromosome(rng), "PNG")


def _shape(rng: np.random.Generator) -> bytes:
    """Extreme shapes within the limit: squares, lines, nothing, noise, rings, spirals."""
    side = int(rng.choice((1, 2, 3, 30, 255, 1024)))
    other = int(rng.choice((1, 2, side, 1024)))
    choice = int(rng.integers(6))
    image = Image.new("L", (side, other), int(rng.choice((0, 40, 255))))
    draw = ImageDraw.Draw(image)
    if choice == 0:
        image = Image.fromarray(rng.integers(0, 256, (other, side)).astype(np.uint8))
    elif choice == 1:
        draw.rectangle([0, 0, side // 2, other // 2], fill=60)
    elif choice == 2:
        draw.ellipse([0, 0, side - 1, other - 1], outline=50, width=8)
    elif choice == 3:
        turn = np.linspace(0, 60, 4000)
        points = np.stack([side / 2 + turn * 8 * np.cos(turn), other / 2 + turn * 8 * np.sin(turn)])
        draw.line([tuple(point) for point in points.T.tolist()], fill=60, width=4)
    elif choice == 4:
        for y in range(0, other, 2):
            draw.line([(0, y), (side, y)], fill=60)
    return _encoded(image, "PNG")


def _huge(rng: np.random.Generator) -> bytes:
    """A small PNG that says it is huge."""
    side = int(rng.choice((1025, 20_000, 2**31 - 1)))
    header = struct.pack(">IIBBBBB", side, side, 8, int(rng.choice((0, 2, 6))), 0, 0, 0)
    data = zlib.compress(bytes(10_000))
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _frames(rng: np.random.Generator) -> bytes:
    first = _chromosome(rng)
    more = [ImageOps.flip(first), ImageOps.mirror(first)]
    kind = str(rng.choice(("GIF", "TIFF", "WEBP", "PNG")))
    return _encoded(first, kind, save_all=True, append_images=more)


def _treated(rng: np.random.Generator) -> bytes:
    """Light on dark, turned with black corners, framed, transparent or oriented by EXIF."""
    image, choice = _chromosome(rng), int(rng.integers(5))
    if choice == 0:
        image = image.point(lambda grey: 255 - grey)
    elif choice == 1:
        image = image.rotate(float(rng.uniform(5, 85)), expand=True)
    elif choice == 2:
        ImageDraw.Draw(image).rectangle([0, 0, image.width - 1, image.height - 1], outline=0)
    elif choice == 3:
        image.putalpha(image.point(lambda grey: 255 if grey < 250 else 0))
    else:
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(0, 20))
        return _encoded(image, "JPEG", exif=exif)
    return _encoded(image, "PNG")


def _no_image(rng: np.random.Generator) -> bytes:
    choices = (
        b"",
        b"\0" * 1000,
        b"%PDF-1.7",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"BM",
        b"II*\0",
    )
    return bytes(choices[int(rng.integers(len(choices)))]) + rng.bytes(int(rng.integers(200)))


_IMAGES: Final[dict[str, Callable[[np.random.Generator], bytes]]] = {
    "bytes": _bytes_changed,
    "cut": lambda rng: cut(_any_format(_chromosome(rng), rng), rng),
    "mode": _mode,
    "shape": _shape,
    "huge": _huge,
    "frames": _frames,
    "treated": _treated,
    "none": _no_image,
}


def _value(text: str, rng: np.random.Generator) -> bytes:
    """One value replaced by an odd one."""
    lines = [line.split(",") for line in text.strip().split("\n")]
    line = lines[int(rng.integers(len(lines)))]
    line[int(rng.integers(len(line)))] = str(rng.choice(np.array(_VALUES, object)))
    return "\n".join(",".join(line) for line in lines).encode("utf-8", "surrogatepass")


def _repeated(text: str, rng: np.random.Generator) -> bytes:
    """Up to four million times one character, before, in or after the list."""
    mark = str(rng.choice((",", "\n", '"', "\r", " ", ";", "a", "\ufeff", "a,", "\r\n")))
    at = int(rng.integers(len(text)))
    return (text[:at] + mark * int(np.exp(rng.uniform(0, np.log(4e6)))) + text[at:]).encode()


def _written_otherwise(text: str, rng: np.random.Generator) -> bytes:
    encoding = str(rng.choice(("utf-16", "utf-16-be", "utf-32", "latin-1", "utf-8-sig", "utf-7")))
    mark = str(rng.choice((",", ";", "\t", "|", " ,")))
    return text.replace("p,", "\xfc,").replace(",", mark).encode(encoding)


_MANIFESTS: Final[dict[str, Callable[[str, np.random.Generator], bytes]]] = {
    "value": _value,
    "bytes": lambda text, rng: damaged(text.encode(), rng, len(text)),
    "repeated": _repeated,
    "otherwise": _written_otherwise,
}
