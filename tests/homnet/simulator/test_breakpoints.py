"""Where chromosomes break: bands by name, sizes, and distances from the tips."""

import numpy as np
import pytest

from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.simulator.breakpoints import Breakpoint, Site, bands_within


def mid(chromosome: str, band: str) -> Breakpoint:
    """The middle of one of the finest bands."""
    start, stop = band_table(FINEST_LEVEL)[chromosome].region(band)
    return Breakpoint(chromosome, (start + stop) / 2)


def test_every_band_is_named_alike_at_the_finest_level():
    for name, bands in band_table(FINEST_LEVEL).items():
        for band in bands.bands:
            assert mid(name, band.label).band(FINEST_LEVEL) == band.label


def test_a_coarser_name_is_the_beginning_of_the_finer_one():
    for name, bands in band_table(FINEST_LEVEL).items():
        for band in bands.bands:
            coarse = mid(name, band.label).band(400)
            assert band.label.startswith(coarse)


def test_bands_within_a_band():
    assert [band.label for band in bands_within("9", "q34.1")] == ["q34.11", "q34.12", "q34.13"]
    assert [band.label for band in bands_within("5", "p15")][0::4] == ["p15.33", "p15.1"]
    assert [band.label for band in bands_within("10", "q21")] == ["q21.1", "q21.2", "q21.3"]
    with pytest.raises(KeyError, match="chromosome 9 has no band q99"):
        bands_within("9", "q99")


def test_events_keep_their_size_and_their_distance_from_the_tips():
    rng = np.random.default_rng(0)
    site = Site(rng, "5")
    ends_mb = np.array([site.end("q", 20.0).end_mb for _ in range(200)])
    assert (ends_mb > 15.9).all()
    assert (ends_mb < 25.1).all()
    first, last = site.interval("p", 500.0)  # more than the arm has
    assert (first.arm, last.arm) == ("p", "p")
    assert first.mb < last.mb
    assert first.mb >= 2.0
    upper, lower = site.around_centromere(30.0)
    assert (upper.arm, lower.arm) == ("p", "q")
    assert lower.mb - upper.mb == pytest.approx(30.0, abs=0.1)


def test_light_bands_break_three_times_as_often_as_their_length_says():
    rng = np.random.default_rng(1)
    bands = band_table(FINEST_LEVEL)["1"]
    light = {band.label for band in bands.bands if band.stain == "gneg"}
    share = sum(band.bp_stop - band.bp_start for band in bands.bands if band.label in light)
    share /= bands.length_bp
    site = Site(rng, "1")
    drawn = np.mean([site.point().band(FINEST_LEVEL) in light for _ in range(1000)])
    assert drawn == pytest.approx(3 * share / (3 * share + 1 - share), abs=0.05)
