"""Draws what was found on a karyogram over its picture, for people to check.

Chromosomes that are used have a green outline and their type; those that are left out a red one and
a question mark.
"""

from typing import Final

from PIL import Image, ImageDraw, ImageFont

from homnet.imaging.karyogram import Karyogram
from homnet.imaging.reading import Page

_USED: Final = (0, 135, 60)
_LEFT_OUT: Final = (205, 30, 30)
_WIDTH_PX: Final = 1600
"""Width of the drawing at most."""


def draw_outlines(page: Page, karyogram: Karyogram) -> Image.Image:
    """Draws the outlines of all chromosomes over the picture.

    Args:
        page: the picture.
        karyogram: what was found on it.
    """
    height, width = page.grey_HW.shape
    zoom = min(1.0, _WIDTH_PX / width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    drawing = Image.fromarray(page.grey_HW).resize(size, Image.Resampling.BOX).convert("RGB")
    pen = ImageDraw.Draw(drawing)
    line_px = max(1, round(size[0] / 700))
    font = ImageFont.load_default(max(10, size[0] / 75))
    for one in karyogram.chromosomes:
        colour = _LEFT_OUT if one.reason else _USED
        points = [(column * zoom, row * zoom) for row, column in one.outline_K2]
        pen.line(points, colour, line_px)
        top, left, _, right = one.box
        at = (left + right) / 2 * zoom, top * zoom - 2 * line_px
        pen.text(at, "?" if one.reason else one.chromosome, colour, font, anchor="mb")
    return drawing
