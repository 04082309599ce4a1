"""Band densities side by side, as the tables or as a laboratory shows them."""

import numpy as np
import pytest

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOMES
from homnet.simulator.atlas import (
    APPEARANCE_LEVEL,
    BIN_ISCN,
    BandAppearance,
    atlas_of,
    band_lengths,
)
from homnet.simulator.genome import Segment


def appearance(stretch: float) -> BandAppearance:
    bands = [band_table(APPEARANCE_LEVEL)[name].bands for name in CHROMOSOMES]
    return BandAppearance(
        tuple((0.25,) * len(of_type) for of_type in bands),
        tuple((stretch,) * len(of_type) for of_type in bands),
    )


def test_the_tables_own_atlas_moves_nothing() -> None:
    atlas = atlas_of(None)
    assert len(atlas.density_VB) == len(BAND_LEVELS)
    assert atlas.visible("7", 1234.0) == pytest.approx(1234.0)
    level = BAND_LEVELS.index(550)
    for band in band_table(550)["7"].bands[1:4]:
        middle = band_table(FINEST_LEVEL)["7"].to_iscn((band.bp_start + band.bp_stop) / 2)
        found = atlas.density_VB[level, atlas.first_bin["7"] + int(middle / BIN_ISCN)]
        assert found == pytest.approx(band.darkness)


def test_a_laboratorys_bands_have_its_darkness_and_length() -> None:
    atlas = atlas_of(appearance(1.5))
    assert np.unique(atlas.density_VB).tolist() == [0.25]
    length = band_lengths("7").sum()
    assert atlas.visible("7", length) == pytest.approx(1.5 * length)
    segment = Segment("7", 100.0, 300.0, stretch=2.0)
    assert atlas.visible_length(segment) == pytest.approx(600.0)
