import numpy as np
import pytest

from homnet.simulator.drawing import centre_line, draw_chromosome

NUM_POSITIONS = 150
SAMPLES_PER_PX = 3.0


def draw(profile_CL=None, heading_L=None, half_width_px=6.0, seed=0, **options):
    """A chromosome 50 px long, straight and evenly dark unless told otherwise."""
    if profile_CL is None:
        profile_CL = np.full((2, NUM_POSITIONS), 120.0)
    if heading_L is None:
        heading_L = np.zeros(NUM_POSITIONS)
    return draw_chromosome(
        profile_CL,
        centre_line(heading_L, 1 / SAMPLES_PER_PX),
        half_width_px,
        samples_per_px=SAMPLES_PER_PX,
        generator=np.random.default_rng(seed),
        **options,
    )


def test_centre_line_of_a_quarter_circle_ends_one_radius_down_and_one_to_the_right():
    radius_px = 20.0
    arc_px = radius_px * np.pi / 2
    num = 400
    line = centre_line(np.linspace(0, np.pi / 2, num), arc_px / (num - 1))
    np.testing.assert_allclose(line[-1], [radius_px, radius_px], rtol=1e-3)


def test_dark_on_white_with_the_given_size():
    drawing = draw(blur_sigma_px=0.0, noise_sd=0.0)
    darkness = 255 - drawing.image_HW.astype(int)
    assert darkness[:4].max() == 0
    assert darkness[:, :4].max() == 0
    assert darkness.max() == 120
    # Length and width where it is half as dark as inside, through the middle.
    middle = np.rint(drawing.axis_L2[NUM_POSITIONS // 2]).astype(int)
    assert (darkness[:, middle[1]] > 60).sum() == pytest.approx(50, abs=1)
    assert (darkness[middle[0]] > 60).sum() == pytest.approx(12, abs=1)


def test_each_side_shows_its_own_profile_along_the_axis():
    position = np.arange(NUM_POSITIONS)
    left = np.where(position < 60, 200.0, 50.0)
    right = np.where(position < 90, 40.0, 160.0)
    drawing = draw(np.stack([left, right]), blur_sigma_px=0.0, noise_sd=0.0)
    for at, expected in ((30, (200, 40)), (75, (50, 40)), (120, (50, 160))):
        row, column = np.rint(drawing.axis_L2[at]).astype(int)
        darkness = 255 - drawing.image_HW[row].astype(int)
        assert (darkness[column - 3], darkness[column + 3]) == expected


def test_width_may_vary_and_chromatids_may_stand_apart():
    half_width = np.where(np.arange(NUM_POSITIONS) < 75, 4.0, 8.0)
    gap = np.where(np.arange(NUM_POSITIONS) < 75, 0.0, 6.0)
    drawing = draw(half_width_px=half_width, gap_px=gap, blur_sigma_px=0.0, noise_sd=0.0)
    dark = drawing.image_HW < 195
    upper, lower = (np.rint(drawing.axis_L2[at]).astype(int) for at in (40, 110))
    assert dark[upper[0]].sum() == pytest.approx(8, abs=1)
    assert dark[lower[0]].sum() == pytest.approx(16 - 6, abs=2)
    assert not dark[lower[0], lower[1]]


def test_round_chromatids_are_darkest_in_their_middles():
    drawing = draw(half_width_px=8.0, roundness=0.5, blur_sigma_px=0.0, noise_sd=0.0)
    row, column = np.rint(drawing.axis_L2[NUM_POSITIONS // 2]).astype(int)
    darkness = 255 - drawing.image_HW[row].astype(int)
    for middle in (column - 4, column + 4):
        assert darkness[middle] == pytest.approx(120, abs=3)
    for edge in (column - 7, column, column + 7):
        assert darkness[edge] < 90


def test_bent_drawing_keeps_its_area():
    straight = draw(blur_sigma_px=0.0, noise_sd=0.0)
    heading = np.linspace(-1.0, 1.0, NUM_POSITIONS)
    bent = draw(heading_L=heading, blur_sigma_px=0.0, noise_sd=0.0)
    area = [(255.0 - drawing.image_HW).sum() for drawing in (straight, bent)]
    assert area[1] == pytest.approx(area[0], rel=0.03)
    chord = np.linalg.norm(bent.axis_L2[-1] - bent.axis_L2[0])
    assert chord == pytest.approx(50 * np.sin(1.0), rel=0.02)


def test_same_generator_same_bytes():
    first, second, other = draw(seed=3), draw(seed=3), draw(seed=4)
    assert first.image_HW.tobytes() == second.image_HW.tobytes()
    assert first.image_HW.tobytes() != other.image_HW.tobytes()


def test_profile_and_axis_of_different_length_are_refused():
    with pytest.raises(ValueError, match="same L"):
        draw(profile_CL=np.full((2, NUM_POSITIONS - 1), 120.0))
