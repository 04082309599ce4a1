"""The drawing shows used and left-out chromosomes in their colours, at a readable size."""

import numpy as np

from homnet.imaging.karyogram import FoundChromosome, Karyogram
from homnet.imaging.layouts import LAYOUTS
from homnet.imaging.outlines import draw_outlines
from homnet.imaging.page_scale import Scale
from homnet.imaging.reading import page_of


def found(left, reason):
    outline = np.array([[40, left], [40, left + 40], [200, left + 40], [200, left], [40, left]])
    return FoundChromosome(
        box=(40, left, 200, left + 40),
        outline_K2=outline.astype(float),
        chromosome="" if reason else "7",
        homolog=0,
        probability=0.99,
        flags=(),
        reason=reason,
        length_px=160.0,
        sequence_CL=None,
        image_HW=np.full((160, 40), 90, np.uint8),
    )


def test_colours_say_what_is_used():
    page = page_of(np.full((300, 3200), 250, np.uint8))
    karyogram = Karyogram(
        (found(400, ""), found(2000, "it crosses another")),
        LAYOUTS[0],
        Scale(16.0, "chromosomes"),
    )
    drawing = np.asarray(draw_outlines(page, karyogram)).astype(int)
    assert drawing.shape == (150, 1600, 3)
    green = (drawing[..., 1] - drawing[..., 0] > 60).nonzero()[1]
    red = (drawing[..., 0] - drawing[..., 1] > 60).nonzero()[1]
    assert 190 <= green.min() < green.max() <= 230
    assert 990 <= red.min() < red.max() <= 1030
