from importlib import resources

import pytest

from homnet.errors import ConfigError
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.karyotype.chromosomes import BAND_LEVELS, CHROMOSOMES

LEVELS = (*BAND_LEVELS, FINEST_LEVEL)


def test_table_is_packed_with_the_package():
    assert resources.files("homnet.karyotype").joinpath("bands.csv").is_file()


@pytest.mark.parametrize(
    ("level", "num_bands"), [(300, 299), (400, 393), (550, 553), (700, 725), (850, 862)]
)
def test_number_of_bands(level, num_bands):
    table = band_table(level)
    assert tuple(table) == CHROMOSOMES
    assert sum(len(chromosome.bands) for chromosome in table.values()) == num_bands


@pytest.mark.parametrize("level", LEVELS)
def test_bands_touch_and_fill_the_chromosome(level):
    for name, chromosome in band_table(level).items():
        finest = band_table(FINEST_LEVEL)[name]
        assert chromosome.length_iscn == finest.length_iscn
        assert chromosome.length_bp == finest.length_bp
        assert chromosome.bands[0].iscn_start == chromosome.bands[0].bp_start == 0
        for before, after in zip(chromosome.bands, chromosome.bands[1:], strict=False):
            assert before.iscn_stop == after.iscn_start > before.iscn_start
            assert before.bp_stop == after.bp_start > before.bp_start
            assert (before.arm, after.arm) != ("q", "p")


def test_visible_lengths_follow_iscn():
    table = band_table(400)
    assert [table[name].length_iscn for name in ("1", "21", "Y")] == [15100, 3200, 3650]


@pytest.mark.parametrize("level", LEVELS)
def test_base_pairs_and_visible_positions_are_inverse(level):
    chromosome = band_table(level)["9"]
    for iscn in (0.0, 123.0, 2700.0, 7950.0):
        assert chromosome.to_iscn(chromosome.to_bp(iscn)) == pytest.approx(iscn)
    # Megabases are not equally long: 9p12 shows at more than twice the mean of its chromosome.
    shown = chromosome.to_iscn(40e6) - chromosome.to_iscn(39e6)
    assert shown > 2 * 1e6 * chromosome.length_iscn / chromosome.length_bp


def test_band_at_a_position():
    chromosome = band_table(400)["1"]
    assert chromosome.at(0.0).label == "p36.3"
    assert chromosome.at(451.0).label == "p36.2"
    assert chromosome.at(450.9).label == "p36.3"
    assert chromosome.at(99999.0).label == "q44"
    assert chromosome.region("p36.3", "p36.2") == (0.0, 682.0)
    with pytest.raises(KeyError):
        chromosome.region("p99")


def test_level_300_melts_weak_dark_bands_into_grey():
    few, many = (band_table(level)["5"] for level in (300, 400))
    merged = next(band for band in few.bands if band.label == "p15.3-15.1")
    parts = [band for band in many.bands if band.name in {"15.3", "15.2", "15.1"}]
    mean = sum(band.darkness * band.length_iscn for band in parts) / merged.length_iscn
    assert merged.darkness == pytest.approx(mean)
    assert merged.iscn_stop == parts[-1].iscn_stop


def test_level_700_has_no_sub_sub_bands():
    names = [band.name for name in CHROMOSOMES for band in band_table(700)[name].bands]
    assert max(len(name.partition(".")[2]) for name in names) == 1


def test_unknown_level_says_what_there_is():
    with pytest.raises(ConfigError, match="level 500"):
        band_table(500)
