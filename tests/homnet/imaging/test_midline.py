import numpy as np
import pytest

from homnet.imaging.midline import arc_length, find_midline, points_at, project, tangents_at


def disc_sweep(line_A2, radius, shape):
    """All pixels within ``radius`` of a line."""
    grid = np.stack(np.indices(shape), axis=-1).reshape(-1, 1, 2)
    near = np.linalg.norm(grid - line_A2[None], axis=-1).min(axis=1) < radius
    return near.reshape(shape)


def test_arc_length_points_and_tangents_of_a_right_angle():
    corner = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 5.0]])
    np.testing.assert_allclose(arc_length(corner), [0, 3, 8])
    np.testing.assert_allclose(points_at(corner, np.array([1.0, 7.0])), [[1, 0], [3, 4]])
    np.testing.assert_allclose(tangents_at(corner, np.array([0.0, 8.0])), [[1, 0], [0, 1]])


def test_projection_tells_left_from_right_going_down():
    line = np.stack([np.arange(20.0), np.full(20, 7.0)], axis=1)
    along, across = project(np.array([[4.0, 5.0], [11.0, 10.0]]), line)
    np.testing.assert_allclose(along, [4, 11])
    np.testing.assert_allclose(across, [-2, 3])


@pytest.mark.parametrize("turn", [0.0, 1.5, 2.6])
def test_midline_follows_an_arc(turn):
    # An arc of 80 px that turns by ``turn`` radians in all.
    angle = np.linspace(-turn / 2, turn / 2, 400)
    steps = 0.2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    truth = np.cumsum(steps, axis=0) + np.array([15.0, 40.0])
    blob = disc_sweep(truth, 6.5, (115, 80))
    points = np.argwhere(blob).astype(float)
    line, width = find_midline(blob, points)
    _, across = project(truth[40:-40], line)
    assert np.abs(across).max() < 1.2
    assert line[0, 0] < line[-1, 0]
    assert width == pytest.approx(13, abs=2)


@pytest.mark.parametrize("tilt", [-0.25, 0.0, 0.25])
def test_midline_of_a_short_wide_blob_runs_between_its_tips_not_its_corners(tilt):
    rows, columns = np.indices((60, 60)) - 30.0
    along = rows * np.cos(tilt) + columns * np.sin(tilt)
    across = columns * np.cos(tilt) - rows * np.sin(tilt)
    blob = (np.abs(along) < 13) & (np.abs(across) < 8)
    line, _ = find_midline(blob, np.argwhere(blob).astype(float))
    direction = line[-1] - line[0]
    assert np.arctan2(direction[1], direction[0]) == pytest.approx(tilt, abs=0.1)
