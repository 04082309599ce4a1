import os
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from homnet.errors import ConfigError
from homnet.imaging.extraction import ExtractionConfig, extract, isolate
from homnet.imaging.midline import project
from homnet.imaging.reading import read_grey
from homnet.simulator.drawing import Drawing, centre_line, draw_chromosome

CONFIG = ExtractionConfig()
BLUR_PX = 1.0


def chromosome(
    length_px: float,
    *,
    turn: float = 0.0,
    half_width_px: float = 7.0,
    gap_px: float = 0.0,
    seed: int = 0,
) -> tuple[Drawing, np.ndarray]:
    """A banded chromosome that turns by ``turn`` radians, and its profile (2, L)."""
    generator = np.random.default_rng(seed)
    num = round(length_px * CONFIG.samples_per_px)
    bands = ndimage.gaussian_filter1d(generator.normal(size=(3, num)), 5, axis=1)
    bands /= bands.std(axis=1, keepdims=True)
    profile_CL = np.clip(130 + 30 * (bands[0] + 0.4 * bands[1:]), 50, 220)
    # Arms are straight at their ends, as real ones are: the bend lies between.
    heading_L = turn * (np.clip(np.linspace(-0.25, 1.25, num), 0, 1) - 0.5)
    position = np.arange(num)
    waist = np.exp(-(((position - 0.4 * num) / (4 * CONFIG.samples_per_px)) ** 2))
    drawing = draw_chromosome(
        profile_CL,
        centre_line(heading_L, 1 / CONFIG.samples_per_px),
        half_width_px * (1 - 0.3 * waist),
        samples_per_px=CONFIG.samples_per_px,
        generator=generator,
        gap_px=gap_px * (position > 0.6 * num),
        blur_sigma_px=BLUR_PX,
    )
    return drawing, profile_CL


def correlation(sequence_CL: np.ndarray, profile_CL: np.ndarray) -> float:
    """Mean over chromatids, position by position from the p-arm's tip: nothing is aligned.

    The truth is what the microscope shows of the profile, blurred as the drawing was.
    """
    blur = BLUR_PX * CONFIG.samples_per_px
    shown_CL = ndimage.gaussian_filter1d(profile_CL, blur, axis=1, mode="constant")
    num = min(profile_CL.shape[1], int((sequence_CL[0] > 0).sum()))
    return float(
        np.mean([np.corrcoef(sequence_CL[c, :num], shown_CL[c, :num])[0, 1] for c in (0, 1)])
    )


def test_profiles_and_lengths_of_bent_chromosomes_are_read_right():
    generator = np.random.default_rng(7)
    rows = []
    for seed in range(80):
        length_px = generator.uniform(25, 150)
        half_width_px = generator.uniform(5.5, 9.0)
        # A chromosome does not turn within its own width.
        turn = generator.uniform(-1, 1) * min(3.3, 0.35 * max(length_px / half_width_px - 3, 0))
        drawing, profile_CL = chromosome(
            length_px, turn=turn, half_width_px=half_width_px, seed=seed
        )
        chord = np.linalg.norm(drawing.axis_L2[-1] - drawing.axis_L2[0])
        found = extract(drawing.image_HW, CONFIG)
        assert found.sequence_CL is not None, found.reason
        read_px = len(found.axis_A2) / CONFIG.samples_per_px
        rows.append(
            {
                "straightness": chord / length_px,
                "straightness_error": found.straightness - chord / length_px,
                "correlation": correlation(found.sequence_CL, profile_CL),
                "length_error_px": read_px - length_px,
            }
        )
    result = pd.DataFrame(rows)
    gentle = result[result.straightness > 0.8]
    sharp = result[result.straightness <= 0.8]
    assert len(gentle) > 30
    assert len(sharp) > 5
    assert gentle.correlation.median() >= 0.95
    assert sharp.correlation.median() >= 0.93
    assert result.length_error_px.abs().quantile(0.95) < 2.0
    assert abs(result.length_error_px.median()) < 0.5
    assert result.straightness_error.abs().quantile(0.9) < 0.05


