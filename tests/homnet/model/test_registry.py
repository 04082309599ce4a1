"""Models and decisions: status, roll-back, damage, and several deciding at the same time."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from homnet.calibration.bags import Calibration
from homnet.errors import CheckpointError, RegistryError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, HomNetConfig, best_form
from homnet.model.registry import Decision, Registry, _replay
from homnet.reader.network import ReaderConfig

SMALL = HomNetConfig(merge_range=128, width=4, pair_width=6, num_heads=2)


def _checkpoint(number: int = 0) -> Checkpoint:
    torch.manual_seed(number)
    return Checkpoint(
        config=SMALL,
        weights=HomNet(SMALL).state_dict(),
        metrics={"validation_auc": 0.9},
        provenance={"seed": number},
        calibration={"h1": Calibration(threshold=0.4)},
    )


@pytest.fixture(params=["path", "uri"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    place = tmp_path / "registry"
    return Registry(place if request.param == "path" else place.as_uri())


def _status(registry: Registry, hospital: str = "h1") -> list[str]:
    return [entry.status for entry in registry.entries(hospital)]


def test_a_model_goes_from_candidate_to_promoted_to_retired(registry: Registry) -> None:
    assert registry.entries() == []
    assert registry.promoted("h1") is None
    first, second = (registry.publish(_checkpoint(i), "h1") for i in range(2))
    assert _status(registry) == ["candidate", "candidate"]
    assert registry.promote("h1", first[:8]).version == first
    assert _status(registry) == ["promoted", "candidate"]
    registry.promote("h1", second)
    assert _status(registry) == ["candidate", "promoted"]
    assert registry.retire("h1", first).status == "retired"
    assert _status(registry) == ["retired", "promoted"]
    assert registry.roll_back("h1") is None  # what answered before was retired
    assert _status(registry) == ["retired", "candidate"]


def test_roll_backs_go_back_one_by_one(registry: Registry) -> None:
    versions = [registry.publish(_checkpoint(i), "h1") for i in range(3)]
    for version in versions:
        registry.promote("h1", version)
    back = [registry.roll_back("h1") for _ in range(3)]
    assert [entry and entry.version for entry in back] == [versions[1], versions[0], None]
    with pytest.raises(RegistryError, match="no model is promoted for h1"):
        registry.roll_back("h1")


def test_hospitals_decide_for_themselves(registry: Registry) -> None:
    version = registry.publish(_checkpoint(), "h1")
    assert registry.publish(_checkpoint(), "h2") == version
    registry.promote("h2", version)
    assert registry.promoted("h1") is None
    assert {entry.hospital for entry in registry.entries()} == {"h1", "h2"}


def test_what_is_loaded_is_what_was_published(registry: Registry) -> None:
    wanted = _checkpoint(3)
    got = registry.checkpoint(registry.publish(wanted, "h1"))
    assert got.digest == wanted.digest
    assert got.calibration == wanted.calibration
    assert got.provenance == wanted.provenance


def test_a_reader_is_kept_by_the_version_that_calibrations_name(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    form = ReaderConfig(model=replace(best_form(), width=16, pair_width=16), width=16)
    reader = Checkpoint(form, form.build().state_dict(), metrics={"calibration": {"kind": 1.0}})
    registry.keep_reader(reader)
    registry.keep_reader(reader)
    assert registry.reader(reader.version, ReaderConfig.of_json).metrics == reader.metrics
    assert registry.entries() == []
    with pytest.raises(RegistryError, match="no reader other here; calibrate with --registry"):
        registry.reader("other", ReaderConfig.of_json)
    folder = tmp_path / "registry" / "readers"
    (folder / reader.version).rename(folder / "other")
    with pytest.raises(CheckpointError, match="holds the reader"):
        registry.reader("other", ReaderConfig.of_json)


def test_publishing_twice_changes_nothing(registry: Registry) -> None:
    registry.publish(_checkpoint(), "h1")
    registry.publish(_checkpoint(), "h1")
    assert len(registry.decisions()) == 1


def test_mistakes_are_refused(registry: Registry) -> None:
    one, two = (registry.publish(_checkpoint(i), "h1") for i in range(2))
    with pytest.raises(RegistryError, match="no model of h1 begin with 'zz'"):
        registry.promote("h1", "zz")
    with pytest.raises(RegistryError, match="no model of h9"):
        registry.promote("h9", one)
    with pytest.raises(RegistryError, match="no model"):
        registry.promote("h1", "")
    registry.promote("h1", one)
    with pytest.raises(RegistryError, match="answers for h1"):
        registry.retire("h1", one)
    registry.retire("h1", two)
    with pytest.raises(RegistryError, match="is retired"):
        registry.promote("h1", two)
    with pytest.raises(RegistryError, match="no model 00"):
        registry.checkpoint("00")
    with pytest.raises(RegistryError, match="give a path or URI"):
        Registry("nothing-like-this://x")


def test_a_damaged_model_does_not_come_to_answer(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    version = registry.publish(_checkpoint(), "h1")
    weights = tmp_path / "models" / version / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="altered or damaged"):
        registry.promote("h1", version)
    assert _status(registry) == ["candidate"]


def test_half_a_model_is_published_again(tmp_path: Path) -> None:
    """A process killed while it uploads leaves no hashes; the next one starts anew."""
    registry = Registry(tmp_path)
    version = registry.publish(_checkpoint(), "h1")
    (tmp_path / "models" / version / "sha256.json").unlink()
    (tmp_path / "models" / version / "model.safetensors").write_bytes(b"half")
    (tmp_path / "events" / ".staged-0.json").write_text("{")
    assert registry.publish(_checkpoint(), "h1") == version
    assert registry.checkpoint(version).digest == version


def test_another_calibration_is_another_model(registry: Registry) -> None:
    first = registry.publish(_checkpoint(), "h1")
    changed = replace(_checkpoint(), calibration={"h1": Calibration(threshold=0.9)})
    second = registry.publish(changed, "h1")
    assert first != second
    assert registry.checkpoint(second).calibration["h1"].threshold == 0.9
    assert registry.checkpoint(first).calibration["h1"].threshold == 0.4


def test_a_place_that_fails_is_one_sentence_whatever_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path)
    version = registry.publish(_checkpoint(), "h1")
    registry.promote("h1", version)

    class Full:
        def __getattr__(self, name: str) -> object:
            def fail(*arguments: object, **options: object) -> object:
                raise OSError("no space left on device")

            return fail

    monkeypatch.setattr(registry, "_files", Full())
    for ask in (
        lambda: registry.promote("h1", version),
        lambda: registry.roll_back("h1"),
        lambda: registry.entries(),
        lambda: registry.checkpoint(version),
    ):
        with pytest.raises(RegistryError, match="no space left"):
            ask()


def test_an_unreadable_decision_is_named(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.publish(_checkpoint(), "h1")
    (event,) = (tmp_path / "events").iterdir()
    event.write_text(json.dumps({"action": "promote"}))
    with pytest.raises(RegistryError, match=event.name):
        registry.entries()


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="cannot be written"):
        Registry(tmp_path / "file" / "registry").publish(_checkpoint(), "h1")


def test_order_is_by_number_then_id() -> None:
    """Two that decided at once: every reader sees the same one win, whatever the listing."""
    decisions = [
        Decision("publish", "h1", "a", 1, "t", "0"),
        Decision("publish", "h1", "b", 2, "t", "0"),
        Decision("promote", "h1", "b", 3, "t", "1"),
        Decision("promote", "h1", "a", 3, "t", "0"),
    ]
    ordered = sorted(decisions, key=lambda one: (one.number, one.id))
    assert [(e.version, e.status) for e in _replay(ordered, None)] == [
        ("a", "candidate"),
        ("b", "promoted"),
    ]
    # A roll-back of what no longer answers, and of a model that is retired, count for nothing.
    late = [
        *ordered,
        Decision("roll_back", "h1", "a", 4, "t"),
        Decision("retire", "h1", "b", 5, "t"),
    ]
    assert _replay(late, None) == _replay(ordered, None)


def _promote_often(root: str, version: str, times: int) -> None:
    registry = Registry(root)
    for _ in range(times):
        registry.promote("h1", version)


def test_processes_that_promote_at_once_corrupt_nothing(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    versions = [registry.publish(_checkpoint(i), "h1") for i in range(2)]
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_promote_often, args=(str(tmp_path), version, 12))
        for version in versions
    ]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        assert [e.version for e in registry.entries("h1")] == versions  # readable all the time
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    decisions = registry.decisions()
    assert len(decisions) == 2 + 24  # no decision is lost
    assert replace(decisions[-1]).version == registry.promoted("h1").version  # type: ignore[union-attr]
    assert sum(entry.status == "promoted" for entry in registry.entries("h1")) == 1
