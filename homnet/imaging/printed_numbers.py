"""Reads the numbers that are printed under the chromosomes of a karyogram, and other known words.

A word is compared with all names that it may be, such as those of the 24 types, set in the fonts
that come with matplotlib and Pillow. Whole words are compared, because the letters of small prints
touch.

Shape suffixes: H rows, W columns of a word stretched to a fixed size, K printed names (names times
fonts), T names, D pixels of a stretched word.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from scipy.special import log_softmax

from homnet.imaging.page_parts import Word
from homnet.karyotype.chromosomes import CHROMOSOMES

Floats = NDArray[np.float64]

_FONTS: Final = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono",
    "DejaVuSerif",
    "STIXGeneral",
    "STIXGeneralBol",
    "cmss10",
)
"""Font files of matplotlib; the others are like one of them."""
_FONT_PX: Final = (11, 40)
"""Sizes in which the names are set: small letters are rounder."""
_SHAPE: Final = (20, 20)
"""Height and width of a stretched word."""
_BLUR: Final = 1.0
"""Blur of a stretched word in pixels: fonts differ in the thickness of their strokes."""
_ASPECT_WEIGHT: Final = 0.35
"""Decrease of the likeness per unit of log ratio of width over height."""
_SHARPNESS: Final = 25.0
"""Logits per unit of likeness."""
_NO_NAME: Final = 0.72
"""Likeness of words that are no name of a type."""


def log_likelihoods(words: Sequence[Word], names: tuple[str, ...] = CHROMOSOMES) -> Floats:
    """Log likelihood of each name (N, T), relative to that of a word that is none of them.

    Args:
        words: N words.
        names: T names; by default those of the types.
    """
    if not words:
        return np.zeros((0, len(names)))
    looks_ND = np.stack([_look(word.darkness_HW) for word in words])
    aspect_N = np.array([_aspect(word.darkness_HW) for word in words])
    names_KD, aspect_K, name_K = _printed(names)
    likeness_NK = looks_ND @ names_KD.T
    likeness_NK -= _ASPECT_WEIGHT * np.abs(aspect_N[:, None] - aspect_K)
    likeness_NT = np.stack(
        [likeness_NK[:, name_K == number].max(axis=1) for number in range(len(names))],
        axis=1,
    )
    none_N1 = np.full((len(words), 1), _NO_NAME)
    log_NT = log_softmax(_SHARPNESS * np.concatenate([likeness_NT, none_N1], axis=1), axis=1)
    return np.asarray(log_NT[:, :-1] - log_NT[:, -1:], np.float64)


@cache
def _printed(names: tuple[str, ...]) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Looks, aspects and numbers of all names in all fonts."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    looks, aspects, numbers = [], [], []
    for size in _FONT_PX:
        fonts: list[Any] = [ImageFont.truetype(folder / f"{name}.ttf", size) for name in _FONTS]
        for font in (*fonts, ImageFont.load_default(size)):
            for number, name in enumerate(names):
                image = Image.new("L", (len(name) * size + 2 * size, 3 * size), 0)
                ImageDraw.Draw(image).text((size, size), name, 255, font)
                ink_HW = np.asarray(image.crop(image.getbbox()), np.float32) / np.float32(255)
                looks.append(_look(ink_HW))
                aspects.append(_aspect(ink_HW))
                numbers.append(number)
    return np.stack(looks), np.array(aspects), np.array(numbers)


def _look(darkness_HW: NDArray[np.float32]) -> Floats:
    """A word stretched to a fixed size, of mean 0 and length 1."""
    image = Image.fromarray(np.ascontiguousarray(darkness_HW, np.float32))
    stretched = image.resize(_SHAPE[::-1], Image.Resampling.BILINEAR)
    flat_D = gaussian_filter(np.asarray(stretched, np.float64), _BLUR).ravel()
    flat_D = flat_D - flat_D.mean()
    return np.asarray(flat_D / max(float(np.linalg.norm(flat_D)), 1e-9), np.float64)


def _aspect(darkness_HW: NDArray[np.float32]) -> float:
    height, width = darkness_HW.shape
    return float(np.log(width / height))
