"""Chromosomes are told from numbers, lines and logos by their thickness and bands."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from homnet.errors import DataError
from homnet.imaging.page_parts import find_parts
from homnet.imaging.reading import page_of


def page(*, ground=255, zoom=1):
    """Six banded bars with a number under each."""
    draw = np.random.default_rng(0)
    grey = np.full((200, 420), ground, np.uint8)
    for number in range(6):
        left = 30 + 60 * number
        bands = np.repeat(draw.integers(40, 170, 20), 4)[:, None]
        grey[40:120, left : left + 14] = np.minimum(bands, ground)
    image = Image.fromarray(grey).resize((420 * zoom, 200 * zoom))
    pen = ImageDraw.Draw(image)
    for number in range(6):
        at = (37 + 60 * number) * zoom, 132 * zoom
        pen.text(at, str(number + 7), 0, ImageFont.load_default(14 * zoom), anchor="mt")
    return image, pen


@pytest.mark.parametrize("zoom", [1, 3, 8])
def test_blobs_and_words(zoom):
    image, _ = page(zoom=zoom)
    parts = find_parts(page_of(np.asarray(image)))
    assert len(parts.boxes) == 6
    assert len(parts.words) == 6
    assert parts.half_width_px * parts.page_px == pytest.approx(7 * zoom, rel=0.15)
    assert max(parts.darkness_HW.shape) <= 1200
    for number, (top, left, bottom, right) in enumerate(parts.boxes, start=1):
        assert (parts.blob_HW[top:bottom, left:right] == number).any()
        assert (bottom - top) * parts.page_px == pytest.approx(80 * zoom, rel=0.08)


def test_lines_frames_logos_and_colours_are_no_chromosomes():
    image, pen = page(zoom=2)
    pen.line((40, 244, 800, 244), 0, 2)  # 2 pixels below all of them
    pen.rectangle((6, 6, 832, 392), outline=0, width=3)
    pen.ellipse((760, 20, 810, 70), 30)
    colour = image.convert("RGB")
    ImageDraw.Draw(colour).rectangle((300, 10, 420, 60), (200, 30, 30))
    parts = find_parts(page_of(np.asarray(colour)))
    assert len(parts.boxes) == 6
    assert all((box[2] - box[0]) * parts.page_px < 170 for box in parts.boxes)


def test_a_line_that_touches_is_cut_off():
    image, pen = page(zoom=2)
    pen.line((88, 160, 130, 160), 0, 2)  # from the first bar to the second
    parts = find_parts(page_of(np.asarray(image)))
    assert len(parts.boxes) == 6
    assert max(box[3] - box[1] for box in parts.boxes) * parts.page_px < 50


@pytest.mark.parametrize(
    ("box", "joined"),
    [
        ((66, 70, 84, 78), True),  # a satellite above the first bar, over a light stalk
        ((66, 58, 84, 66), False),  # too far away
        ((60, 72, 160, 78), False),  # a line
        ((50, 100, 58, 112), False),  # the tip of an arrow beside it
        ((70, 246, 76, 254), False),  # below it, as a number is
    ],
)
def test_satellites_belong_to_their_chromosome(box, joined):
    image, pen = page(zoom=2)
    pen.rectangle(box, fill=110)
    parts = find_parts(page_of(np.asarray(image)))
    assert len(parts.boxes) == 6
    top, _, bottom, _ = (side * parts.page_px for side in parts.boxes[0])
    assert top == pytest.approx(box[1] if joined else 80, abs=2)
    assert bottom == pytest.approx(240, abs=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda grey: np.full_like(grey, 255), "the page is blank"),
        (lambda grey: np.full_like(grey, 255) - grey // 20, "the page is blank"),
        (lambda grey: 255 - grey, "dark on white"),
        (lambda grey: np.random.default_rng(0).integers(0, 255, grey.shape, np.uint8), "ground"),
    ],
)
def test_other_pages_are_refused(change, message):
    image, _ = page()
    with pytest.raises(DataError, match=message):
        find_parts(page_of(change(np.asarray(image))))
