"""Dot plots against a loop over windows, and what known abnormalities look like in them."""

import numpy as np
import torch

from homnet.reader.dotplot import compare, plots, windows


def test_windows_lie_evenly_and_are_held_at_the_tips() -> None:
    found = windows(torch.arange(12.0), 4, 3)
    assert found.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert windows(torch.arange(4.0), 4, 3)[0].tolist() == [0, 0, 1]


def test_comparing_is_a_loop_over_windows() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 7)), rng.normal(size=(6, 7))
    found = compare(torch.tensor(a), torch.tensor(b)).numpy()
    assert found.shape == (4, 5, 6)
    for t in range(5):
        for u in range(6):
            for turned in (0, 1):
                one = a[t][::-1] if turned else a[t]
                x, y = one - one.mean(), b[u] - b[u].mean()
                correlation = (x * y).sum() / np.sqrt((x @ x + 0.7) * (y @ y + 0.7))
                np.testing.assert_allclose(found[2 * turned, t, u], correlation)
                difference = min(((one - b[u]) ** 2).mean(), 4.0)
                np.testing.assert_allclose(found[2 * turned + 1, t, u], -difference)


def _bag() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(2, 3, 2, 32, generator=generator)
    template = torch.randn(2, 32, generator=generator)
    weight = torch.rand(2, 3, 2, generator=generator)
    weight[1, 2] = 0.0
    return own, template, weight


def test_plots_are_of_weighted_means_over_cells_and_homologs() -> None:
    own, template, weight = _bag()
    found = plots(own, template, weight, 8, 5)
    for b in range(2):
        abnormal, normal = torch.zeros(32), torch.zeros(32)
        for k in range(3):
            for p in range(2):
                share = weight[b, k, p] / weight[b].sum()
                abnormal += share * own[b, k, p]
                normal += share * own[b, k, 1 - p]
        a, n, t = (windows(x, 8, 5) for x in (abnormal, normal, template[b]))
        wanted = torch.cat([compare(a, n), compare(a, t), compare(n, t)])
        torch.testing.assert_close(found[b], wanted, atol=1e-5, rtol=1e-4)


def test_swapped_homologs_with_swapped_weights_are_the_same_plot() -> None:
    own, template, weight = _bag()
    one = plots(own, template, weight, 8, 5)
    other = plots(own.flip(2), template, weight.flip(2), 8, 5)
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_an_inversion_is_a_turned_diagonal() -> None:
    generator = torch.Generator().manual_seed(1)
    normal = 4 * torch.randn(64, generator=generator)
    turned = normal.clone()
    turned[16:48] = normal[16:48].flip(0)
    own = torch.stack([turned, normal])[None, None]
    weight = torch.tensor([[[1.0, 0.0]]])
    plot = plots(own, normal[None], weight, 32, 6)[0]
    straight, reverse = plot[0], plot[2]
    for t in (2, 5, 27, 30):
        assert straight[t].argmax() == t
    for t in (12, 15, 18):
        assert reverse[t].argmax() == 31 - t
        assert reverse[t, 31 - t] > 0.8 > straight[t, t]
