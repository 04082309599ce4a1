"""The store: follows decisions, keeps what works, and trusts nothing it did not check."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pyarrow as pa
import pytest
import torch

from homnet.calibration.patients import ALL_HOSPITALS
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import best_form
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import reference_bags
from homnet.model.registry import Registry
from homnet.reader.network import ReaderConfig
from homnet_serve import store as store_module
from homnet_serve.metrics import Metrics
from homnet_serve.store import ModelStore

Family = Callable[..., list[Checkpoint]]
TableOf = Callable[..., pa.Table]
Recorded = Callable[..., float | None]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty registry."""
    (tmp_path / "registry").mkdir()
    return Registry(tmp_path / "registry")


def _promote(registry: Registry, checkpoint: Checkpoint, hospital: str = "h1") -> str:
    version = registry.publish(checkpoint, hospital)
    registry.promote(hospital, version)
    return version


def _keep_reference_bags(
    registry: Registry, version: str, checkpoint: Checkpoint, table: pa.Table
) -> None:
    bags = reference_bags(Predictor.of_checkpoint(checkpoint), table)
    registry.keep_reference_bags(version, bags)


def test_a_promotion_reaches_a_store(
    registry: Registry, family: Family, recorded: Recorded
) -> None:
    first, second = family(2)
    store = ModelStore(registry, Metrics())
    store.refresh()
    assert store.ready
    assert store.load("h1") is None
    versions = [_promote(registry, first)]
    store.refresh()
    served = store.load("h1")
    assert served is not None
    assert served.version == versions[0]
    assert store.cached("h1") is served
    versions.append(_promote(registry, second))
    assert store.cached("h1") is served
    store.refresh()
    now = store.cached("h1")
    assert now is not None
    assert now.version == versions[1]
    registry.roll_back("h1")
    store.refresh()
    assert store.cached("h1").version == versions[0]  # type: ignore[union-attr]
    registry.roll_back("h1")
    store.refresh()
    assert store.cached("h1") is None
    assert store.load("h1") is None
    assert recorded("homnet_model_swaps") == 3


def test_a_registry_that_does_not_exist_takes_over_nothing(
    family: Family, tmp_path: Path, caplog: pytest.LogCaptureFixture, recorded: Recorded
) -> None:
    registry = Registry(tmp_path / "registri")
    store = ModelStore(registry, Metrics())
    store.refresh()
    assert not store.ready
    assert caplog.messages == ["registry_missing"]
    assert recorded("homnet_registry_errors") == 1
    version = _promote(registry, family(1)[0])
    store.refresh()
    assert store.ready
    assert store.cached("h1").version == version  # type: ignore[union-attr]


def test_an_empty_folder_of_an_object_store_is_a_registry(bucket: Callable[[str], str]) -> None:
    store = ModelStore(Registry(bucket("registry")), Metrics())
    store.refresh()
    assert store.ready


def test_the_description_of_a_model_names_no_other_hospital(
    registry: Registry, family: Family
) -> None:
    (model,) = family(1)
    shared = replace(model.patients["h1"], hospitals=("h1", "h2", "h3"))
    _promote(registry, replace(model, patients={ALL_HOSPITALS: shared}))
    store = ModelStore(registry, Metrics())
    store.refresh()
    served = store.load("h1")
    assert served is not None
    assert served.description.calibrated_on == ["h1", "2 other hospitals"]


def test_hospitals_with_one_version_share_a_model(registry: Registry, family: Family) -> None:
    first, second = family(2)
    for hospital, checkpoint in (("h1", first), ("h2", second), ("h3", first)):
        _promote(registry, checkpoint, hospital)
    store = ModelStore(registry, Metrics())
    store.refresh()
    one, two, three = (store.cached(name) for name in ("h1", "h2", "h3"))
    assert one is not None
    assert two is not None
    assert three is not None
    assert three.predictor is one.predictor
    assert two.predictor is not one.predictor


def test_a_model_that_fails_its_reference_bags_does_not_answer(
    registry: Registry, family: Family, table_of: TableOf, recorded: Recorded
) -> None:
    first, second = family(2)
    old = _promote(registry, first)
    store = ModelStore(registry, Metrics())
    store.refresh()
    new = registry.publish(second, "h1")
    # Those of another model stand for a machine that computes something else.
    _keep_reference_bags(registry, new, family(1, seed=7)[0], table_of())
    registry.promote("h1", new)
    for _ in range(2):
        store.refresh()
        assert store.cached("h1").version == old  # type: ignore[union-attr]
    assert recorded("homnet_models_rejected", hospital="h1") == 1
    # One that starts now comes to the same.
    other = ModelStore(registry, Metrics())
    other.refresh()
    assert other.cached("h1").version == old  # type: ignore[union-attr]
    # The right reference bags, and the decision once more: then it answers.
    _keep_reference_bags(registry, new, second, table_of())
    registry.roll_back("h1")
    store.refresh()
    registry.promote("h1", new)
    store.refresh()
    assert store.cached("h1").version == new  # type: ignore[union-attr]


