"""Settings that are known, found again from simulated chromosomes."""

from dataclasses import replace

import pyarrow as pa
import pytest

from homnet.simulator.cohort import simulate_person
from homnet.simulator.fitting import FitConfig, fit_laboratory
from homnet.simulator.laboratory import HospitalConfig, Laboratory

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("fitted")]  # one process fits, for both

TRUTH = Laboratory(
    band_levels=(0.0, 0.0, 1.0, 0.0), px_per_iscn=0.0066, darkness=110.0, edge=18.0, bend=1.0
)
CONFIG = FitConfig(num_people=3, rounds=1, steps=1)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Pale and bent chromosomes, cut at a lower edge, by a coarser camera."""
    hospital = HospitalConfig("h", TRUTH, abnormal_fraction=0.0)
    return pa.concat_tables(simulate_person(5, hospital, number, 1.5) for number in range(12))


@pytest.fixture(scope="module")
def fitted(table: pa.Table) -> tuple[Laboratory, list[str]]:
    said: list[str] = []
    return fit_laboratory(table, TRUTH.samples_per_px, CONFIG, report=said.append), said


def test_settings_become_those_of_the_chromosomes(fitted):
    found, said = fitted
    usual = Laboratory()
    # Eighteen cells, each condensed in its own way, tell the scale to 2 %.
    for name, share in (("px_per_iscn", 0.35), ("darkness", 0.2), ("edge", 0.5), ("bend", 0.3)):
        wanted, begun = getattr(TRUTH, name), getattr(usual, name)
        assert abs(getattr(found, name) - wanted) < share * abs(begun - wanted), name
    assert len(said) == 1
    assert found.bands is not None


def test_the_number_of_workers_changes_nothing(table, fitted):
    def backwards(function, arguments):
        return [function(one) for one in reversed(list(arguments))][::-1]

    other = fit_laboratory(
        table, TRUTH.samples_per_px, CONFIG, workers=backwards, report=lambda line: None
    )
    assert other == fitted[0]
    assert other != replace(other, edge=0.0)
