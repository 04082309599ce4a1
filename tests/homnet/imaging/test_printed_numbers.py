"""Printed numbers are read in fonts that were not learnt, small and large."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from homnet.imaging.page_parts import Word
from homnet.imaging.printed_numbers import log_likelihoods
from homnet.karyotype.chromosomes import CHROMOSOMES

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
UNSEEN = ("DejaVuSerif-Bold", "DejaVuSansMono-Bold", "cmr10")


def word(text, font, size, blur=0.0):
    image = Image.new("L", (8 * size, 3 * size), 0)
    ImageDraw.Draw(image).text((size, size), text, 255, ImageFont.truetype(FONTS / font, size))
    ink_HW = np.asarray(image, np.float32) / 255
    if blur:
        ink_HW = ndimage.gaussian_filter(ink_HW, blur)
    rows, columns = np.nonzero(ink_HW > 0.25)
    box = int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1
    inside_HW = ink_HW[box[0] : box[2], box[1] : box[3]]
    return Word(box, inside_HW / inside_HW.max())


@pytest.mark.parametrize("font", UNSEEN)
@pytest.mark.parametrize(("size", "blur"), [(11, 0.0), (14, 0.7), (40, 1.0)])
def test_names_in_unseen_fonts(font, size, blur):
    words = [word(name, f"{font}.ttf", size, blur) for name in CHROMOSOMES]
    log_NT = log_likelihoods(words)
    right = log_NT.argmax(axis=1) == np.arange(len(CHROMOSOMES))
    assert right.mean() > 0.85
    # What is wrong is not certain.
    assert (log_NT.max(axis=1)[~right] < 5).all()
    assert (log_NT.max(axis=1) > 0).mean() > 0.85


def test_other_words_name_no_type():
    words = [word(text, "DejaVuSans.ttf", 16) for text in ("Slide", "chromosomes", "46,XX", "case")]
    assert (log_likelihoods(words).max(axis=1) < 0).all()


def test_no_words():
    assert log_likelihoods([]).shape == (0, len(CHROMOSOMES))
