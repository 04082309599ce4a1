"""Settings that are known, found again from simulated chromosomes."""

from dataclasses import replace

import pyarrow as pa

from homnet.simulator.cohort import simulate_person
from homnet.simulator.fitting import FitConfig, fit_laboratory
from homnet.simulator.laboratory import HospitalConfig, Laboratory


def test_settings_become_those_of_the_chromosomes():
    """Pale and bent chromosomes, cut at a lower edge, by a coarser camera."""
    truth = Laboratory(
        band_levels=(0.0, 0.0, 1.0, 0.0), px_per_iscn=0.0066, darkness=110.0, edge=18.0, bend=1.0
    )
    hospital = HospitalConfig("h", truth, abnormal_fraction=0.0)
    table = pa.concat_tables(simulate_person(5, hospital, number, 1.5) for number in range(12))
    said = []
    found = fit_laboratory(
        table, truth.samples_per_px, FitConfig(num_people=3, rounds=1, steps=1), report=said.append
    )
    usual = Laboratory()
    # Eighteen cells, each condensed in its own way, tell the scale to 2 %.
    for name, share in (("px_per_iscn", 0.35), ("darkness", 0.2), ("edge", 0.5), ("bend", 0.3)):
        wanted, begun = getattr(truth, name), getattr(usual, name)
        assert abs(getattr(found, name) - wanted) < share * abs(begun - wanted), name
    assert len(said) == 1
    assert found.bands is not None


def test_the_number_of_workers_changes_nothing():
    hospital = HospitalConfig("h", Laboratory(), abnormal_fraction=0.0)
    table = pa.concat_tables(simulate_person(5, hospital, number, 1.5) for number in range(4))
    config = FitConfig(num_people=2, rounds=1, steps=1)

    def backwards(function, arguments):
        return [function(one) for one in reversed(list(arguments))][::-1]

    one, other = (
        fit_laboratory(table, 3.0, config, workers=workers, report=lambda line: None)
        for workers in (map, backwards)
    )
    assert one == other
    assert one != replace(one, edge=0.0)
