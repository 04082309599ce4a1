"""The model in the package is replaced by a whole one, or stays."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from homnet.errors import ConfigError, DataError
from homnet.model.checkpoint import Checkpoint
from homnet.model.shipped import FOLDER
from homnet.reader.network import ReaderConfig

ROOT = Path(__file__).parents[3]
JOB = runpy.run_path(str(ROOT / "jobs" / "records" / "ship_model.py"))


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Settings that make the model of the package again, in a folder that holds an earlier one."""
    Checkpoint.load(FOLDER / "checkpoint").save(tmp_path / "calibrated" / "h1" / "checkpoint")
    reader = Checkpoint.load(FOLDER / "reader", ReaderConfig.of_json)
    reader.save(tmp_path / "calibrated" / "reader")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "README.md").write_text("earlier")
    return JOB["ShipConfig"](
        calibrated=tmp_path / "calibrated",
        result=ROOT / "results" / "shipped-model.json",
        output=tmp_path / "shipped",
    )


def _give(monkeypatch: pytest.MonkeyPatch, example: Any) -> None:
    monkeypatch.setitem(JOB["main"].__globals__, "_example", example)


def test_a_model_is_replaced_whole_or_stays(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any) -> bytes:
        raise DataError("nobody of these patients makes an example")

    _give(monkeypatch, nobody)
    with pytest.raises(DataError, match="nobody"):
        JOB["main"](config)
    assert [path.name for path in config.output.iterdir()] == ["README.md"]
    assert (config.output / "README.md").read_text() == "earlier"
    _give(monkeypatch, lambda *_: b"example")
    JOB["main"](config)
    names = {path.name for path in config.output.iterdir()}
    assert names == {"README.md", "checkpoint", "example.arrow", "reader"}
    made = Checkpoint.load(config.output / "checkpoint")
    assert made.digest == Checkpoint.load(FOLDER / "checkpoint").digest
    assert (config.output / "example.arrow").read_bytes() == b"example"


def test_a_folder_of_something_else_is_refused(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _give(monkeypatch, lambda *_: b"example")
    (config.output / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"holds thesis\.tex, which does not belong to a model"):
        JOB["main"](config)
    assert (config.output / "thesis.tex").is_file()
