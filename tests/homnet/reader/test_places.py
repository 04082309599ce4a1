"""Shares and megabases, exactly as the band tables have them, and scores along sequences."""

import numpy as np
import pytest
import torch

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.model.views import stretch
from homnet.reader.places import mb_of_share, share_of_mb, unstretched


def test_borders_of_bands_are_those_of_the_table() -> None:
    for name in CHROMOSOMES:
        table = band_table(FINEST_LEVEL)[name]
        for band in table.bands:
            stop = band.iscn_stop / table.length_iscn
            assert mb_of_share(name, stop) == pytest.approx(band.bp_stop / 1e6, abs=1e-9)
            assert share_of_mb(name, band.bp_stop / 1e6) == pytest.approx(stop, abs=1e-12)


def test_tips_are_tips() -> None:
    assert mb_of_share("5", 0.0) == 0.0
    assert mb_of_share("5", 1.0) == pytest.approx(band_table(FINEST_LEVEL)["5"].length_bp / 1e6)
    for chromosome, bands in band_table(FINEST_LEVEL).items():
        assert share_of_mb(chromosome, bands.length_bp / 1e6) == 1.0, chromosome


def test_scores_go_back_to_where_the_view_took_them_from() -> None:
    # A view of as many positions as the sequence has is the sequence itself.
    score = np.random.default_rng(0).random((2, 40))
    found = unstretched(score, np.array([40, 40]))
    np.testing.assert_allclose(found[:, :40], score, rtol=1e-6)
    assert not found[:, 40:].any()


@pytest.mark.parametrize("length", [60, 128, 333, 512])
def test_a_ramp_survives_stretching_and_its_inverse(length: int) -> None:
    ramp = torch.zeros(1, 1, 1, 1, 512)
    ramp[..., :length] = torch.linspace(1, 2, length)
    view, _ = stretch(ramp, 128)
    found = unstretched(view.view(1, 128).double().numpy(), np.array([length]))[0]
    # Both are linear inside; only the outermost positions are held level.
    edge = int(np.ceil(length / 128)) + 1
    inner = slice(edge, length - edge)
    np.testing.assert_allclose(found[inner], ramp.numpy()[0, 0, 0, 0][inner], atol=2e-3)
    assert not found[length:].any()
