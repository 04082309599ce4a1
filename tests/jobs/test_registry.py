"""The registry on the command line: damage of one hospital is printed beside the others."""

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import torch

from homnet.errors import ConfigError, RegistryError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, HomNetConfig
from homnet.model.registry import Registry
from homnet.model.shipped import SHIPPED
from homnet.reader.network import ReaderConfig

JOB = runpy.run_path(str(Path(__file__).parents[2] / "jobs" / "registry.py"), run_name="job")
SMALL = HomNetConfig(merge_range=128, width=4, pair_width=6, num_heads=2)


def _run(root: Path, *arguments: str, **options: Any) -> None:
    JOB["main"](JOB["RegistryConfig"](*arguments, registry=str(root), **options))


def test_a_damaged_decision_is_said_and_set_aside_by_a_promotion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    registry = Registry(tmp_path)
    for hospital in ("h1", "h2"):
        version = registry.publish(Checkpoint(SMALL, HomNet(SMALL).state_dict()), hospital)
        registry.promote(hospital, version)
    newest = max((tmp_path / "events").glob("*-h2-*"))
    newest.write_bytes(b"")
    with pytest.raises(RegistryError, match=f"h2: decision {newest.name}: not a JSON file"):
        _run(tmp_path, "list")
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert [(row[0], row[2]) for row in rows] == [("h1", "promoted"), ("h2", "unknown")]
    _run(tmp_path, "list", hospital="h1")
    _run(tmp_path, "promote", hospital="h2", version=version)
    _run(tmp_path, "list")
    assert "unknown" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("action", "options", "message"),
    [
        ("promote", {"version": "3f", "reference": "cohort"}, "no use for --reference"),
        ("promote", {"version": "3f", "checkpoint": "shipped"}, "no use for --checkpoint"),
        ("publish", {"checkpoint": "shipped", "version": "3f"}, "no use for --version"),
        ("roll-back", {"version": "3f"}, "no use for --version"),
        ("list", {"reference": "cohort"}, "no use for --reference"),
        ("promote", {}, "promote needs --version"),
    ],
)
def test_options_that_an_action_needs_or_has_no_use_for(
    action: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        JOB["RegistryConfig"](action, hospital="h", **options)
    JOB["RegistryConfig"]("publish", hospital="h", checkpoint="shipped", reference="cohort")


def test_the_shipped_model_comes_with_its_reader(tmp_path: Path) -> None:
    _run(tmp_path, "publish", hospital="mine", checkpoint=SHIPPED)
    registry = Registry(tmp_path)
    (entry,) = registry.entries("mine")
    (reader,) = {one.reader for one in registry.checkpoint(entry.version).patients.values()}
    assert registry.reader(reader, ReaderConfig.of_json).version == reader


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], str]:
    """Publishes a small model for a hospital with reference bags of a number; says its version."""
    torch.manual_seed(0)
    checkpoint = Checkpoint(SMALL, HomNet(SMALL).state_dict())
    checkpoint.save(tmp_path / "checkpoint")
    names = JOB["main"].__globals__
    cohort = SimpleNamespace(files=[""], read=lambda *_: None)
    monkeypatch.setitem(names, "Cohort", SimpleNamespace(open=lambda _: cohort))

    def act(hospital: str, number: int) -> str:
        bags = pa.table({"number": [number]})
        monkeypatch.setitem(names, "reference_bags", lambda *_: bags)
        source = str(tmp_path / "checkpoint")
        _run(tmp_path / "r", "publish", hospital=hospital, checkpoint=source, reference="some")
        return checkpoint.digest

    return act


def test_reference_bags_are_there_before_the_candidate(
    tmp_path: Path, publish: Callable[[str, int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decide, present = Registry._decide, []

    def looks(self: Registry, action: Any, hospital: str, version: str) -> None:
        present.append(self.reference_bags(version) is not None)
        decide(self, action, hospital, version)

    monkeypatch.setattr(Registry, "_decide", looks)
    publish("h1", 1)
    assert present == [True]


def test_reference_bags_are_not_changed_under_another_hospital(
    tmp_path: Path, publish: Callable[[str, int], str], capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(tmp_path / "r")
    version = publish("h1", 1)
    registry.promote("h1", version)
    publish("h2", 1)
    with pytest.raises(RegistryError, match="h1 promoted this model with other reference bags"):
        publish("h3", 2)
    assert [entry.hospital for entry in registry.entries()] == ["h1", "h2"]
    assert registry.reference_bags(version) == pa.table({"number": [1]})
    # The hospital itself can promote it again; until then its endpoint keeps the loaded model.
    publish("h1", 2)
    assert "h1 promoted this model with other reference bags: promote it again" in (
        capsys.readouterr().out
    )
    registry.promote("h1", version)
    publish("h3", 2)


def test_reference_bags_can_come_after_a_promotion_without(
    tmp_path: Path, publish: Callable[[str, int], str]
) -> None:
    registry = Registry(tmp_path / "r")
    version = registry.publish(Checkpoint.load(tmp_path / "checkpoint"), "h1")
    registry.promote("h1", version)
    publish("h2", 1)
    assert registry.reference_bags(version) is not None
