import json
import shutil
from dataclasses import replace
from functools import partial

import pytest

from homnet.cohorts.cohort import write_index
from homnet.errors import ConfigError, DataError
from homnet.model.checkpoint import patient_digests
from homnet.realism.tables import realism_summary
from homnet.realism.two_sample import TwoSampleConfig
from homnet.results import Record
from homnet.simulator.laboratory import Laboratory
from homnet.simulator.laboratory_file import FittedLaboratory, write_laboratory
from homnet_platform.records.realism import RealismConfig, compare
from homnet_platform.simulate import SimulateConfig, simulate


def _cohort(root, seed, *, num_healthy=24, num_patients=(6, 0, 0, 0), laboratory=None):
    return simulate(
        SimulateConfig(
            output=root,
            seed=seed,
            num_healthy=num_healthy,
            num_patients=num_patients,
            healthy_cells=1.5,
            patient_cells=6.0,
            num_files=2,
            laboratory=laboratory,
        )
    )


@pytest.fixture(scope="module")
def real(ray_cluster, tmp_path_factory):
    """Healthy people who play the real ones."""
    root = tmp_path_factory.mktemp("real") / "cohort"
    return _cohort(root, 1, num_patients=(0, 0, 0, 0))


@pytest.fixture(scope="module")
def laboratory(real, tmp_path_factory):
    """A laboratory that was fitted to half of the real people."""
    path = tmp_path_factory.mktemp("laboratory") / "l.json"
    fitted = patient_digests(sorted(real.patients["healthy-1"])[::2])
    write_laboratory(path, FittedLaboratory(Laboratory(), tuple(fitted)))
    return path


@pytest.fixture(scope="module")
def simulated(ray_cluster, laboratory, tmp_path_factory):
    """Simulated people with that laboratory."""
    return _cohort(tmp_path_factory.mktemp("simulated") / "cohort", 2, laboratory=laboratory)


@pytest.mark.ray
@pytest.mark.slow
def test_cohorts_are_compared(real, simulated, tmp_path, capsys, monkeypatch):
    # A fifth of the trees: sets of twelve people are not told apart by more of them either.
    few = partial(TwoSampleConfig, num_trees=20)
    monkeypatch.setattr("homnet_platform.records.realism.TwoSampleConfig", few)
    config = RealismConfig(
        simulated=simulated.root,
        real=real.root,
        simulated_hospital=("healthy-1",),
        output=tmp_path / "out",
        record=Record("They differ.", tmp_path / "results" / "realism.json"),
        num_bootstrap=60,
    )
    figures = compare(config)
    # The simulated cohort says whom its laboratory was fitted to: they do not judge.
    assert figures["sets"]["real"]["people"] == 12
    assert figures["sets"]["people the laboratory was fitted to"] == 12
    real_pairs = figures["sets"]["real"]["pairs"]
    assert figures["sets"]["simulated"]["pairs"] == pytest.approx(real_pairs, rel=0.35)
    assert figures["scorecard"]["num_agree"] > 0.6 * len(figures["scorecard"]["rows"])
    assert len(figures["scorecard"]["real_halves"]["rows"]) == 20
    assert "the same between random halves of the real people" in realism_summary(figures)
    tests = figures["two_sample"]
    assert next(iter(tests)) == "everything"
    assert [*tests][-1].startswith("control")
    assert all(0.3 < one["auc"]["value"] < 0.7 for one in tests.values())
    for learnt in ("simulated", "real"):
        assert figures["type_classifier"][learnt]["accuracy"]["value"] > 0.7
    assert list(figures["length_only"]["hospitals"]) == ["hospital-1"]
    names = {path.name for path in config.output.iterdir()}
    pictures = {"chromosomes.png", "scorecard.png", "length-only.png"}
    assert names == {"realism.json", "realism.md", *pictures}
    assert json.loads((config.output / "realism.json").read_text()) == figures
    written = json.loads(config.record.file.read_text())
    assert written["figures"] == figures
    assert (config.output / "realism.md").read_text() in capsys.readouterr().out


@pytest.mark.ray
def test_lengths_need_no_real_chromosomes(simulated, tmp_path):
    config = RealismConfig(simulated=simulated.root, output=tmp_path / "out", num_bootstrap=60)
    assert set(compare(config)) == {"length_only"}
    names = {path.name for path in config.output.iterdir()}
    assert names == {"realism.json", "realism.md", "length-only.png"}


@pytest.mark.ray
def test_healthy_people_alone_say_nothing_of_lengths(real, tmp_path):
    with pytest.raises(DataError, match="no hospital has both normal and abnormal"):
        compare(RealismConfig(simulated=real.root, output=tmp_path / "out"))


@pytest.mark.ray
def test_people_who_cannot_judge(real, simulated, tmp_path):
    config = RealismConfig(simulated=simulated.root, real=real.root, output=tmp_path / "out")
    everybody = tuple(patient_digests(real.patients["healthy-1"]))
    write_laboratory(tmp_path / "all.json", FittedLaboratory(Laboratory(), everybody))
    with pytest.raises(DataError, match="fitted to everybody here"):
        compare(replace(config, laboratory=tmp_path / "all.json"))
    most = tuple(patient_digests(sorted(real.patients["healthy-1"])[:-3]))
    write_laboratory(tmp_path / "most.json", FittedLaboratory(Laboratory(), most))
    with pytest.raises(DataError, match="people with normal pairs to compare; give at least 10"):
        compare(replace(config, laboratory=tmp_path / "most.json"))


@pytest.mark.ray
def test_scales_are_not_mixed(ray_cluster, simulated, real, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(simulated.root, mixed)
    scale = {**simulated.scale, "hospital-1": 2.0}
    write_index(mixed / "cohort.json", simulated.files, scale=scale, provenance={})
    with pytest.raises(ConfigError, match="different scales"):
        compare(RealismConfig(simulated=mixed, real=real.root, output=tmp_path / "out"))