def test_reference_bags_can_be_required(
    registry: Registry, family: Family, table_of: TableOf
) -> None:
    (checkpoint,) = family(1)
    version = _promote(registry, checkpoint)
    store = ModelStore(registry, Metrics(), require_reference_bags=True)
    store.refresh()
    assert store.load("h1") is None
    _keep_reference_bags(registry, version, checkpoint, table_of())
    store = ModelStore(registry, Metrics(), require_reference_bags=True)
    store.refresh()
    assert store.load("h1") is not None


def test_a_candidate_that_gets_its_reference_bags_later_becomes_the_shadow(
    registry: Registry,
    family: Family,
    table_of: TableOf,
    recorded: Recorded,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = family(2)
    _keep_reference_bags(registry, first.digest, first, table_of())
    _promote(registry, first)
    version = registry.publish(second, "h1")
    store = ModelStore(registry, Metrics(), require_reference_bags=True, shadow_candidates=True)
    checkpoint = Mock(side_effect=registry.checkpoint)
    monkeypatch.setattr(registry, "checkpoint", checkpoint)
    for _ in range(3):
        store.refresh()
    assert store.cached("h1") is not None
    assert store.shadow("h1") is None
    assert checkpoint.call_count == 1, "a model that waits for them is not loaded at each refresh"
    assert recorded("homnet_models_rejected", hospital="h1") == 1, "said once"
    _keep_reference_bags(registry, version, second, table_of())
    store.refresh()
    assert store.shadow("h1").version == version  # type: ignore[union-attr]
    assert recorded("homnet_registry_errors") is None


def test_the_cache_is_bounded(registry: Registry, family: Family) -> None:
    names = [f"h{n}" for n in range(5)]
    for name, checkpoint in zip(names, family(5), strict=True):
        _promote(registry, checkpoint, name)
    store = ModelStore(registry, Metrics(), max_hospitals=2)
    store.refresh()
    assert sum(store.cached(name) is not None for name in names) == 2
    for name in names:
        assert store.load(name) is not None
    assert [name for name in names if store.cached(name)] == ["h3", "h4"]
    store.cached("h3")
    store.load("h0")
    assert store.cached("h4") is None
    assert store.hospitals == set(names)


def test_a_registry_out_of_reach_changes_nothing(
    registry: Registry, family: Family, tmp_path: Path, recorded: Recorded
) -> None:
    version = _promote(registry, family(1)[0])
    store = ModelStore(registry, Metrics())
    store.refresh()
    events = tmp_path / "registry" / "events"
    events.rename(tmp_path / "away")
    events.write_text("")
    store.refresh()
    events.unlink()
    store.refresh()  # a disk that is no longer mounted looks like an empty folder
    assert store.cached("h1").version == version  # type: ignore[union-attr]
    assert recorded("homnet_registry_damage", hospital="h1") == 1
    (tmp_path / "away").rename(events)
    store.refresh()
    assert recorded("homnet_registry_damage", hospital="h1") == 0


@pytest.mark.parametrize("what", ["emptied", "removed"])
def test_damaged_decisions_leave_the_last_good_model_and_the_other_hospital(
    registry: Registry, family: Family, tmp_path: Path, what: str, recorded: Recorded
) -> None:
    first, second, third = family(3)
    for hospital in ("h1", "h2"):
        _promote(registry, first, hospital)
        version = _promote(registry, second, hospital)
    store = ModelStore(registry, Metrics(), shadow_candidates=True)
    store.refresh()
    events = tmp_path / "registry" / "events"
    for event in events.glob("*-h1-*"):
        whole = event.read_bytes()
        event.unlink() if what == "removed" else event.write_bytes(b"")
        store.refresh()
        assert store.cached("h1").version == version  # type: ignore[union-attr]
        assert recorded("homnet_registry_damage", hospital="h1") == 1
        assert recorded("homnet_registry_damage", hospital="h2") is None
        event.write_bytes(whole)
    errors = recorded("homnet_registry_errors")
    event.unlink()
    later = _promote(registry, third, "h2")
    store.refresh()
    assert store.cached("h1").version == version  # type: ignore[union-attr]
    assert store.cached("h2").version == later  # type: ignore[union-attr]
    assert recorded("homnet_registry_errors") == errors + 1  # type: ignore[operator]
    # A new promotion settles it.
    assert _promote(registry, third) == later
    store.refresh()
    assert store.cached("h1").version == later  # type: ignore[union-attr]
    assert recorded("homnet_registry_damage", hospital="h1") == 0


def test_an_endpoint_that_starts_serves_no_hospital_with_a_damaged_decision(
    registry: Registry, family: Family, tmp_path: Path, recorded: Recorded
) -> None:
    (checkpoint,) = family(1)
    version = _promote(registry, checkpoint, "h2")
    _promote(registry, checkpoint, "h1")
    next((tmp_path / "registry" / "events").glob("*-h1-*")).write_bytes(b"\xff")
    (tmp_path / "registry" / "events" / "000000099-x.json").write_text("{")  # of nobody knows whom
    store = ModelStore(registry, Metrics())
    store.refresh()
    assert store.ready
    assert store.load("h1") is None
    assert store.hospitals == {"h2"}
    assert store.load("h2").version == version  # type: ignore[union-attr]
    assert recorded("homnet_registry_damage", hospital="") == 1
    assert recorded("homnet_registry_damage", hospital="h1") == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"{}", b"[" * 10_000, b'{"a": 1}'])
