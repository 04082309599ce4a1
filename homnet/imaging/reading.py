"""Reads image files of single chromosomes as grey levels, as a viewer shows them on white.

Shape suffixes: H rows, W columns, 3 and 4 colour channels without and with opacity.
"""

import io
from contextlib import nullcontext
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from homnet.errors import DataError
from homnet.locations import Location

FORMATS: Final = ("PNG", "TIFF", "JPEG", "BMP", "GIF", "WEBP")
"""Formats that are read, by Pillow's names."""
_MAX_BYTES: Final = 32 * 2**20
_MAX_SCANS: Final = 100
"""Scans of a JPEG: each costs time, and needs few bytes."""
_TILE_TAGS: Final = (322, 323)
"""Width and length of a TIFF's tiles, which are decoded whole."""
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
    """
    try:
        with source.open("rb") if isinstance(source, Location) else nullcontext(source) as file:
            file.seek(0)
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise DataError(f"the image file has more than {_MAX_BYTES} bytes")
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check(image, content, max_side_px)
            upright = ImageOps.exif_transpose(image)
        if upright.mode == "L" and "transparency" not in upright.info:
            return np.asarray(upright)
        rgba_HW4 = np.asarray(upright.convert("RGBA")).astype(np.uint16)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("the image file is missing") from None
    except Image.DecompressionBombError:
        raise DataError(f"the image is larger than {max_side_px} pixels") from None
    except UnidentifiedImageError:
        raise DataError(
            f"the image file is damaged (or none of {', '.join(FORMATS)}); save it as PNG"
        ) from None
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise DataError(f"the image file is damaged ({type(error).__name__})") from None
    opaque_HW1 = rgba_HW4[..., 3:]
    shown_HW3 = (rgba_HW4[..., :3] * opaque_HW1 + 255 * (255 - opaque_HW1) + 127) // 255
    if np.ptp(shown_HW3, axis=-1).max(initial=0) > _MAX_COLOUR:
        raise DataError("a colour image, not a grey one")
    return shown_HW3[..., 0].astype(np.uint8)


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
    if image.format in ("JPEG", "MPO") and content.count(b"\xff\xda") > _MAX_SCANS:
        raise DataError(f"a JPEG of more than {_MAX_SCANS} scans; save it as PNG")
