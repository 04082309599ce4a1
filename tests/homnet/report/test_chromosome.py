"""A chromosome drawn from its sequences."""

import numpy as np
import pytest

from homnet.errors import DataError
from homnet.report.chromosome import (
    Drawing,
    Drawn,
    Sheet,
    chromosome_image,
    draw_pair,
    side_by_side,
    text,
)
from homnet.report.photograph import Photograph
from homnet.report.upright import typical_profile


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
    pair[0] = 0
    (other,) = draw_pair(pair, "7", None, 3.0, 0.5)
    assert other.slot == 1


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_the_shortest_sequences_can_be_drawn(length: int, coarse: bool) -> None:
    pair = np.zeros((2, 2, 512), np.uint8)
    pair[..., :length] = 90
    sheet = Sheet()
    for one in draw_pair(pair, "7", None, 3.0, 0.5, coarse=coarse):
        sheet.put_on_waist(one, 0.0, 10.0)
        assert one.height == length / 2
        assert _drawing(one).grey.min() < 255
    assert sheet.svg()


def _uneven_pair() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    pair = np.zeros((2, 2, 512), np.uint8)
    pair[..., :200] = np.arange(200) + 40
    return pair


def _drawing(one: Drawn) -> Drawing:
    assert isinstance(one.picture, Drawing)
    return one.picture


@pytest.mark.parametrize("coarse", [False, True])
def test_a_homolog_that_lies_upside_down_is_turned(coarse: bool) -> None:
    pair = _uneven_pair()
    typical_F = typical_profile([*pair, *pair])
    pair[1, :, :200] = pair[0, ::-1, 199::-1]
    one, other = draw_pair(pair, "7", typical_F, 3.0, 0.5, coarse=coarse)
    assert [one.upright.flipped, other.upright.flipped] == [False, True]
    np.testing.assert_array_equal(_drawing(one).grey, _drawing(other).grey)
    untouched = draw_pair(pair, "7", None, 3.0, 0.5, coarse=coarse)
    assert not any(one.upright.flipped for one in untouched)


def test_a_coarse_picture_has_the_same_size_and_fewer_pixels() -> None:
    fine, coarse = (
        draw_pair(_uneven_pair(), "7", None, 3.0, 0.5, coarse=c)[0] for c in (False, True)
    )
    assert fine.height == coarse.height
    assert fine.width == pytest.approx(coarse.width, abs=_drawing(coarse).pixel)
    assert _drawing(fine).grey.shape == (100, 20)
    assert _drawing(coarse).grey.shape == (66, 13)
    # Both are dark at the same end.
    for one in map(_drawing, (fine, coarse)):
        assert one.grey[-10:].mean() < one.grey[:10].mean() - 50


def test_a_sheet_is_one_picture_on_whole_pixels() -> None:
    one, other = draw_pair(_uneven_pair(), "7", None, 3.0, 0.5)
    sheet = Sheet()
    assert sheet.svg() == []
    x, top = sheet.put(one, 10.4, 3.2)
    assert (x, top) == (10.0, 3.0)
    sheet.put_on_waist(other, 40.0, 80.0)
    picture, waists = sheet.svg()
    assert picture.count("<image") == 1
    assert 'x="10.00" y="3.00"' in picture
    assert f'width="{40 + other.width - 10:.2f}"' in picture
    assert waists.count("M") == 2
    (unlike, _) = draw_pair(_uneven_pair(), "7", None, 3.0, 0.7)
    sheet.put(unlike, 0.0, 0.0)
    with pytest.raises(DataError, match="one scale"):
        sheet.svg()


def _photograph(name: str, length: int) -> Photograph:
    """A straight photograph of 60 by 20 pixels, two pixels off the middle."""
    border_X2 = np.stack([np.full(length + 1, 12.0), np.linspace(0, 60, length + 1)], axis=1)
    return Photograph(name, b"", 60, 20, border_X2, 7.0)


def test_photographs_stand_in_place_of_drawings_at_the_same_scale() -> None:
    pair = _uneven_pair()
    typical_F = typical_profile([*pair, *pair])
    pair[1, :, :200] = pair[0, ::-1, 199::-1]
    one, other = draw_pair(
        pair, "7", typical_F, 3.0, 0.5, photographs=[_photograph(n, 200) for n in "ab"]
    )
    # One pixel is three samples.
    assert (one.width, one.height, one.half_width) == (30.0, 90.0, 10.5)
    assert one.length == pytest.approx(90.0)
    assert one.border_X2[0].tolist() == [18.0, 0.0]
    assert other.border_X2[0].tolist() == [12.0, 0.0]
    assert 0.3 < one.centromere / one.height < 0.5
    sheet = Sheet()
    assert sheet.put(one, 10.4, 3.2) == (10.4, 3.2)
    sheet.put_on_waist(other, 50.0, 80.0)
    first, second = sheet.svg()  # no picture of drawings, and no waists
    assert first == '<use href="#a" transform="translate(10.4 3.2) scale(1.5)"/>'
    # A negative scale turns it around the corner that is then the first.
    corner = 80 - other.centromere + 90
    assert second == f'<use href="#b" transform="translate(80.0 {corner:.1f}) scale(-1.5)"/>'
    mixed = draw_pair(pair, "7", typical_F, 3.0, 0.5, photographs=(None, _photograph("b", 200)))
    sheet.put_on_waist(mixed[0], 90.0, 80.0)
    assert [part.split()[0] for part in sheet.svg()] == ["<image", "<path", "<use", "<use"]


def test_words_are_escaped() -> None:
    assert "&lt;b&gt;" in text(1.0, 2.0, "<b>")