@pytest.mark.parametrize("length_px", [35.0, 70.0])
def test_axis_stays_between_chromatids_that_have_come_apart(length_px):
    drawing, _ = chromosome(length_px, gap_px=6.0, half_width_px=8.0)
    found = extract(drawing.image_HW, CONFIG)
    _, across = project(found.axis_A2, drawing.axis_L2)
    assert np.abs(across).max() < 1.5
    assert len(found.axis_A2) / CONFIG.samples_per_px == pytest.approx(length_px, abs=2)


def test_sequence_is_background_beyond_the_chromosome_and_never_on_it():
    drawing, _ = chromosome(61.0, turn=0.7)
    found = extract(drawing.image_HW, CONFIG)
    num = len(found.axis_A2)
    assert found.sequence_CL.shape == (2, 512)
    assert found.sequence_CL.dtype == np.uint8
    assert (found.sequence_CL[:, :num] > 0).all()
    assert not found.sequence_CL[:, num:].any()


def test_scale_sets_the_samples_per_pixel_and_length_is_never_stretched():
    lengths = {}
    for length_px in (40.0, 80.0):
        drawing, _ = chromosome(length_px)
        for scale in (2.0, 3.0):
            found = extract(drawing.image_HW, ExtractionConfig(samples_per_px=scale))
            lengths[length_px, scale] = int((found.sequence_CL[0] > 0).sum()) / scale
    for (length_px, _), read_px in lengths.items():
        assert read_px == pytest.approx(length_px, abs=1.5)


def test_turning_the_image_upside_down_reverses_the_sequence_and_swaps_its_sides():
    drawing, _ = chromosome(60.0, turn=0.8)
    upright = extract(drawing.image_HW, CONFIG)
    turned = extract(drawing.image_HW[::-1, ::-1], CONFIG)
    num = min(len(upright.axis_A2), len(turned.axis_A2))
    expected = upright.sequence_CL[::-1, num - 1 :: -1][:, :num].astype(float)
    for c in (0, 1):
        assert np.corrcoef(turned.sequence_CL[c, :num], expected[c])[0, 1] > 0.97


def test_mirroring_the_image_swaps_left_and_right():
    drawing, _ = chromosome(60.0)
    plain = extract(drawing.image_HW, CONFIG).sequence_CL.astype(float)
    mirrored = extract(drawing.image_HW[:, ::-1], CONFIG).sequence_CL.astype(float)
    assert np.corrcoef(mirrored[0], plain[1])[0, 1] > 0.995
    assert np.corrcoef(mirrored[0], plain[1])[0, 1] > np.corrcoef(mirrored[0], plain[0])[0, 1]


def test_darkness_counts_from_a_grey_background():
    drawing, _ = chromosome(60.0)
    white = extract(drawing.image_HW, CONFIG).sequence_CL.astype(float)
    grey_image = np.clip(drawing.image_HW.astype(int) - 30, 0, 255).astype(np.uint8)
    grey = extract(grey_image, CONFIG).sequence_CL.astype(float)
    assert np.abs(grey - white)[:, :170].mean() < 5


@pytest.mark.parametrize("level", [1.0, 0.8])
@pytest.mark.parametrize("margin_px", [0, 12])
def test_a_chromosome_is_cut_out_with_its_soft_edge_and_nothing_else(level, margin_px):
    drawing, _ = chromosome(60.0, turn=1.0)
    whole_HW = np.pad(drawing.image_HW, ((0, 0), (0, margin_px)), constant_values=255)
    if margin_px:
        whole_HW[5:15, -10:-4] = 90  # a piece of another chromosome
    image_HW = (whole_HW * level).astype(np.uint8)
    darkness_HW = isolate(image_HW, CONFIG)
    assert darkness_HW.shape == image_HW.shape
    truth_HW = 255.0 * level - image_HW
    inside_HW = drawing.image_HW < 200
    own_HW = darkness_HW[:, : drawing.image_HW.shape[1]]
    here_HW = truth_HW[:, : drawing.image_HW.shape[1]]
    np.testing.assert_allclose(own_HW[inside_HW], here_HW[inside_HW], atol=3)
    assert not darkness_HW[:, drawing.image_HW.shape[1] :].any()
    assert not own_HW[ndimage.distance_transform_edt(~inside_HW) > 5].any()
    # What is left out of the edge is too faint to be seen.
    assert np.abs(own_HW.astype(float) - here_HW)[ndimage.binary_dilation(inside_HW)].max() < 8


