"""Pre-training: whose pairs it takes, and which directories it refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homnet.cohorts.split import SplitConfig
from homnet.errors import ConfigError
from homnet.model.checkpoint import Checkpoint
from homnet_platform import pretraining
from homnet_platform.evaluation import evaluate
from homnet_platform.pretraining import pretrain
from homnet_platform.training import Trained

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_pretraining_refuses_abnormal_people(lineage: Any, tmp_path: Path) -> None:
    config = replace(lineage.pretraining, hospitals=(), output=str(tmp_path / "p"))
    with pytest.raises(ConfigError, match=r"h1, h2 of .* have abnormal pairs"):
        pretrain(config)


def test_pretraining_learns_from_people_with_known_abnormalities(
    lineage: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_this_process: Callable[..., Trained],
) -> None:
    monkeypatch.setattr(pretraining, "run_stage", in_this_process)
    config = replace(
        lineage.pretraining,
        hospitals=("h1", "h2"),
        training=replace(lineage.pretraining.training, labels="cohort"),
        split=SplitConfig(0.4, 0.0),
        output=str(tmp_path / "taught"),
    )
    path = pretrain(config)
    checkpoint = Checkpoint.load(path)
    assert checkpoint.provenance["hospitals"] == ["h1", "h2"]
    assert checkpoint.provenance["parent"] is None
    # Who taught it is known, and nobody of them is tested.
    with pytest.raises(ConfigError, match="were learnt from"):
        evaluate(replace(lineage.evaluation, checkpoint=str(path)))
    healthy = replace(config, hospitals=("healthy",), output=str(tmp_path / "healthy"))
    with pytest.raises(ConfigError, match="nobody has an abnormal pair"):
        pretrain(healthy)


def test_a_finished_run_is_not_overwritten(lineage: Any) -> None:
    with pytest.raises(ConfigError, match="this run is finished"):
        pretrain(lineage.pretraining)


def test_another_runs_directory_is_refused(lineage: Any, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="interrupted run with other settings"):
        pretrain(replace(lineage.pretraining, output=str(tmp_path / "p")))