def test_one_bad_file_takes_down_one_hospital(
    registry: Registry, family: Family, tmp_path: Path, content: bytes, recorded: Recorded
) -> None:
    first, second = family(2)
    one, other = _promote(registry, first, "h1"), _promote(registry, second, "h2")
    for number, name in enumerate(("sha256.json", "config.json", "patients.json"), 1):
        path = tmp_path / "registry" / "models" / one / name
        whole = path.read_bytes()
        path.write_bytes(content)
        store = ModelStore(registry, Metrics())
        store.refresh()
        assert store.ready
        assert store.load("h1") is None
        assert store.load("h2").version == other  # type: ignore[union-attr]
        assert recorded("homnet_models_rejected", hospital="h1") == number
        path.write_bytes(whole)


def test_a_fault_of_one_model_is_logged_and_the_others_are_loaded(
    registry: Registry,
    family: Family,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = family(2)
    bad, good = _promote(registry, first, "h1"), _promote(registry, second, "h2")
    load = registry.checkpoint

    def checkpoint(version: str) -> Checkpoint:
        if version == bad:
            raise ZeroDivisionError("of patient 7")
        return load(version)

    monkeypatch.setattr(registry, "checkpoint", checkpoint)
    store = ModelStore(registry, Metrics())
    store.refresh()
    assert store.load("h1") is None
    assert store.load("h2").version == good  # type: ignore[union-attr]
    records = [one for one in caplog.records if one.msg == "model_not_loaded"]
    assert {(one.hospital, one.error) for one in records} == {("h1", "ZeroDivisionError")}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "fault", [torch.OutOfMemoryError("CUDA out of memory"), OSError(28, "No space left on device")]
)
def test_what_this_machine_fails_at_is_no_fault_of_the_model(
    registry: Registry,
    family: Family,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    recorded: Recorded,
    fault: Exception,
) -> None:
    first, second = family(2)
    old = _promote(registry, first)
    store = ModelStore(registry, Metrics())
    store.refresh()
    new = _promote(registry, second)

    def fail(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(registry, "checkpoint", fail)
        for _ in range(2):
            store.refresh()
            assert store.cached("h1").version == old  # type: ignore[union-attr]
    assert caplog.messages.count("model_not_loaded") == recorded("homnet_registry_errors") == 2
    assert recorded("homnet_models_rejected", hospital="h1") is None
    store.refresh()
    assert store.cached("h1").version == new  # type: ignore[union-attr]


@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_store_that_could_load_none_of_its_models_is_not_ready(
    registry: Registry,
    family: Family,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_damaged: bool,
) -> None:
    first, second = family(2)
    version = _promote(registry, first)
    store = ModelStore(registry, Metrics())
    if is_damaged:
        (tmp_path / "registry" / "models" / version / "config.json").write_bytes(b"")
        store.refresh()
        version = _promote(registry, second)
    else:
        with monkeypatch.context() as patch:
            patch.setattr(Predictor, "of_checkpoint", lambda *_: torch.ones(2, device="cuda:99"))
            store.refresh()
    assert not store.ready
    assert store.hospitals == {"h1"}
    store.refresh()
    assert store.ready
    assert store.cached("h1").version == version  # type: ignore[union-attr]


def test_changed_reference_bags_are_noticed(
    registry: Registry, family: Family, table_of: TableOf
) -> None:
    """Also if the model gives their logits: it would give those of its own mistakes, too."""
    first, second = family(2)
    old, new = _promote(registry, first), registry.publish(second, "h1")
    _keep_reference_bags(registry, new, second, table_of())
    registry.promote("h1", new)
    _keep_reference_bags(registry, new, second, table_of(seed=5))
    store = ModelStore(registry, Metrics())
    store.refresh()
    assert store.cached("h1").version == old  # type: ignore[union-attr]
    registry.promote("h1", new)
    store.refresh()
    assert store.cached("h1").version == new  # type: ignore[union-attr]


def test_a_damaged_model_does_not_answer(
    registry: Registry, family: Family, tmp_path: Path
) -> None:
    first, second = family(2)
    old, new = _promote(registry, first), _promote(registry, second)
    shutil.copy(
        tmp_path / "registry" / "models" / old / "model.safetensors",
        tmp_path / "registry" / "models" / new / "model.safetensors",
    )
    store = ModelStore(registry, Metrics())
    store.refresh()
    assert store.cached("h1").version == old  # type: ignore[union-attr]


def test_the_newest_candidate_is_the_shadow(registry: Registry, family: Family) -> None:
    answering, older, newer = family(3)
    _promote(registry, answering)
    registry.publish(older, "h1")
    shadow = registry.publish(newer, "h1")
    store = ModelStore(registry, Metrics(), shadow_candidates=True)
    store.refresh()
    assert store.shadow("h1").version == shadow  # type: ignore[union-attr]
    registry.promote("h1", shadow)
    store.refresh()
    assert store.cached("h1").version == shadow  # type: ignore[union-attr]
    assert store.shadow("h1").version != shadow  # type: ignore[union-attr]
    assert ModelStore(registry, Metrics()).shadow("h1") is None


def test_a_calibration_brings_its_reader_along(
    registry: Registry, family: Family, recorded: Recorded
) -> None:
    form = ReaderConfig(model=replace(best_form(), width=16, pair_width=16), width=16)
    metrics = {"calibration": {"kind": 1.0, "segment": 1.0, "cell": 1.0}}
    reader = Checkpoint(form, form.build().state_dict(), metrics=metrics)
    first, second = family(2)
    old = _promote(registry, first)
    patients = {name: replace(one, reader=reader.version) for name, one in second.patients.items()}
    new = _promote(registry, replace(second, patients=patients))
    store = ModelStore(registry, Metrics())
    store.refresh()
    # Without its reader it cannot judge: the model before it answers.
    assert store.cached("h1").version == old  # type: ignore[union-attr]
    assert recorded("homnet_registry_errors") == 1
    registry.keep_reader(reader)
    store.refresh()
    served = store.cached("h1")
    assert served is not None
    assert served.version == new
    assert served.reader is not None
    assert served.reader.version == served.description.reader == reader.version


@pytest.mark.parametrize(("factor", "precision"), [(1, "bfloat16"), (1000, "float32")])
def test_bfloat16_answers_only_where_the_reference_bags_allow_it(
    registry: Registry,
    family: Family,
    table_of: TableOf,
    caplog: pytest.LogCaptureFixture,
    factor: float,
    precision: str,
) -> None:
    (checkpoint,) = family(1)
    # A thousandfold logit has a thousandfold error.
    larger = {"bag.bag.weight": factor * checkpoint.weights["bag.bag.weight"]}
    checkpoint = replace(checkpoint, weights={**checkpoint.weights, **larger})
    version = _promote(registry, checkpoint)
    _keep_reference_bags(registry, version, checkpoint, table_of())
    for hospital in ("h1", "h2"):
        registry.promote(hospital, registry.publish(checkpoint, hospital))
    store = ModelStore(registry, Metrics(), precision="bfloat16")
    store.refresh()
    assert [one.predictor.precision for one in store.loaded()] == [precision, precision]
    refused = [record for record in caplog.records if record.msg == "precision_refused"]
    assert bool(refused) == (precision == "float32")
    for record in refused:
        assert "needs float32" in record.reason  # type: ignore[attr-defined]


def test_bfloat16_needs_reference_bags(
    registry: Registry, family: Family, caplog: pytest.LogCaptureFixture
) -> None:
    _promote(registry, family(1)[0])
    store = ModelStore(registry, Metrics(), precision="bfloat16")
    store.refresh()
    assert [one.predictor.precision for one in store.loaded()] == ["float32"]
    assert "precision_refused" in caplog.messages


def test_short_memory_does_not_keep_a_model_in_float32(
    registry: Registry, family: Family, table_of: TableOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint,) = family(1)
    version = _promote(registry, checkpoint)
    _keep_reference_bags(registry, version, checkpoint, table_of())
    registry.promote("h1", version)
    store = ModelStore(registry, Metrics(), precision="bfloat16")
    check = store_module.check_reference_bags

    def check_float32(predictor: Predictor, reference: pa.Table) -> None:
        if predictor.precision == "bfloat16":
            raise torch.OutOfMemoryError
        check(predictor, reference)

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "check_reference_bags", check_float32)
        store.refresh()
    assert store.loaded() == []
    store.refresh()
    assert [one.predictor.precision for one in store.loaded()] == ["bfloat16"]
