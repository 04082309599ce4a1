"""Staining turns band densities into grey levels, and only what a setting asks for differs."""

from dataclasses import replace

import numpy as np
import pytest

from homnet.simulator.laboratory import Laboratory
from homnet.simulator.staining import stain


@pytest.fixture
def quiet(quiet: Laboratory) -> Laboratory:
    return replace(quiet, contrast=100.0)


def stained(laboratory: Laboratory, seed: int = 0) -> np.ndarray:
    """Three pairs of two cells, all of one band."""
    return stain(
        np.full((3, 2, 512), 0.75, np.float32),
        np.full((3, 2), 300),
        np.zeros((3, 2), np.float32),
        np.array([0, 1, 1]),
        2,
        laboratory,
        np.random.default_rng(seed),
    )


def test_an_even_band_is_evenly_dark(quiet: Laboratory) -> None:
    darkness = stained(quiet)
    assert darkness.shape == (3, 2, 2, 512)
    inside = darkness[..., 5:295]
    np.testing.assert_allclose(inside, quiet.darkness + 25.0, atol=0.1)


def test_cells_differ_by_their_staining_and_their_pairs_do_not(quiet: Laboratory) -> None:
    darkness = stained(replace(quiet, cell_darkness_sd=5.0))[..., 100]
    assert np.ptp(darkness[1:]) < 0.1
    assert abs(darkness[0, 0, 0] - darkness[1, 0, 0]) > 0.5


def test_texture_is_shared_by_those_that_it_belongs_to(quiet: Laboratory) -> None:
    for field, same_chromatids, same_homologs in (
        ("pair_texture", True, True),
        ("homolog_texture", True, False),
        ("chromatid_texture", False, False),
    ):
        darkness = stained(replace(quiet, **{field: (0.0, 8.0, 0.0)}))[..., 20:280]
        assert darkness.std() > 2
        left, right = darkness[:, :, 0], darkness[:, :, 1]
        assert np.allclose(left, right, atol=0.01) == same_chromatids
        assert np.allclose(left[:, 0], left[:, 1], atol=0.01) == same_homologs
