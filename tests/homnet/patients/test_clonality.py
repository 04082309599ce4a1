"""Clones: counts, shares and their intervals."""

import numpy as np
import pytest

from homnet.patients.clonality import estimate_clone


def test_all_cells_abnormal_is_no_mosaic() -> None:
    clone = estimate_clone(np.full(10, 2.5))
    assert (clone.num_abnormal, clone.num_cells, clone.share, clone.high) == (10, 10, 1.0, 1.0)
    assert clone.clonal
    assert not clone.mosaic
    assert "no sign of a mosaic" in clone.describe()


def test_half_of_the_cells_is_a_mosaic_of_about_half() -> None:
    clone = estimate_clone(np.array([3.0] * 10 + [-3.0] * 10))
    assert clone.share == pytest.approx(0.5, abs=0.03)
    assert clone.low < 0.4 < 0.6 < clone.high < 0.8
    assert clone.mosaic
    assert clone.describe().startswith("10 of 20 cells; mosaic, about 5")


def test_normal_cells_are_no_mosaic() -> None:
    clone = estimate_clone(np.full(4, -2.5))
    assert clone.num_abnormal == 0
    assert not clone.mosaic
    assert clone.describe() == "0 of 4 cells"


def test_weak_evidence_leaves_it_open() -> None:
    clone = estimate_clone(np.array([0.4, -0.3, 0.2]))
    assert not clone.mosaic
    assert "is open" in clone.describe()


def test_one_cell_is_no_clone_and_no_cell_is_nothing() -> None:
    assert not estimate_clone(np.array([3.0, -3.0, -3.0])).clonal
    assert estimate_clone(np.zeros(0)).num_cells == 0


def test_order_of_cells_changes_nothing() -> None:
    evidence_K = np.array([2.0, -1.0, 0.5, -3.0, 1.0])
    assert estimate_clone(evidence_K) == estimate_clone(evidence_K[::-1])
