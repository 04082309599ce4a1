"""A chromosome drawn from its sequences."""

import numpy as np
import pytest

from homnet.errors import DataError
from homnet.report.chromosome import chromosome_image, draw_pair, side_by_side, text


def test_chromosome_image_has_both_chromatids_and_round_ends() -> None:
    sequence = np.zeros((2, 512), np.uint8)
    sequence[0, :90], sequence[1, :90] = 200, 40
    sequence[0, :5] = 100
    image = chromosome_image(sequence, 30)
    assert image.shape == (90, 30)
    assert image[45, 0] == 55
    assert image[45, -1] == 215
    assert image[0, 0] == image[-1, -1] == 255
    assert image[2, 13] > image[45, 13]


def test_an_empty_sequence_cannot_be_drawn() -> None:
    with pytest.raises(DataError, match="empty"):
        chromosome_image(np.zeros((2, 512), np.uint8), 30)


def test_a_missing_homolog_is_not_drawn_and_the_others_stand_around_the_middle() -> None:
    pair = np.zeros((2, 2, 512), np.uint8)
    pair[..., :200] = np.arange(200) % 90 + 60
    both = draw_pair(pair, "7", None, 3.0, 0.5)
    assert [one.height for one in both] == [100.0, 100.0]
    left, right = side_by_side(both, 50.0, gap=4.0)
    assert left + (right + both[1].width) == 100.0
    assert right - left == both[0].width + 4.0
    pair[1] = 0
    assert len(draw_pair(pair, "7", None, 3.0, 0.5)) == 1


def test_words_are_escaped() -> None:
    assert "&lt;b&gt;" in text(1.0, 2.0, "<b>")
