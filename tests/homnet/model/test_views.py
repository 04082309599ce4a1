"""How pairs are laid out before regions are cut from them."""

import pytest
import torch

from homnet.model.views import standardise, stretch


def test_standardise_ignores_the_background() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(1, 1, 2, 2, 40)
    x[..., :25] = torch.rand(1, 1, 2, 2, 25, generator=generator) * 0.4 + 0.3
    z = standardise(x)
    inside = z[0, 0, 0, :, :25]
    assert abs(float(inside.mean())) < 1e-5
    assert float(inside.std(correction=0)) == pytest.approx(1, abs=0.01)
    assert not z[..., 25:].any()
    torch.testing.assert_close(standardise(x[..., :25]), z[..., :25])


def test_standardise_ignores_the_exposure() -> None:
    """All but the floor under the variance, which is a hundredth of these."""
    x = torch.rand(1, 1, 2, 2, 25, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    torch.testing.assert_close(standardise(x * 0.5), standardise(x), atol=1e-4, rtol=0.02)


def test_stretch_keeps_shape_and_tells_the_length() -> None:
    x = torch.zeros(1, 1, 2, 2, 64)
    ramp = torch.linspace(1, 2, 16)
    x[0, 0, 0, :, :16] = ramp
    x[0, 0, 1, :, :64] = torch.linspace(1, 2, 64)
    stretched, log_length = stretch(x, 32)
    assert stretched.shape == (1, 1, 2, 2, 32)
    torch.testing.assert_close(log_length[0, 0].exp(), torch.tensor([16 / 64, 1.0]))
    torch.testing.assert_close(stretched[0, 0, 0], stretched[0, 0, 1], atol=0.04, rtol=0)
