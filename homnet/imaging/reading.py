"""Reads image files as grey levels, as a viewer shows them on white.

Shape suffixes: H rows, W columns, 3 and 4 colour channels without and with opacity.
"""

import errno
import io
import math
import re
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from homnet.errors import DataError, StoreError
from homnet.locations import Location, RemotePath

FORMATS: Final = ("PNG", "TIFF", "JPEG", "BMP", "GIF", "WEBP")
"""Formats that are read, by Pillow's names."""
MAX_BYTES: Final = 32 * 2**20
"""Largest file of an image of one chromosome."""
NO_FILE: Final = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR)
"""Errors of a name that no file can have, or that a folder has; others may pass."""
_MAX_SCANS: Final = 100
"""Scans of a JPEG: each costs time, and needs few bytes."""
_TILE_TAGS: Final = (322, 323)
"""Width and length of a TIFF's tiles, which are decoded whole."""
_BITS: Final = 258
"""Tag of the bits of each channel of a TIFF."""
_KIND: Final = 254
"""Tag of what a page of a TIFF is; an odd number means a smaller copy of another."""
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_BITS: Final = 24
"""Place of the bits of a channel in a PNG."""
_DESCRIPTION: Final = 270
"""Tag of a TIFF's description."""
_RESOLUTION: Final = 282
"""Tag of a TIFF's pixels per unit across."""
_UNITS_UM: Final = {
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "\\u00B5m"), 1.0),
    **{"nm": 1e-3, "mm": 1e3, "cm": 1e4, "inch": 25_400.0},
}
"""Micrometres per unit; both letters that look like a µ are in use, and ImageJ writes an escape."""
_ROWS: Final = 256
"""Rows of an image that are converted at a time."""
_MAX_COLOUR: Final = 8
"""Difference of colour channels in a grey image: JPEG rounds its colours."""
_OTHER_DEPTHS: Final = {"1": "1 bit", "F": "floating-point levels", "CMYK": "printing colours"}
"""What a mode of Pillow means; those that begin with I have 16 or 32 bits."""


def read_grey(source: Location | IO[bytes], *, max_side_px: int) -> NDArray[np.uint8]:
    """Reads an 8-bit grey image (H, W), which may be stored as colour.

    A stored orientation is applied, and transparent pixels are white. Nothing is decoded before
    size, depth and number of frames are known to be allowed.

    Raises:
        DataError: the file is missing, damaged, too large, of another format, of several frames,
            or not 8-bit grey.
        StoreError: the disk or store does not give it; that says nothing of the image.
    """
    page = read_page(source, max_side_px=max_side_px, max_bytes=MAX_BYTES)
    if page.coloured_HW.any():
        raise DataError("a colour image, not a grey one")
    return page.grey_HW


@dataclass(frozen=True)
class Page:
    """A picture with grey content and perhaps coloured annotations."""

    grey_HW: NDArray[np.uint8]
    """Grey levels; of a coloured pixel its darkest channel."""
    coloured_HW: NDArray[np.bool_]
    """Pixels that are not grey."""
    px_per_um: float | None = None
    """Pixels per micrometre by the resolution that the file states."""


def read_page(source: Location | IO[bytes], *, max_side_px: int, max_bytes: int) -> Page:
    """Reads an 8-bit image that may hold coloured annotations; see :func:`read_grey`.

    Raises:
        DataError, StoreError: as :func:`read_grey`, but for colours.
    """
    try:
        content = read_content(source, max_bytes)
    except FileNotFoundError:
        raise DataError("the image file is missing") from None
    if len(content) > max_bytes:
        raise DataError(f"the image file has more than {max_bytes} bytes")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check(image, content, max_side_px)
            del content
            px_per_um = _stated_scale(image)
            # A page is large: it is turned in place, and rows are converted one part at a time.
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode == "L" and "transparency" not in image.info:
                grey_HW = np.array(image)
                return Page(grey_HW, np.zeros(grey_HW.shape, bool), px_per_um)
            return replace(_grey_and_colour(image), px_per_um=px_per_um)
    except (DataError, MemoryError):  # a lack of memory says nothing of the image
        raise
    except Image.DecompressionBombError:
        raise DataError(f"the image is larger than {max_side_px} pixels") from None
    except UnidentifiedImageError:
        raise DataError(
            f"the image file is damaged (or none of {', '.join(FORMATS)}); save it as PNG"
        ) from None
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise DataError(f"the image file is damaged ({type(error).__name__})") from None


