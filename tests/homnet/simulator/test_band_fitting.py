"""Bands that are known, read back from simulated chromosomes."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from homnet.karyotype.bands import band_table
from homnet.karyotype.chromosomes import CHROMOSOME_INDEX, CHROMOSOMES
from homnet.realism.measures import Pairs
from homnet.simulator.atlas import APPEARANCE_LEVEL, BandAppearance, atlas_of, band_lengths
from homnet.simulator.band_fitting import corrected, fit_bands, median_lengths, registered_means
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig, Laboratory

NAMES = ("1", "9", "20")


def appearance(seed):
    """Other shades than the ideogram's for all bands, and a longer first band."""
    rng = np.random.default_rng(seed)
    bands = [band_table(APPEARANCE_LEVEL)[name].bands for name in CHROMOSOMES]
    return BandAppearance(
        darkness=tuple(tuple(rng.uniform(0, 1, len(found)).tolist()) for found in bands),
        stretch=tuple((1.5, *[1.0] * (len(found) - 1)) for found in bands),
    )


@pytest.fixture(scope="module")
def laboratory():
    # Fitted bands are those of a laboratory whose cells are all of one level.
    return Laboratory(band_levels=(0.0, 0.0, 1.0, 0.0), flip_rate=0.0, bands=appearance(3))


def pairs(laboratory, num_people=50):
    hospital = HospitalConfig("h", laboratory, abnormal_fraction=0.0)
    table = pa.concat_tables(simulate_person(1, hospital, n, 1.0) for n in range(num_people))
    return Pairs.from_table(table, laboratory.samples_per_px, with_single=True)


@pytest.fixture(scope="module")
def seen(laboratory):
    """Means and lengths by type of fifty people's chromosomes."""
    of_people = pairs(laboratory)
    return registered_means(of_people), median_lengths(of_people)


def agreement(found, truth, name):
    """Correlation of band shades, each band counted by its length."""
    at = CHROMOSOME_INDEX[name]
    weight = band_lengths(name)
    one, other = (
        np.array(bands.darkness[at]) - np.average(bands.darkness[at], weights=weight)
        for bands in (found, truth)
    )
    return (weight * one * other).sum() / np.sqrt(
        (weight * one**2).sum() * (weight * other**2).sum()
    )


@pytest.mark.slow
def test_shades_are_read_back(laboratory, seen):
    means, lengths = seen
    assert set(means) == set(CHROMOSOMES)
    plain = replace(laboratory, bands=None)
    found = fit_bands(means, lengths, plain)
    drawn = BandAppearance(
        darkness=tuple(
            tuple(band.darkness for band in band_table(APPEARANCE_LEVEL)[name].bands)
            for name in CHROMOSOMES
        ),
        stretch=laboratory.bands.stretch,
    )
    # Over all types: a single one may be registered one band off.
    for bands, low, high in ((found, 0.65, 1.0), (drawn, -1.0, 0.4)):
        median = np.median([agreement(bands, laboratory.bands, name) for name in CHROMOSOMES])
        assert low < median < high


@pytest.mark.slow
def test_correction_brings_the_simulated_mean_nearer(laboratory, seen):
    wanted, lengths = seen
    shown, errors = dict(wanted), []
    for _ in range(3):
        bands = fit_bands(shown, lengths, laboratory)
        simulated = registered_means(pairs(replace(laboratory, bands=bands), 25))
        errors.append(np.mean([np.std(wanted[name] - simulated[name]) for name in NAMES]))
        shown = corrected(shown, wanted, simulated)
    assert errors[-1] < 0.9 * errors[0]


def test_types_without_chromosomes_keep_the_ideogram():
    bands = fit_bands({}, {}, Laboratory())
    assert bands.darkness[0] == tuple(b.darkness for b in band_table(APPEARANCE_LEVEL)["1"].bands)
    assert set(bands.stretch[0]) == {1.0}


def test_a_longer_band_moves_what_lies_below_it():
    plain, longer = atlas_of(None), atlas_of(appearance(0))
    first = float(band_lengths("4")[0])
    assert longer.visible("4", first / 2) == pytest.approx(0.75 * first)
    assert longer.visible("4", 5000.0) == pytest.approx(5000.0 + first / 2)
    assert plain.visible("4", 5000.0) == 5000.0
