"""How pairs are laid out, and how far they lie from normal ones."""

import pytest
import torch

from homnet.model.network import best_form
from homnet.model.views import NUM_DEVIATIONS, Deviations, standardise, stretch

T, S = 24, 128


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


def _normal_pairs(num: int, type_: int, seed: int) -> torch.Tensor:
    """Pairs of one type: its wave, stretched by a few per cent, and noise that differs by type."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(num, 2, 2, 512)
    for pair in x:
        for homolog in pair:
            length = int(torch.randint(200, 220, (), generator=generator))
            wave = 120 + 60 * torch.sin(torch.linspace(0, 12 + type_, length))
            noise = torch.randn(2, length, generator=generator)
            homolog[:, :length] = wave + (3 + 5 * type_) * noise
    return x.clamp(min=0, max=255).to(torch.uint8)


def _fitted(pairs: torch.Tensor, types: torch.Tensor) -> tuple[Deviations, torch.Tensor]:
    model = best_form().build()
    model.fit_template(pairs, types)
    deviations, template = model.cms.deviations, model.cms.template_TL  # type: ignore[union-attr]
    assert isinstance(deviations, Deviations)
    assert isinstance(template, torch.Tensor)
    return deviations, template


def _of(
    deviations: Deviations, template: torch.Tensor, pairs: torch.Tensor, types: torch.Tensor
) -> torch.Tensor:
    stretched, log_length = stretch(pairs[:, None], S)
    return deviations(standardise(stretched / 255), log_length, types, template)[:, 0]


def test_deviations_of_normal_pairs_are_about_one_whatever_their_type() -> None:
    types = torch.tensor([0] * 300 + [1] * 300)
    pairs = torch.cat([_normal_pairs(300, number, seed=number) for number in (0, 1)])
    deviations, template = _fitted(pairs, types)
    found_NPF = _of(deviations, template, pairs, types)
    assert found_NPF.shape == (600, 2, NUM_DEVIATIONS)
    for number in (0, 1):
        own_F = found_NPF[types == number].flatten(0, 1)
        torch.testing.assert_close(own_F[:, 1:].mean(0), torch.zeros(3), atol=2e-2, rtol=0)
        torch.testing.assert_close(own_F[:, 1:].std(0), torch.ones(3), atol=2e-2, rtol=0)
        assert abs(float(own_F[:, 0].mean())) < 1
        assert 0.2 < float(own_F[:, 0].std()) < 2
    # The noisier type is further away, and not more abnormal for it.
    assert deviations.centre_TF[1, 1] > deviations.centre_TF[0, 1] + 0.5


def test_a_changed_homolog_is_far_away_and_its_partner_is_not() -> None:
    pairs, types = _normal_pairs(300, 0, seed=0), torch.zeros(300, dtype=torch.long)
    deviations, template = _fitted(pairs, types)
    changed = _normal_pairs(50, 0, seed=9)
    changed[:, 1, :, 40:130] = changed[:, 1, :, 40:130].flip(-1)  # an inversion
    found = _of(deviations, template, changed, types[:50]).mean(0)
    assert found[1, 0] > 2
    assert abs(found[0, 0]) < 1
    assert (found[:, 1:3] > 2).all()
    assert (found[:, 3].abs() < 1).all()  # it keeps the length
    swapped = _of(deviations, template, changed.flip(1), types[:50]).mean(0)
    torch.testing.assert_close(swapped, found.flip(0), rtol=1e-5, atol=1e-5)


def test_a_type_without_normal_pairs_says_nothing() -> None:
    pairs, types = _normal_pairs(20, 0, seed=0), torch.zeros(20, dtype=torch.long)
    deviations, template = _fitted(pairs, types)
    assert not _of(deviations, template, pairs, types + 5).any()


def test_equal_homologs_have_finite_deviations() -> None:
    pairs, types = _normal_pairs(20, 0, seed=0), torch.zeros(20, dtype=torch.long)
    deviations, template = _fitted(pairs, types)
    pairs[:, 1] = pairs[:, 0]
    found = _of(deviations, template, pairs, types)
    assert torch.isfinite(found).all()
    assert found.abs().max() == pytest.approx(6)