def read_content(source: Location | IO[bytes], max_bytes: int) -> bytes:
    """The first ``max_bytes + 1`` bytes of an image file: one that has them is too large.

    Raises:
        FileNotFoundError: there is no such file, or a folder has its name.
        StoreError: the disk or store does not give it.
    """
    try:
        if isinstance(source, RemotePath):
            with source.asking() as system, system.open_input_stream(source.key) as stream:
                content: bytes = stream.read(max_bytes + 1)
                return content
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
            file.seek(0)
            return file.read(max_bytes + 1)
    except (FileNotFoundError, StoreError):
        raise
    except OSError as error:
        if error.errno in NO_FILE:
            raise FileNotFoundError(f"{source}: {error.strerror}") from None
        raise unreadable(source, error) from None


def unreadable(where: object, error: OSError) -> StoreError:
    """The error of a file that is perhaps there, but that the disk does not give."""
    return StoreError(
        f"{where}: cannot be read ({error.strerror or error}); give access to it, then repeat the "
        "command"
    )


def _stated_scale(image: Image.Image) -> float | None:
    """Pixels per micrometre by the file; None if it states none that can be."""
    try:
        px_per_um = _resolution(image)
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError):
        return None
    return px_per_um if 0 < px_per_um < math.inf else None


def _resolution(image: Image.Image) -> float:
    """Pixels per micrometre by OME, by ImageJ, or by the resolution per inch."""
    tags = getattr(image, "tag_v2", {})
    described = str(tags.get(_DESCRIPTION, ""))
    if found := re.search(r'\bPhysicalSizeX="([^"]+)"', described):
        unit = re.search(r'\bPhysicalSizeXUnit="([^"]+)"', described)
        return 1 / (float(found[1]) * _UNITS_UM[unit[1] if unit else "µm"])
    if described.startswith("ImageJ="):
        unit = re.search(r"^unit=(.+)$", described, re.MULTILINE)
        return float(tags[_RESOLUTION]) / _UNITS_UM[unit[1].strip() if unit else ""]
    return float(image.info["dpi"][0]) / _UNITS_UM["inch"]


def page_of(image: NDArray[np.uint8]) -> Page:
    """The page of grey levels (H, W) or colours (H, W, 3)."""
    return _grey_and_colour(Image.fromarray(image))


def _grey_and_colour(image: Image.Image) -> Page:
    """Separates grey and coloured pixels, some rows at a time: a page has many."""
    width, height = image.size
    grey_HW, coloured_HW = np.empty((height, width), np.uint8), np.empty((height, width), bool)
    for top in range(0, height, _ROWS):
        rows = slice(top, min(top + _ROWS, height))
        first, second, third = _shown(image.crop((0, rows.start, width, rows.stop)))
        darkest_HW = np.minimum(np.minimum(first, second), third)
        lightest_HW = np.maximum(np.maximum(first, second), third)
        coloured_HW[rows] = lightest_HW - darkest_HW > _MAX_COLOUR
        grey_HW[rows] = np.where(coloured_HW[rows], darkest_HW, first)
    return Page(grey_HW, coloured_HW)


def _shown(image: Image.Image) -> list[NDArray[np.uint8]]:
    """Red, green and blue of an image as a viewer shows it on white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return [np.asarray(channel) for channel in image.split()]
    rgba_HW4 = np.asarray(image.convert("RGBA")).astype(np.uint16)
    opaque_HW1 = rgba_HW4[..., 3:]
    shown_HW3 = (rgba_HW4[..., :3] * opaque_HW1 + 255 * (255 - opaque_HW1) + 127) // 255
    return [shown_HW3[..., channel].astype(np.uint8) for channel in range(3)]


def _check(image: Image.Image, content: bytes, max_side_px: int) -> None:
    """Checks what an image's header says.

    Raises:
        DataError: it is not a single 8-bit image of allowed size.
    """
    tags = getattr(image, "tag_v2", {})
    if max(*image.size, *(tags.get(tag, 0) for tag in _TILE_TAGS)) > max_side_px:
        raise DataError(f"the image is larger than {max_side_px} pixels")
    if getattr(image, "is_animated", False):
        raise DataError("the file has several frames or pages; save one image of one chromosome")
    if image.mode not in ("L", "LA", "P", "PA", "RGB", "RGBA"):
        depth = _OTHER_DEPTHS.get(
            image.mode, "16 bits or more" if image.mode[0] == "I" else image.mode
        )
        raise DataError(f"not an 8-bit grey image ({depth}); save it with 256 grey levels")
    # Of colours and opacity, Pillow keeps the upper eight bits without a word.
    bits = [content[_PNG_BITS]] if content.startswith(_PNG) else np.ravel(tags.get(_BITS, 8))
    if max(bits) > 8:
        raise DataError(
            f"not an 8-bit image ({max(bits)} bits a channel); save it with 256 grey levels"
        )
    if tags.get(_KIND, 0) & 1:
        raise DataError("the first page of the file is a smaller copy; save the image alone")
    if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") > _MAX_SCANS:
        raise DataError(f"a JPEG of more than {_MAX_SCANS} scans; save it as PNG")
