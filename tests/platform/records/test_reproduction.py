"""Methods side by side: failures that stay alone, restarts, and the figures of a table."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from homnet.bags.events import EventConfig
from homnet.errors import ConfigError, DataError
from homnet.model.network import HomNetConfig
from homnet.records.beside_paper import HOMNET, comparison_markdown, variants_markdown
from homnet.results import Record, read_json, read_result
from homnet.training.learning import METRIC
from homnet_platform.data import Participants
from homnet_platform.records import reproduction
from homnet_platform.records.ablation import variants_of
from homnet_platform.records.method_trials import Method
from homnet_platform.records.plan import Comparison, ReproduceConfig
from homnet_platform.records.reproduction import hours_of, record, reproduce
from homnet_platform.records.side_by_side import METHODS, VARIANTS


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_one_failure_stays_alone_and_restarts_repeat_what_is_missing(
    config: ReproduceConfig,
    bench,
    small: HomNetConfig,
    shared: Participants,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(stage, bank, **_):
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr(reproduction, "collect", lambda cohort, comparison: shared)
    methods = {HOMNET: Method(small, bench.fit), "Broken": Method(small, broken)}
    first = reproduce(config, methods, METHODS)
    assert "Broken, seed 0: failed: the machine is on fire" in capsys.readouterr().out
    assert [row["method"] for row in first["rows"]] == [HOMNET]
    assert first["failed"] == [
        {"name": "Broken", "run": "seed 0", "reason": "the machine is on fire"}
    ]
    assert "Not in the table, as they failed: Broken." in comparison_markdown(first)
    everything = ["HomNet, seed 0", "HomNet, seed 0, h1", "HomNet, seed 1", "HomNet, seed 1, h1"]
    assert bench.fits() == everything

    kept, lost = (tmp_path / "runs" / HOMNET / f"seed-{n}" / "record.json" for n in (0, 1))
    changed = kept.stat().st_mtime_ns
    lost.unlink()  # killed after the fine-tuning
    again = reproduce(config, {HOMNET: methods[HOMNET]}, METHODS)
    assert bench.fits() == ["HomNet, seed 1, h1"]
    assert kept.stat().st_mtime_ns == changed
    assert again["rows"] == first["rows"]
    assert (again["failed"], again["num_reused"]) == ([], 1)
    assert again["peak_memory_gib"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_further_seeds_are_for_homnet_and_what_validates_near_it(
    config: ReproduceConfig, small: HomNetConfig, bench
) -> None:
    def of(auc: float) -> Method:
        def fit(stage, bank, **how):
            found = bench.fit(stage, bank, **how)
            return dataclasses.replace(found, metrics={**found.metrics, METRIC: auc})

        return Method(small, fit)

    events = EventConfig(sham_share=0.2)
    comparison = replace(config.comparison, fine_tuned=False, events=events)
    config = replace(config, comparison=comparison)
    methods = {HOMNET: of(0.9), "Near": of(0.871), "Far": of(0.869), "Ahead": of(0.95)}
    found = reproduce(config, methods, METHODS)
    one, two = [0], [0, 1]
    assert found["seeds_of"] == {HOMNET: two, "Near": two, "Far": one, "Ahead": two}
    assert len(found["runs"]) == 7
    assert "within 0.03 of its validation AUC (HomNet, Near, Ahead)" in comparison_markdown(found)
    alone = replace(config, output=config.output + "-alone")
    assert reproduce(alone, {"Near": methods["Near"]}, METHODS)["seeds_of"] == {"Near": one}


def test_hours_count_trials_and_trainings_that_learn(small: HomNetConfig) -> None:
    comparison = Comparison(minutes=30.0, seeds=(0, 1, 2))
    methods = {
        "tried": Method(small, print, pretraining=({"width": 4},) * 4),
        "single": Method(small, print),
        "floor": Method(small, print, in_steps=False),
    }
    # Four trials of 7.5 minutes, two trainings, and two further seeds of one method or of both.
    assert hours_of(comparison, methods) == (0.5 + 1.0 + 1.0, 0.5 + 1.0 + 2.0)


@pytest.mark.usefixtures("without_ray")
def test_variants_join_what_is_there_and_other_settings_do_not(
    config: ReproduceConfig, bench, small: HomNetConfig
) -> None:
    methods = variants_of(small, bench.fit)
    config = replace(config, comparison=replace(config.comparison, seeds=(0,)))
    reproduce(replace(config, methods=(HOMNET,)), methods, VARIANTS)
    assert bench.fits() == ["HomNet, seed 0", "HomNet, seed 0, h1"]
    config = replace(config, methods=(HOMNET, "w/o bag"))
    found = reproduce(config, methods, VARIANTS)
    assert bench.fits() == ["w/o bag, seed 0", "w/o bag, seed 0, h1"]
    assert found["num_reused"] == 1
    assert [row["variant"] for row in found["rows"]] == [HOMNET, "w/o bag"]
    full, other = found["rows"]
    assert 0 <= full["auc"]["value"] <= 1
    less = other["auc"]["value"] - full["auc"]["value"]
    assert other["auc_less_full"]["value"] == pytest.approx(less)
    assert found["people"] == {"train": 2, "validation": 2, "test": 4}
    assert found["trials"] == {}
    assert [run["method"] for run in found["runs"]] == [HOMNET, "w/o bag"]
    table = variants_markdown(found)
    assert "| w/o bag | " in table
    assert "One rule for all: 0.001 minutes of one core for each training" in table
    assert "Best validation AUC and its rise in the last quarter" in table
    assert "Not in the table" not in table

    form = replace(small, merge_range=32)
    with pytest.raises(ConfigError, match="other settings"):
        reproduce(config, methods | {HOMNET: Method(form, bench.fit)}, VARIANTS)
    longer = replace(config.comparison, minutes=0.002)
    with pytest.raises(ConfigError, match="other settings"):
        reproduce(replace(config, comparison=longer), methods, VARIANTS)
    with pytest.raises(ConfigError, match="unknown method 'VGG'; there are HomNet, w/o pair"):
        reproduce(replace(config, methods=("VGG",)), methods, VARIANTS)


def test_a_result_is_recorded_unless_a_run_failed(config: ReproduceConfig, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    config = replace(config, record=Record("a claim", result))
    failed = {"failed": [{"name": "AE", "run": "seed 1", "reason": "the machine is on fire"}]}
    with pytest.raises(DataError, match="AE, seed 1: the machine is on fire"):
        record(config, "ablation", failed)
    assert not result.exists()
    assert read_json(tmp_path / "runs" / "table-2.json") == failed
    record(config, "ablation", {"failed": []})
    found = read_result(result)
    assert found["figures"] == {"ablation": {"failed": []}}
    assert found["recipe"] == "table 2, best setting, 0.001 minutes"
