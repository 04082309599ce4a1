"""What is measured on pairs, against slow and plain counterparts."""

import numpy as np
import pytest
import torch

from homnet.model.contract import NUM_TYPES
from homnet.model.views import lengths
from homnet_baselines.features import (
    NUM_PAPER,
    NUM_PROFILE,
    aligned_correlation,
    log_length_ratio,
    paper_features,
    profile_features,
    type_scaling,
)


def pair_of(first: np.ndarray, second: np.ndarray) -> torch.Tensor:
    """A pair (1, 2, 2, 512) whose chromatids are alike."""
    x = torch.zeros(1, 2, 2, 512, dtype=torch.uint8)
    for homolog, values in enumerate((first, second)):
        x[0, homolog, :, : len(values)] = torch.tensor(np.rint(values).astype(np.uint8))
    return x


def wave(length: int, *, start: float = 0.0, stop: float = 1.0) -> np.ndarray:
    t = start + (stop - start) * np.linspace(0, 1, length)
    return 120 + 60 * np.sin(17 * t) + 30 * np.sin(41 * t + 1)


def dtw_plain(a: np.ndarray, b: np.ndarray, window: int) -> float:
    """Root of the least sum of squares over warping paths near the diagonals."""
    total = np.full((len(a) + 1, len(b) + 1), np.inf)
    total[0, 0] = 0
    low = min(0, len(b) - len(a)) - window + 1
    high = max(0, len(b) - len(a)) + window - 1
    for i in range(len(a)):
        for j in range(len(b)):
            if low <= j - i <= high:
                before = min(total[i, j], total[i, j + 1], total[i + 1, j])
                total[i + 1, j + 1] = (a[i] - b[j]) ** 2 + before
    return float(np.sqrt(total[-1, -1]))


def test_lengths_end_at_the_last_sample() -> None:
    x = pair_of(wave(200), wave(300))
    x[0, 0, :, 50:60] = 0  # a gap inside is no end
    assert lengths(x).tolist() == [[200, 300]]
    assert log_length_ratio(x).item() == pytest.approx(np.log(1.5), rel=1e-6)


@pytest.mark.parametrize("cut", [0.05, 0.08])
def test_alignment_makes_up_for_ends_that_are_cut(cut: float) -> None:
    whole, shorter = wave(300), wave(280, start=cut, stop=1 - cut / 2)
    found = aligned_correlation(pair_of(whole, shorter)).item()
    plain = np.corrcoef(whole, np.interp(np.linspace(0, 1, 300), np.linspace(0, 1, 280), shorter))
    assert found > 0.96
    assert plain[0, 1] < found - 0.02
    assert aligned_correlation(pair_of(shorter, whole)).item() == pytest.approx(found, abs=1e-5)


def test_alignment_does_not_make_up_for_an_inversion() -> None:
    turned = wave(300)
    turned[100:200] = turned[100:200][::-1]
    assert aligned_correlation(pair_of(wave(300), turned)).item() < 0.85


def test_dtw_is_that_of_the_plain_programme_also_for_alike_homologs() -> None:
    """Version 2.5.1 of the library answers infinity for alike sequences if it may prune."""
    rng = np.random.default_rng(0)
    for noise in (0.0, 0.4, 8.0):
        for length in (120, 160, 201):
            first = wave(160) + noise * rng.standard_normal(160)
            second = wave(length) + noise * rng.standard_normal(length)
            x = pair_of(first.clip(1, 255), second.clip(1, 255))
            coarse = x.double()[0].mean(dim=1).unflatten(-1, (-1, 4)).mean(dim=-1).numpy() / 255
            ends = [-(-160 // 4), -(-length // 4)]
            expected = dtw_plain(coarse[0, : ends[0]], coarse[1, : ends[1]], 16)
            found = paper_features(x)[0, 8].item()
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_papers_features_by_hand() -> None:
    first, second = wave(200), wave(250)
    x = pair_of(first, second)
    found = paper_features(x)[0].numpy()
    assert found.shape == (NUM_PAPER,)
    by_homolog = []
    for values in x[0, :, 0].double().numpy() / 255:
        size = int(np.flatnonzero(values)[-1]) + 1
        around = [values[max(i - 6, 0) : i + 7] for i in range(size)]
        peaks = [values[i] for i in range(size) if values[i] == around[i].max()]
        troughs = [values[i] for i in range(size) if values[i] == around[i][around[i] > 0].min()]
        by_homolog.append([values.mean(), values.var(ddof=1), np.mean(peaks), np.mean(troughs)])
    one, other = np.array(by_homolog)
    np.testing.assert_allclose(found[:4], (one + other) / 2, rtol=1e-4)
    np.testing.assert_allclose(found[4:8], np.abs(one - other), rtol=1e-3, atol=1e-5)
    assert found[9] > 0.99  # one wave at two lengths
    assert found[10] > 0


def test_profile_features_see_what_differs() -> None:
    alike = profile_features(pair_of(wave(200), wave(200)))[0]
    assert alike.shape == (NUM_PROFILE,)
    np.testing.assert_allclose(alike[32:65], 0, atol=1e-5)
    changed = wave(200)
    changed[100:125] = 20
    unlike = profile_features(pair_of(wave(200), changed))[0]
    assert unlike[32:64].argmax().item() in range(16, 20)
    assert unlike[66] > alike[66]


def test_types_are_scaled_by_themselves() -> None:
    rng = torch.Generator().manual_seed(0)
    types = torch.tensor([2] * 500 + [5] * 500 + [7])
    values = torch.randn(1001, 3, generator=rng) * (1 + types[:, None]) + 10 * types[:, None]
    centre, spread = type_scaling(values, types)
    assert centre.shape == spread.shape == (NUM_TYPES, 3)
    np.testing.assert_allclose(centre[[2, 5]].mean(dim=1), [20, 50], atol=0.5)
    np.testing.assert_allclose(spread[[2, 5]].mean(dim=1), [3, 6], rtol=0.1)
    # One pair says nothing of its type.
    np.testing.assert_allclose(centre[7], values.mean(dim=0), rtol=1e-5)
    np.testing.assert_allclose(spread[0], values.std(dim=0), rtol=1e-5)
