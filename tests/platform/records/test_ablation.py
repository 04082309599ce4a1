"""Ablations: all variants and seeds side by side, restarted where they were."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from homnet.bags.draw import BagConfig
from homnet.cohorts.cohort import write_cohort
from homnet.cohorts.split import SplitConfig
from homnet.errors import ConfigError, DataError
from homnet.model.network import best_form
from homnet.training.optimisation import TrainingConfig
from homnet_platform.records.ablation import FULL, AblateConfig, ablate

TableOf = Callable[..., pa.Table]
SHARES = SplitConfig(validation=0.25, test=0.5)  # one of each class in each part of "h1"


@pytest.fixture
def config(tmp_path: Path, table_of: TableOf) -> AblateConfig:
    tables = [
        table_of("healthy-1", num_patients=8),
        table_of("h1", num_patients=8, abnormal="3"),
    ]
    write_cohort(tmp_path / "cohort", tables, scale={"healthy-1": 3.0, "h1": 3.0}, provenance={})
    training = TrainingConfig(batch_size=32, max_epochs=1, bags=BagConfig(num_cells=3))
    return AblateConfig(
        cohort=str(tmp_path / "cohort"),
        output=str(tmp_path / "ablate"),
        variants=(FULL, "w/o pair", "w/o bag", "align → CNN", "range 48"),
        seeds=(0, 1),
        model=replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64),
        training=training,
        fine_tuning=replace(training, labels="cohort"),
        split=SHARES,
        hospital_split=SHARES,
        bags=BagConfig(num_cells=3),
        num_bootstrap=60,
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_all_variants_and_seeds(config: AblateConfig, tmp_path: Path) -> None:
    small = replace(config, variants=(FULL, "w/o bag"))
    first = ablate(small)
    scores = tmp_path / "ablate" / "HomNet" / "seed-1" / "scores.parquet"
    kept = tmp_path / "ablate" / "HomNet" / "seed-0" / "scores.parquet"
    content, changed = scores.read_bytes(), kept.stat().st_mtime_ns
    scores.unlink()
    again = ablate(small)
    assert scores.read_bytes() == content  # repeated to the byte
    assert kept.stat().st_mtime_ns == changed  # and nothing else was
    assert again["rows"] == first["rows"]

    wide = ablate(replace(config, num_bootstrap=60))  # more variants join those that are there
    assert [row["variant"] for row in wide["rows"]] == list(config.variants)
    assert {row["hospital"] for row in wide["rows"]} == {"h1"}
    for row in wide["rows"]:
        assert 0 <= row["auc"]["value"] <= 1
        assert ("auc_less_full" in row) == (row["variant"] != FULL)
        if row["variant"] != FULL:
            full = wide["rows"][0]["auc"]["value"]
            assert row["auc_less_full"]["value"] == pytest.approx(row["auc"]["value"] - full)
    table = (tmp_path / "ablate" / "ablation.md").read_text()
    assert "| w/o pair |" in table
    assert json.loads((tmp_path / "ablate" / "ablation.json").read_text())["seeds"] == [0, 1]

    with pytest.raises(ConfigError, match="other settings"):
        ablate(replace(config, training=replace(config.training, max_epochs=3)))


def test_mistakes_are_refused(config: AblateConfig) -> None:
    with pytest.raises(ConfigError, match="w/o bag"):
        replace(config, variants=("w/o bags",))
    with pytest.raises(ConfigError, match="seed"):
        replace(config, seeds=())


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_fine_tuning_needs_abnormal_pairs(
    config: AblateConfig, tmp_path: Path, table_of: TableOf
) -> None:
    write_cohort(
        tmp_path / "normal",
        [table_of("healthy-1", num_patients=8)],
        scale={"healthy-1": 3.0},
        provenance={},
    )
    with pytest.raises(DataError, match="no hospital has abnormal pairs"):
        ablate(replace(config, cohort=str(tmp_path / "normal")))
