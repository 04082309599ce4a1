"""The demonstration: whose directory it takes, and when it counts as finished."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from homnet.errors import ConfigError, DataError
from homnet_platform import demo
from homnet_platform.demo import DemoConfig, demonstrate, is_finished


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Stages that do nothing; each leaves its config here."""
    asked: list[Any] = []

    def stage(config: Any) -> Any:
        assert not is_finished(tmp_path / "demo")
        asked.append(config)
        return {} if len(asked) == 3 else Path(f"stage-{len(asked)}")

    for name in ("simulate", "pretrain", "fine_tune", "evaluate", "report"):
        monkeypatch.setattr(demo, name, stage)
    monkeypatch.setattr(demo, "local_or_cluster", nullcontext)
    return asked


def test_it_is_finished_at_its_end_only(tmp_path: Path, stages: list[Any]) -> None:
    assert not is_finished(tmp_path / "demo")
    page = demonstrate(DemoConfig(work=tmp_path / "demo", output=tmp_path / "report"))
    assert page == Path("stage-5")
    assert is_finished(tmp_path / "demo")
    assert stages[1].cohort == stages[2].cohort == str(tmp_path / "demo" / "cohort")
    assert stages[4].output == tmp_path / "report"


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
    assert not is_finished(work)
    stages.clear()
    demonstrate(DemoConfig(work=work))
    assert is_finished(work)
    assert not (work / "fine_tune").exists()


def test_foreign_directories_are_left_alone(tmp_path: Path, stages: list[Any]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="something other than a demonstration"):
        demonstrate(DemoConfig(work=tmp_path))
    assert (tmp_path / "thesis.txt").exists()
    assert not stages
