"""Chromosomes are cut out of their images, and each sample lies where it was measured."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from homnet.imaging.extraction import ExtractionConfig, extract
from homnet.imaging.orientation import turn
from homnet.report.photograph import Photograph, album, photographs_of
from homnet.simulator.drawing import centre_line, draw_chromosome

NUM = 300
CONFIG = ExtractionConfig(samples_per_px=3.0)


def image_of(bend: float = 0.0, *, samples_per_px: float = 3.0, seed: int = 0) -> np.ndarray:
    """A banded chromosome on grey, beside a spot; ``bend`` is its turn in radians."""
    profile_CL = 110 + 60 * np.sin(np.arange(NUM) / 11) + np.zeros((2, 1))
    profile_CL[:, 60:100] = 190.0
    line = centre_line(bend * np.linspace(-0.5, 0.5, NUM), 1 / samples_per_px)
    drawn = draw_chromosome(
        profile_CL,
        line,
        21.0 / samples_per_px,
        samples_per_px=samples_per_px,
        generator=np.random.default_rng(seed),
        noise_sd=1.0,
    )
    image_HW = np.pad(drawn.image_HW, ((0, 0), (0, 12)), constant_values=255)
    image_HW[-6:-3, -5:-2] = 100
    return np.asarray(image_HW * 0.9, np.uint8)


def measured(image_HW: np.ndarray, samples_per_px: float = 3.0) -> np.ndarray:
    sequence_CL = extract(image_HW, ExtractionConfig(samples_per_px=samples_per_px)).sequence_CL
    assert sequence_CL is not None
    return sequence_CL


def pixels(one: Photograph | None) -> np.ndarray:
    assert one is not None
    return np.asarray(Image.open(io.BytesIO(one.picture)).convert("L"), int)


def greys_along(one: Photograph | None) -> np.ndarray:
    """Grey levels of the picture in the middle of each sample."""
    assert one is not None
    picture_HW = pixels(one)
    zoom = picture_HW.shape[0] / one.height_px
    middle = zoom * (one.border_X2[1:] + one.border_X2[:-1]) / 2
    x, y = np.clip(middle.astype(int), 0, np.array(picture_HW.shape)[::-1] - 1).T
    return picture_HW[y, x]


@pytest.mark.parametrize("samples_per_px", [3.0, 0.8])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bend", [0.0, 1.2, -2.0])
def test_samples_lie_where_they_were_measured(
    bend: float, turned: bool, samples_per_px: float
) -> None:
    image_HW = image_of(bend, samples_per_px=samples_per_px)
    sequence_CL = measured(image_HW, samples_per_px)
    if turned:
        image_HW = image_HW[::-1, ::-1]
        sequence_CL = turn(measured(image_HW, samples_per_px)[None])[0]
    pair_PCL = np.stack([sequence_CL, np.zeros_like(sequence_CL)])
    one, missing = photographs_of(
        pair_PCL, [image_HW], config=ExtractionConfig(samples_per_px=samples_per_px), name="p"
    )
    assert missing is None
    grey_L = greys_along(one)
    assert len(grey_L) == np.count_nonzero(sequence_CL[0])
    sequence_L = sequence_CL[:, : len(grey_L)].mean(axis=0)
    assert np.corrcoef(255 - grey_L, sequence_L)[0, 1] > 0.97
    # The short arm is up, the ground is white, the spot was left out.
    assert one is not None
    assert one.border_X2[0, 1] < one.border_X2[-1, 1]
    assert np.percentile(pixels(one)[[0, -1]], 75) > 250
    assert one.width_px < image_HW.shape[1] - 12
    # Twice as many pixels as samples would show nothing more.
    assert pixels(one).shape[0] <= NUM / 2 + 8


def test_images_are_found_by_their_sequences_and_others_are_not_shown() -> None:
    images = [image_of(0.3, seed=seed) for seed in range(3)]
    first, second = map(measured, images[:2])
    pair_PCL = np.stack([second, first])

    def shown(*which: np.ndarray) -> list[bool]:
        found = photographs_of(pair_PCL, which, config=CONFIG, name="p")
        return [one is not None for one in found]

    assert shown(images[0], images[1]) == [True, True]
    assert shown(images[1]) == [True, False]
    assert shown(images[0]) == [False, True]
    assert shown(images[2]) == shown() == [False, False]
    blank = np.full((40, 20), 255, np.uint8)
    assert shown(blank, images[0]) == [False, True]
    one, other = photographs_of(pair_PCL, images[:2], config=CONFIG, name="p")
    assert one is not None
    assert other is not None
    assert (one.name, other.name) == ("p-0", "p-1")
    direct = photographs_of(np.stack([first] * 2), images[:1], config=CONFIG, name="p")
    assert direct[0] is not None
    assert other.picture == direct[0].picture


def test_without_measuring_the_same_picture_has_a_straight_axis() -> None:
    images = [image_of(0.0), image_of(0.1, seed=1)]
    pair_PCL = np.stack(list(map(measured, images)))
    exact, straight = (
        photographs_of(pair_PCL, images, config=CONFIG, name="p", measured=again)
        for again in (True, False)
    )
    for one, other in zip(exact, straight, strict=True):
        assert one is not None
        assert other is not None
        assert one.picture == other.picture
        np.testing.assert_allclose(one.border_X2, other.border_X2, atol=3.0)
    # Which of two homologs one image shows is not known without measuring it.
    alone = photographs_of(pair_PCL, images[1:], config=CONFIG, name="p", measured=False)
    assert [one is not None for one in alone] == [False, True]


def test_an_album_holds_each_picture_once() -> None:
    image_HW = image_of()
    pair_PCL = np.stack([measured(image_HW)] * 2)
    pair = photographs_of(pair_PCL, [image_HW], config=CONFIG, name="p")
    text = album(one for one in pair if one is not None)
    assert re.findall(r'<image id="([^"]*)"', text) == ["p-0", "p-1"]
    assert album([]) == ""
