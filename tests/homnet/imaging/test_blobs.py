"""Blobs of a page: rows, and the ways to read what touches."""

import numpy as np

from homnet.imaging.blobs import find_blobs, resized
from homnet.imaging.page_parts import find_parts
from homnet.imaging.reading import page_of


def page(columns_of_rows):
    """Banded bars of 14 by 80 pixels at these columns of each row."""
    draw = np.random.default_rng(0)
    grey_HW = np.full((60 + 110 * len(columns_of_rows), 420), 255, np.uint8)
    for row, columns in enumerate(columns_of_rows):
        for left in columns:
            bands = np.repeat(draw.integers(40, 170, 20), 4)[:, None]
            top = 30 + 110 * row + 3 * (left % 5)
            grey_HW[top : top + 80, left : left + 14] = bands
    return page_of(grey_HW)


def test_blobs_come_in_reading_order():
    picture = page([(40, 120, 300), (80, 350)])
    blobs = find_blobs(picture, find_parts(picture))
    assert [blob.row for blob in blobs] == [0, 0, 0, 1, 1]
    assert [round(blob.box[1], -1) for blob in blobs] == [40, 120, 300, 80, 350]
    for blob in blobs:
        (way,) = blob.ways
        (piece,) = way.pieces
        assert not piece.fault
        assert piece.length_px > 4 * piece.width_px
        np.testing.assert_allclose(np.exp(piece.log_T).sum(), 1.0)


def test_what_is_wide_is_read_as_one_and_as_several():
    picture = page([(40, 55, 200)])  # a pixel of light between the first two
    wide, narrow = find_blobs(picture, find_parts(picture))
    assert len(narrow.ways) == 1
    assert [len(way.pieces) for way in wide.ways] == [1, 2, 2]
    divided, crossed = wide.ways[1:]
    left, right = divided.pieces
    assert left.box[3] <= right.box[1] + 3
    for piece in (left, right):
        assert piece.mask_HW.sum() > 0.7 * narrow.ways[0].pieces[0].mask_HW.sum()
    assert all("crosses" in piece.fault for piece in crossed.pieces)


def test_resized_keeps_the_levels():
    image = np.full((40, 20), 200, np.uint8)
    assert resized(image, 0.5).shape == (20, 10)
    assert (resized(image, 1.7) == 200).all()
