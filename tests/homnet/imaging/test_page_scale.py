"""A scale bar or the file's resolution is believed where the chromosomes' lengths agree."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from homnet.imaging.page_parts import Bar, Word
from homnet.imaging.page_scale import find_scale

BAR = Bar((100, 200, 104, 360), 160.0)


def words(text: str, row: int = 80, column: int = 280) -> list[Word]:
    """A text above the bar, one word per group of letters."""
    found, font = [], ImageFont.load_default(16)
    at = float(column) - font.getlength(text) / 2
    for part in text.split(" "):
        image = Image.new("L", (200, 40))
        ImageDraw.Draw(image).text((20, 10), part, 255, font)
        ink_HW = np.asarray(image.crop(image.getbbox()), np.float32) / 255
        height, width = ink_HW.shape
        # Small letters stand on the line of the digits.
        box = (row + 12 - height, round(at), row + 12, round(at) + width)
        found.append(Word(box, ink_HW))
        at += font.getlength(part + " ")
    return found


@pytest.mark.parametrize(
    ("label", "estimate", "px_per_um"),
    [("10 um", 14.0, 16.0), ("10um", 20.0, 16.0), ("5 um", 30.0, 32.0), ("20 um", 8.0, 8.0)],
)
def test_a_bar_with_its_length_is_exact(label: str, estimate: float, px_per_um: float) -> None:
    found = find_scale(estimate, [BAR], words(label), None)
    assert (found.px_per_um, found.source) == (px_per_um, "scale bar")


@pytest.mark.parametrize(
    ("bars", "label", "estimate"),
    [
        ([], "10 um", 16.0),  # no bar
        ([BAR], "", 16.0),  # no label
        ([BAR], "13", 16.0),  # a line under a pair
        ([BAR], "case 10", 16.0),
    ],
)
def test_what_is_no_scale_bar_is_not_believed(bars: list[Bar], label: str, estimate: float) -> None:
    near = words(label) if label else []
    found = find_scale(estimate, bars, near, None)
    assert (found.px_per_um, found.source) == (estimate, "chromosomes")


def test_a_bar_that_the_chromosomes_contradict_is_not_believed_and_said() -> None:
    """They would be half as long as they are."""
    found = find_scale(30.0, [BAR], words("10 um"), None)
    assert (found.px_per_um, found.source) == (30.0, "chromosomes (against the scale bar)")
    assert find_scale(30.0, [BAR], words("10 um"), 29.0).source == "file"


def test_a_label_far_from_the_bar_is_not_its_own() -> None:
    for place in ({"row": 20}, {"column": 600}):
        assert find_scale(16.0, [BAR], words("10 um", **place), None).source == "chromosomes"


@pytest.mark.parametrize(
    ("stated", "source"), [(15.0, "file"), (0.0118, "chromosomes"), (40.0, "chromosomes")]
)
def test_the_resolution_of_a_printer_is_not_believed(stated: float, source: str) -> None:
    assert find_scale(16.0, [], [], stated).source == source
    assert find_scale(16.0, [BAR], words("10 um"), stated).source == "scale bar"
