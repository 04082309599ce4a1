"""A border that is not background is refused by name; what a chromosome does there is not."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from homnet.imaging.extraction import ExtractionConfig, extract
from homnet.simulator.drawing import centre_line, draw_chromosome

NUM = 3 * 60
PROFILE_CL = 120 + 60 * np.sin(np.arange(NUM) / 9) + np.zeros((2, 1))
IMAGE = draw_chromosome(
    PROFILE_CL,
    centre_line(np.zeros(NUM), 1 / 3),
    7.0,
    samples_per_px=3.0,
    generator=np.random.default_rng(0),
).image_HW
MASK = ndimage.binary_fill_holes(IMAGE < 215)
TIGHT = IMAGE[ndimage.find_objects(MASK.astype(int))[0]]
CUT = np.where(ndimage.binary_dilation(MASK, iterations=2), IMAGE, 0).astype(np.uint8)


def compact(num_px: int, darkness: float) -> np.ndarray:
    """A chromosome that fills a rectangle, with one broad dark band."""
    profile_CL = np.full((2, 3 * num_px), 70.0)
    profile_CL[:, num_px // 2 : 4 * num_px // 3] = darkness
    return draw_chromosome(
        profile_CL,
        centre_line(np.zeros(3 * num_px), 1 / 3),
        7.0,
        samples_per_px=3.0,
        generator=np.random.default_rng(0),
    ).image_HW


def drawn(bands: np.ndarray) -> np.ndarray:
    """A bar with bands, as people draw a chromosome."""
    return np.pad(np.repeat(bands[:, None], 16, axis=1), 10, constant_values=255).astype(np.uint8)


def turned(image: np.ndarray, degrees: float, ground: int) -> np.ndarray:
    canvas = Image.fromarray(image)
    return np.asarray(canvas.rotate(degrees, Image.Resampling.BICUBIC, True, fillcolor=ground))


def noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (255 - IMAGE, "border is dark"),
        (255 - TIGHT, "border is dark"),
        (noisy(200 - (IMAGE * 0.6).astype(np.uint8)), "border is dark"),
        (CUT, "border is dark"),
        (noisy(np.maximum(CUT, 60)), "border is dark"),
        (np.pad(255 - IMAGE, 8, constant_values=255), "two backgrounds"),
        (np.pad(255 - TIGHT, 8, constant_values=255), "two backgrounds"),
        (np.pad(CUT, 8, constant_values=255), "two backgrounds"),
        (np.pad(np.where(MASK, IMAGE, 0), 8, constant_values=255), "two backgrounds"),
        (np.pad(IMAGE, 1), "border is dark"),
        (np.pad(IMAGE, 5, constant_values=128), "border is dark"),
        *[(turned(IMAGE, degrees, 0), "dark") for degrees in (5, 20, 45, 85)],
        *[(turned(IMAGE, degrees, 90), "dark") for degrees in (-5, -45)],
        (np.where(np.add.outer(*map(np.arange, IMAGE.shape)) < 4, 0, IMAGE), "dark area"),
        (np.concatenate([np.zeros_like(IMAGE[:2]), IMAGE]), "dark area"),
        *[
            (change((IMAGE * level).astype(np.uint8)), "two backgrounds")
            for level in (0.6, 0.8)
            for change in (
                lambda grey: turned(grey, 30, 255)[2:-2, 2:-2],
                lambda grey: np.pad(grey, 6, constant_values=255),
            )
        ],
        (np.pad((TIGHT * 0.6).astype(np.uint8), 6, constant_values=255), "two backgrounds"),
    ],
)
def test_a_border_that_is_not_background_is_refused(image: np.ndarray, said: str) -> None:
    found = extract(image.astype(np.uint8), ExtractionConfig())
    assert found.sequence_CL is None
    assert said in str(found.reason)


@pytest.mark.parametrize(
    "image",
    [
        TIGHT,
        TIGHT[:, 2:],
        IMAGE[12:],
        np.pad(TIGHT, 4, constant_values=255),
        (IMAGE * 0.5).astype(np.uint8),
        noisy((IMAGE * 0.7).astype(np.uint8)),
        (255 - 0.3 * (255.0 - IMAGE)).astype(np.uint8),
        turned(IMAGE, 30, 255),
        drawn(np.repeat((90, 150, 60, 120, 40), 12)),
        drawn(90 + 70 * np.sin(np.arange(60) / 4)),
        *[compact(*of) for of in ((20, 190), (40, 130), (40, 190), (80, 130))],
    ],
)
def test_chromosomes_that_touch_the_border_and_grey_grounds_are_accepted(image: np.ndarray) -> None:
    assert extract(image, ExtractionConfig()).reason is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (2, 40), (3, 3)])
def test_images_of_a_few_pixels_are_refused(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = extract(image, ExtractionConfig())
    assert found.reason
    assert "cannot be measured" not in found.reason