def test_tightly_cropped_image_is_read_like_a_roomy_one():
    drawing, _ = chromosome(70.0, turn=0.5)
    rows, columns = (np.flatnonzero((drawing.image_HW < 200).any(axis=a)) for a in (1, 0))
    cropped = drawing.image_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    roomy = extract(drawing.image_HW, CONFIG)
    tight = extract(cropped, CONFIG)
    assert len(tight.axis_A2) == pytest.approx(len(roomy.axis_A2), abs=6)


def ring() -> np.ndarray:
    rows, columns = np.indices((70, 70)) - 35
    radius = np.hypot(rows, columns)
    return np.where((radius > 14) & (radius < 26), 90, 255).astype(np.uint8)


def cross() -> np.ndarray:
    rows, columns = np.abs(np.indices((90, 90)) - 45)
    arms = ((rows < 6) & (columns < 40)) | ((columns < 6) & (rows < 40))
    return np.where(arms, 60 + rows, 255).astype(np.uint8)


def oval(height_px: int, width_px: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : height_px * 1j, -1 : 1 : width_px * 1j]
    return np.pad((255 * np.minimum(x**2 + y**2, 1)).astype(np.uint8), 20, constant_values=255)


def two_parts() -> np.ndarray:
    image = np.full((90, 60), 255, np.uint8)
    image[10:80, 8:20] = image[20:60, 40:52] = 90
    return image


def with_a_gap(turn: float) -> np.ndarray:
    """A chromosome whose middle is as light as the background, over three pixels along its axis."""
    drawing, _ = chromosome(80.0, turn=turn)
    half = len(drawing.axis_L2) // 2
    before, middle, after = drawing.axis_L2[[half - 3, half, half + 3]]
    along_HW = (np.moveaxis(np.indices(drawing.image_HW.shape), 0, -1) - middle) @ (after - before)
    near_HW = np.abs(along_HW) < 1.5 * np.linalg.norm(after - before)
    return np.where(near_HW, 255, drawing.image_HW).astype(np.uint8)


def two_alike() -> np.ndarray:
    image = chromosome(60.0)[0].image_HW
    return np.hstack([image, image])


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(235, 5, (60, 40)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((40, 30), 255, np.uint8), "empty"),
        (np.zeros((0, 0), np.uint8), "empty"),
        (noise(), "empty"),
        (np.full((40, 30, 3), 255, np.uint8), "not an 8-bit grey image"),
        (np.full((40, 30), 1.0), "not an 8-bit grey image"),
        (np.full((2000, 30), 255, np.uint8), "larger than 1024"),
        (np.pad(np.zeros((4, 5), np.uint8), 20, constant_values=255), "too small"),
        (np.pad(np.zeros((5, 30), np.uint8), 20, constant_values=255)[:, :45], "no bands"),
        (oval(11, 34), None),
        (np.where(oval(11, 34) < 200, 90, 255).astype(np.uint8), "no bands"),
        (ring(), "ring-shaped"),
        (two_alike(), "two dark parts of similar size"),
        (with_a_gap(0.0), None),  # at a pale centromere
        (with_a_gap(2.5), "two dark parts of similar size"),  # two that meet in a bend
        (np.pad(np.full((300, 14), 90, np.uint8), 9, constant_values=255), "too long"),
    ],
)
def test_unusable_images_have_a_reason(image, reason):
    found = extract(image, CONFIG)
    if reason is None:
        assert found.reason is None
        return
    assert found.sequence_CL is None
    assert reason in found.reason


