from dataclasses import replace

import pytest

from homnet.errors import CohortError, ConfigError, StoreError
from homnet.model.checkpoint import patient_digests
from homnet.simulator.fitting import FitConfig
from homnet.simulator.laboratory_file import read_laboratory
from homnet_platform.laboratory_fitting import FitLaboratoryConfig, fit
from homnet_platform.simulate import SimulateConfig, simulate


@pytest.fixture(scope="module")
def cohort(ray_cluster, tmp_path_factory):
    root = tmp_path_factory.mktemp("fitting")
    return simulate(
        SimulateConfig(
            output=root / "cohort", num_healthy=8, num_patients=(0, 0, 0, 0), healthy_cells=2.0
        )
    )


@pytest.mark.ray
@pytest.mark.slow
def test_a_laboratory_is_fitted_to_half_of_the_people(cohort, tmp_path, monkeypatch):
    # One fit of the bands is enough here; the rounds are those of tests/homnet.
    monkeypatch.setattr("homnet.simulator.fitting._BAND_ROUNDS", 0)
    config = FitLaboratoryConfig(
        cohort=cohort.root,
        hospital="healthy-1",
        output=tmp_path / "l.json",
        # Bands are fitted, derivatives are taken, and no setting is moved: each step is as long.
        fit=FitConfig(num_people=1, rounds=1, steps=0),
    )
    fitted = fit(config)
    assert read_laboratory(config.output) == fitted
    assert fitted.laboratory.bands is not None
    assert len(fitted.patients) == 4
    assert set(fitted.patients) < set(patient_digests(cohort.patients["healthy-1"]))
    with pytest.raises(ConfigError, match="exists already"):
        fit(config)


@pytest.mark.ray
def test_an_output_that_cannot_be_written_is_noticed_before_the_work(cohort, tmp_path, monkeypatch):
    monkeypatch.delattr("homnet_platform.laboratory_fitting.fit_laboratory")
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "l.json"
    with pytest.raises(StoreError, match="file: cannot be written"):
        fit(FitLaboratoryConfig(cohort=cohort.root, hospital="healthy-1", output=output))


@pytest.mark.ray
def test_unknown_hospitals_and_shares(cohort, tmp_path):
    config = FitLaboratoryConfig(cohort=cohort.root, hospital="h9", output=tmp_path / "l.json")
    with pytest.raises(CohortError, match="no hospital 'h9'"):
        fit(config)
    with pytest.raises(ConfigError, match="share is 0"):
        replace(config, share=0.0)
