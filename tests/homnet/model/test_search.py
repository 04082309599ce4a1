"""The search against densities computed one event at a time, and what it must not depend on."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch.nn import functional as F

from homnet.karyotype.chromosomes import CHROMOSOME_INDEX
from homnet.model.search import EventSearch

D = 36
SEVEN, TEN = CHROMOSOME_INDEX["7"], CHROMOSOME_INDEX["10"]


def _pairs(num_pairs: int, generator: torch.Generator) -> torch.Tensor:
    """Bags of one pair (N, 1, 2, 2, 2 D): bands of a type, and smooth differences of homologs."""
    t = torch.arange(2 * D) / D
    bands = torch.sin(5 * t) + torch.sin(11 * t + 1) + 0.5 * t
    rough = torch.randn(num_pairs, 1, 2, 2, 2 * D + 8, generator=generator)
    smooth = F.avg_pool1d(rough.flatten(0, 3), 9, 1).view(num_pairs, 1, 2, 2, 2 * D)
    x = bands + smooth
    return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)


@pytest.fixture(scope="module")
def normal() -> torch.Tensor:
    return _pairs(400, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def search(normal: torch.Tensor) -> EventSearch:
    made = EventSearch(D)
    types = torch.full((len(normal),), SEVEN)
    made.take_sums(made.sums(normal, types), torch.bincount(types, minlength=24).double())
    made.weigh(torch.tensor([0.6, 0.3]))
    return made


def _profiles(x: torch.Tensor) -> np.ndarray:
    """Profiles (N, 2, D), with mean 0 and variance 1."""
    profile = x[:, 0].mean(2).view(len(x), 2, D, 2).mean(-1).double().numpy()
    profile = profile - profile.mean(-1, keepdims=True)
    return np.asarray(profile / np.sqrt((profile**2).mean(-1, keepdims=True) + 1e-4))


def test_mean_and_covariance_are_those_of_normal_pairs(
    search: EventSearch, normal: torch.Tensor
) -> None:
    profile = _profiles(normal)
    np.testing.assert_allclose(search.mean_TD[SEVEN], profile.mean((0, 1)), atol=1e-5)
    both = np.concatenate([profile.reshape(len(profile), -1), profile[:, ::-1].reshape(-1, 2 * D)])
    measured = np.cov(both.T, bias=True)
    # One type only, so that all types pooled are the same.
    expected = 0.4 * measured + 0.6 * np.diag(np.diag(measured)) + 0.02 * np.eye(2 * D)
    np.testing.assert_allclose(search.covariance_TXX[SEVEN], expected, atol=1e-4)
    np.testing.assert_allclose(search.covariance_TXX[TEN], expected, atol=1e-4)
    lag = [np.mean(profile[..., d:] * profile[..., : D - d]) for d in range(D)]
    np.testing.assert_allclose(search.any_D, np.add(lag, [0.02] + [0] * (D - 1)), atol=1e-4)


def test_ratios_are_those_of_the_densities(search: EventSearch) -> None:
    x = _pairs(2, torch.Generator().manual_seed(1))
    got = search.ratios(x, torch.tensor([SEVEN, SEVEN]))[:, 0]
    mean = np.tile(search.mean_TD[SEVEN].double().numpy(), 2)
    covariance = search.covariance_TXX[SEVEN].double().numpy()
    of_pair = multivariate_normal(mean, covariance)
    at = np.arange(D)
    any_type = search.any_D.double().numpy()[np.abs(at[:, None] - at)]
    longest = max(stop - start for start, stop in search._foreign.places)
    any_type = any_type[:longest, :longest]
    any_type += max(0, 1e-3 - np.linalg.eigvalsh(any_type)[0]) * np.eye(longest)
    for n, profile in enumerate(_profiles(x)):
        expected = []
        for start, stop in search._inversions.places:
            ratios = []
            for p in range(2):
                turned = profile.copy()
                turned[p, start:stop] = turned[p, start:stop][::-1]
                ratios.append(of_pair.logpdf(turned.ravel()) - of_pair.logpdf(profile.ravel()))
            expected.append(ratios)
        for start, stop in search._foreign.places:
            ratios = []
            for p in range(2):
                inside = np.zeros(2 * D, bool)
                inside[p * D + start : p * D + stop] = True
                rest = multivariate_normal(mean[~inside], covariance[~inside][:, ~inside])
                given = of_pair.logpdf(profile.ravel()) - rest.logpdf(profile.ravel()[~inside])
                free = multivariate_normal(cov=any_type[: stop - start, : stop - start])
                ratios.append(free.logpdf(profile[p, start:stop]) - given)
            expected.append(ratios)
        bounded = 4 * np.tanh(np.array(expected) / 4)
        np.testing.assert_allclose(
            got[n], np.logaddexp(*bounded.T) - math.log(2), rtol=2e-3, atol=2e-3
        )


def test_an_inversion_at_one_place_in_all_cells_is_found(search: EventSearch) -> None:
    """Not in one cell of five, and better than by adding what each cell shows by itself."""
    x = _pairs(500, torch.Generator().manual_seed(2)).view(100, 5, 2, 2, 2 * D)
    turned = x.clone()
    turned[:50, :, 0, :, 22:38] = x[:50, :, 0, :, 22:38].flip(-1)
    types, mask = torch.full((100,), SEVEN), torch.ones(100, 5, dtype=torch.bool)
    ratio = search.ratios(turned, types)
    score = search.scores(ratio, mask)[:, 0]
    assert score[:50].min() > score[50:].max()
    total = ratio[:50, :, : len(search._inversions)].sum(dim=(0, 1))
    of_place = dict(zip(search._inversions.places, total.tolist(), strict=True))
    # Clear events reach the bound at neighbouring places, too.
    assert of_place[11, 19] > 0.9 * max(of_place.values())
    assert of_place[25, 33] < 0.1 * max(of_place.values())


def test_what_pairs_add_is_the_score_of_their_bag(search: EventSearch) -> None:
    x = _pairs(9, torch.Generator().manual_seed(3))
    types, size = torch.full((9,), SEVEN), [2, 3, 4]
    ratio = search.ratios(x, types)[:, 0]
    bag = torch.arange(3).repeat_interleave(torch.tensor(size))
    added = search.contributions(ratio, bag, torch.tensor(size))
    for b, own in enumerate(x.split(size)):
        together = own.transpose(0, 1)
        mask = torch.ones(1, size[b], dtype=torch.bool)
        expected = search(together, mask, torch.tensor([SEVEN]))
        torch.testing.assert_close(added[bag == b].sum(), expected[0], rtol=1e-4, atol=1e-4)


def test_order_and_padding_do_not_matter(search: EventSearch) -> None:
    x = _pairs(8, torch.Generator().manual_seed(4)).view(2, 4, 2, 2, 2 * D)
    types, mask = torch.tensor([SEVEN, TEN]), torch.ones(2, 4, dtype=torch.bool)
    expected = search(x, mask, types)
    padded = torch.cat([x, torch.randn_like(x[:, :1])], dim=1)
    for other, kept in (
        (x.flip(2), mask),
        (x.flip(3), mask),
        (x[:, [2, 0, 3, 1]], mask),
        (padded, F.pad(mask, (0, 1))),
    ):
        torch.testing.assert_close(search(other, kept, types), expected, rtol=1e-4, atol=1e-4)
    swapped = search(x.flip(0), mask, types.flip(0))
    torch.testing.assert_close(swapped.flip(0), expected, rtol=1e-4, atol=1e-4)


def test_what_is_loaded_counts(search: EventSearch) -> None:
    x, types = _pairs(3, torch.Generator().manual_seed(5)), torch.full((3,), SEVEN)
    loaded = EventSearch(D)
    assert not loaded.is_weighted
    before = loaded.ratios(x, types)
    loaded.load_state_dict(search.state_dict())
    assert loaded.is_weighted
    assert not torch.equal(loaded.ratios(x, types), before)
    assert torch.equal(loaded.ratios(x, types), search.ratios(x, types))


def test_nothing_is_said_of_a_type_without_normal_pairs(search: EventSearch) -> None:
    x, mask = _pairs(5, torch.Generator().manual_seed(6)).view(1, 5, 2, 2, 2 * D), torch.ones(1, 5)
    assert search.scores(search.ratios(x, torch.tensor([TEN])), mask).abs().max() < 1e-4


def test_means_that_are_of_no_covariance_are_mended() -> None:
    """Profiles that alternate: their means at each distance are not positive definite."""
    wave = torch.sin(torch.linspace(0, 4, 2 * D)).repeat(3, 1, 2, 2, 1)
    made, types = EventSearch(D), torch.full((3,), SEVEN)
    made.take_sums(made.sums(wave, types), torch.bincount(types, minlength=24).double())
    assert torch.isfinite(made.ratios(wave, types)).all()
