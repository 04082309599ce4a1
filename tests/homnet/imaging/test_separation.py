"""A seam runs between two that touch; through one, or through two that cross, it is dark."""

import numpy as np
import pytest
from scipy import ndimage

from homnet.imaging.separation import find_seam

PX = 16


def bands(height, seed):
    draw = np.random.default_rng(seed)
    return ndimage.gaussian_filter1d(draw.uniform(0.4, 1.0, height), 3)


def chromosome(page, left, seed, *, angle=0.0):
    """Adds a banded bar with soft edges, 16 pixels wide."""
    height, width = 90, PX
    bar = np.zeros((110, 60), np.float32)
    bar[10:100, 22 : 22 + width] = bands(height, seed)[:, None]
    bar = ndimage.gaussian_filter(ndimage.rotate(bar, angle, reshape=False, order=1), 1.5)
    part = page[:, left : left + 60]
    np.maximum(part, bar, out=part)


def seam_of(page):
    return find_seam(page > 0.2, page)


@pytest.mark.parametrize("between", [17, 18])
def test_two_that_touch(between):
    page = np.zeros((110, 120), np.float32)
    chromosome(page, 10, 1)
    chromosome(page, 10 + between, 2)
    seam = seam_of(page)
    assert seam.log_odds > 0
    assert seam.log_odds > seam.log_crossed
    edge = 10 + 22 + between
    assert seam.left_HW.any()
    assert seam.right_HW.any()
    assert np.nonzero(seam.left_HW)[1].max() <= edge + 4
    assert np.nonzero(seam.right_HW)[1].min() >= edge - 5
    assert not (seam.left_HW & seam.right_HW).any()
    assert seam.left_HW.sum() == pytest.approx(seam.right_HW.sum(), rel=0.15)


def test_the_line_between_chromatids_is_not_that_between_chromosomes():
    """It is lighter than where two of them touch, and has a quarter of the area on one side."""
    page = np.zeros((110, 120), np.float32)
    for left in (30, 62):
        for chromatid in (0, 16):
            at = left + chromatid
            page[10:100, at : at + 14] = 0.9
            page[10:100, at + 14 : at + 16] = 0.25 if chromatid == 0 else 0.4
    page[10:100, 92:94] = 0.0
    seam = find_seam(page > 0.2, page)
    assert seam.left_HW.sum() == pytest.approx(seam.right_HW.sum(), rel=0.1)
    assert seam.lightest < seam.darkness


def test_two_that_cross():
    page = np.zeros((110, 120), np.float32)
    chromosome(page, 30, 1, angle=30)
    chromosome(page, 30, 2, angle=-30)
    seam = seam_of(page)
    assert seam is None or seam.log_odds < 0


def test_one_that_is_bent():
    page = np.zeros((110, 120), np.float32)
    chromosome(page, 20, 1, angle=30)
    seam = seam_of(page)
    assert seam is None or seam.log_odds < 0
