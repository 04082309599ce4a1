"""The demonstration: whose directory it takes, and what its stages hand on."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from homnet.errors import ConfigError, DataError
from homnet_platform import demo
from homnet_platform.demo import DemoConfig, demonstrate


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stages that do nothing; each leaves its config here."""
    asked: list[Any] = []

    def stage(config: Any) -> Any:
        asked.append(config)
        return {} if len(asked) == 3 else Path(f"stage-{len(asked)}")

    steps = ("simulate", "pretrain", "fine_tune", "calibrate", "diagnose", "evaluate", "report")
    for name in steps:
        monkeypatch.setattr(demo, name, stage)
    monkeypatch.setattr(demo, "measure", lambda config: None)
    monkeypatch.setattr(demo, "local_or_cluster", nullcontext)
    return asked


def test_its_stages_hand_on_what_they_made(tmp_path: Path, stages: list[Any]) -> None:
    page = demonstrate(DemoConfig(work=tmp_path / "demo", output=tmp_path / "report"))
    assert page == tmp_path / "report" / "index.html"
    assert stages[1].cohort == stages[2].cohort == str(tmp_path / "demo" / "cohort")
    calibrated, diagnosed, evaluated, reported = stages[3:]
    assert calibrated.checkpoint == evaluated.checkpoint == str(tmp_path / "demo" / "fine_tune")
    assert diagnosed.checkpoint == calibrated.output
    # Thresholds come from validation patients, verdicts are on test patients of the same split.
    assert diagnosed.patients == "test"
    assert diagnosed.split == calibrated.split == evaluated.split == stages[2].split
    assert str(reported.diagnosis) == diagnosed.output
    assert reported.output == tmp_path / "report"


def test_what_was_interrupted_starts_anew(
    tmp_path: Path, stages: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "demo"

    def killed(_: Any) -> None:
        (work / "fine_tune").mkdir()
        raise DataError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(demo, "fine_tune", killed)
        with pytest.raises(DataError, match="killed"):
            demonstrate(DemoConfig(work=work))
    assert (work / "fine_tune").is_dir()
    stages.clear()
    demonstrate(DemoConfig(work=work))
    assert not (work / "fine_tune").exists()


def test_foreign_directories_are_left_alone(tmp_path: Path, stages: list[Any]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="something other than a demonstration"):
        demonstrate(DemoConfig(work=tmp_path))
    assert (tmp_path / "thesis.txt").exists()
    assert not stages
