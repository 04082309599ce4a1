"""Methods side by side: failures that stay alone, restarts, and the figures of a table."""

from dataclasses import replace
from pathlib import Path

import pytest

from homnet.errors import ConfigError, DataError
from homnet.model.network import HomNetConfig
from homnet.records.beside_paper import HOMNET, ablation_beside_paper, comparison_markdown
from homnet.results import Record, read_json, read_result
from homnet_platform.data import Participants
from homnet_platform.records import reproduction
from homnet_platform.records.ablation import variants_of
from homnet_platform.records.methods import Method
from homnet_platform.records.plan import ReproduceConfig
from homnet_platform.records.reproduction import record, reproduce
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
    def broken(stage, bank, *, device="cpu"):
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr(reproduction, "collect", lambda cohort, comparison: shared)
    methods = {HOMNET: Method(small, bench.fit), "Broken": Method(small, broken)}
    first = reproduce(replace(config, estimate=True), methods, METHODS)
    told = capsys.readouterr().out
    assert f"{'Broken':<22} cannot be estimated: " in told
    assert "minutes of work" in told
    assert "Broken, trial 0: failed: the machine is on fire" in told
    assert [row["method"] for row in first["rows"]] == [HOMNET]
    assert first["failed"] == [
        {"name": "Broken", "run": "trial 0", "reason": "the machine is on fire"}
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
    assert (again["failed"], again["num_reused"]) == ([], 2)
    assert again["peak_memory_gib"] > 0


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
    assert found["num_reused"] == 2
    assert [row["variant"] for row in found["rows"]] == [HOMNET, "w/o bag"]
    full, other = found["rows"]
    assert 0 <= full["auc"]["value"] <= 1
    less = other["auc"]["value"] - full["auc"]["value"]
    assert other["auc_less_full"]["value"] == pytest.approx(less)
    assert found["people"] == {"train": 2, "validation": 2, "test": 4}
    assert found["trials"]["w/o bag"]["chosen"] == 0
    assert [run["method"] for run in found["runs"]] == [HOMNET, "w/o bag"]
    table = ablation_beside_paper(found)
    assert "| w/o bag | " in table
    assert "Not in the table" not in table

    form = replace(small, merge_range=32)
    with pytest.raises(ConfigError, match="other settings"):
        reproduce(config, methods | {HOMNET: Method(form, bench.fit)}, VARIANTS)
    other_scale = replace(config.comparison, scale=0.02)
    with pytest.raises(ConfigError, match="other settings"):
        reproduce(replace(config, comparison=other_scale), methods, VARIANTS)
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
    assert found["recipe"] == "table 2, best setting, scale 0.04"