@pytest.mark.parametrize(
    ("image", "flag"),
    [
        (chromosome(90.0, turn=2.5)[0].image_HW, "bent"),
        (chromosome(90.0, turn=2.5)[0].image_HW.T, "ends_level"),
        (cross(), "uneven_width"),
        (two_parts(), "several_parts"),
        (ring(), "ring"),
    ],
)
def test_unusual_images_are_flagged(image, flag):
    assert flag in extract(image, CONFIG).flags


def test_ordinary_chromosome_has_no_flag():
    assert extract(chromosome(60.0, turn=0.4, gap_px=3.0)[0].image_HW, CONFIG).flags == ()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["samples_per_px", "max_side_px", "ring_above"])
def test_settings_that_are_no_positive_number_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"extraction\.{name} is {value}; give a number above 0"):
        ExtractionConfig(**{name: value})


def test_a_chromosome_that_is_too_long_says_which_scale_would_fit():
    drawing, _ = chromosome(180.0)
    found = extract(drawing.image_HW, CONFIG)
    assert found.flags == ("too_long",)
    scale = float(re.search(r"--extraction\.samples-per-px (\S+) would fit", found.reason)[1])
    assert 2.5 < scale < 3.0
    assert extract(drawing.image_HW, ExtractionConfig(samples_per_px=scale)).reason is None


@pytest.mark.parametrize("samples_per_px", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("pattern", ["square", "lines", "noise"])
def test_no_image_takes_much_memory(pattern, samples_per_px):
    image = np.full((1024, 1024), 255, np.uint8)
    image[8:-8, 8:-8] = {
        "square": np.uint8(40),
        "lines": np.tile(np.uint8([[40], [255]]), (504, 1008)),
        "noise": np.random.default_rng(0).integers(0, 256, (1008, 1008), np.uint8),
    }[pattern]
    tracemalloc.start()
    try:
        found = extract(image, ExtractionConfig(samples_per_px=samples_per_px))
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert found.sequence_CL is None


def test_a_step_that_fails_costs_one_image_only(monkeypatch):
    monkeypatch.setattr("homnet.imaging.extraction.find_midline", lambda *_: 1 / 0)
    found = extract(chromosome(60.0)[0].image_HW, CONFIG)
    assert found.reason == "cannot be measured (ZeroDivisionError)"


def test_a_lack_of_memory_is_no_fault_of_the_image(monkeypatch):
    def find(*_):
        raise MemoryError

    monkeypatch.setattr("homnet.imaging.extraction.find_midline", find)
    with pytest.raises(MemoryError):
        extract(chromosome(60.0)[0].image_HW, CONFIG)


@pytest.mark.slow
def test_real_images_are_nearly_all_usable():
    beside = Path(__file__).parents[4] / "shared" / "real"
    folder = Path(os.environ.get("HOMNET_REAL_DIR", beside)) / "pki3"
    if not folder.is_dir():
        pytest.skip("no real images here; name their folder in HOMNET_REAL_DIR")
    manifest = pd.read_csv(folder / "manifest.csv", dtype=str)
    some = manifest[manifest.homolog != "2"].sample(400, random_state=0)
    found = [extract(read_grey(folder / path, max_side_px=1024), CONFIG) for path in some.path]
    unusable = [one.reason for one in found if one.reason]
    assert len(unusable) <= 2, unusable
    # Median lengths that another way of tracing the axis gave on these images.
    length_px = pd.Series([len(one.axis_A2) / CONFIG.samples_per_px for one in found])
    median = length_px.groupby(some.chromosome.to_numpy()).median()
    assert median["1"] == pytest.approx(121, rel=0.1)
    assert median["21"] == pytest.approx(28, rel=0.2)
