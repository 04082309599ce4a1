"""Models and decisions: status, roll-back, damage, and several deciding at the same time."""

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from homnet.calibration.bags import Calibration
from homnet.errors import CheckpointError, RegistryError
from homnet.files import digest_of, write_whole
from homnet.locations import RemotePath, files_in, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.decisions import Decision, _replay
from homnet.model.network import HomNet, HomNetConfig, best_form
from homnet.model.registry import Registry
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


@pytest.fixture(params=["path", "uri", "bucket"])
def registry(
    request: pytest.FixtureRequest, tmp_path: Path, bucket: Callable[[str], str]
) -> Registry:
    place = tmp_path / "registry"
    places = {"path": place, "uri": place.as_uri(), "bucket": bucket("registry")}
    return Registry(places[request.param])


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
    assert len(registry.standing().decisions) == 1


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
        def __truediv__(self, part: object) -> object:
            raise OSError("no space left on device")

    monkeypatch.setattr(registry, "_place", Full())
    for ask in (
        lambda: registry.promote("h1", version),
        lambda: registry.roll_back("h1"),
        lambda: registry.entries(),
        lambda: registry.checkpoint(version),
    ):
        with pytest.raises(RegistryError, match="no space left"):
            ask()


def test_decisions_are_read_once_and_again_when_they_change(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if every decision was old: what has just changed is read again in any case.
    monkeypatch.setattr("homnet.model.registry._SETTLED_NS", -(10**18))
    registry.promote("h1", registry.publish(_checkpoint(), "h1"))
    events = to_location(registry.root) / "events"
    first, second = (events / name for name in files_in(events))
    read: list[str] = []
    for kind in (Path, RemotePath):

        def spy(self: Any, real: Any = kind.read_bytes) -> bytes:
            read.append(self.name)
            return real(self)  # type: ignore[no-any-return]

        monkeypatch.setattr(kind, "read_bytes", spy)

    def names_read() -> list[str]:
        read.clear()
        problems.append(set(registry.standing().problems))
        return sorted(set(read))

    problems: list[set[str]] = []
    names_read()
    assert names_read() == []
    whole = second.read_bytes()
    write_whole(second, b"")
    assert names_read() == [second.name]
    assert names_read() == [second.name]  # as long as it is damaged
    write_whole(second, whole)
    assert names_read() == [second.name]
    assert names_read() == []
    assert problems == [set(), set(), {"h1"}, {"h1"}, set(), set()]
    Registry(registry.root).roll_back("h1")
    assert len(names_read()) == 1
    content = first.read_bytes()
    first.unlink()
    assert names_read() == []
    write_whole(first, content)
    assert names_read() == [first.name]
    assert problems[-3:] == [set(), {"h1"}, set()]


def test_a_decision_that_has_just_changed_is_read_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two changes of the same size within one tick of the clock look the same from outside."""
    monkeypatch.setattr("homnet.model.registry._SETTLED_NS", 10**12)  # of any test, however slow
    registry.publish(_checkpoint(), "h1")
    registry.standing()
    events = to_location(registry.root) / "events"
    (event,) = (events / name for name in files_in(events))
    state = registry._listed_decisions()
    write_whole(event, event.read_bytes().replace(b"publish", b"explode"))
    monkeypatch.setattr(registry, "_listed_decisions", lambda: state)
    assert set(registry.standing().problems) == {"h1"}


def _events(registry: Registry, hospital: str) -> list[Path]:
    """Files of the decisions of a hospital, in order."""
    return sorted(Path(registry.root, "events").glob(f"*-{hospital}-*.json"))


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    registry = Registry(tmp_path_factory.mktemp("two") / "registry")
    for hospital in ("h1", "h2"):
        for number in range(2):
            registry.promote(hospital, registry.publish(_checkpoint(number), hospital))
    return Path(registry.root)


@pytest.fixture
def two(made_once: Path, tmp_path: Path) -> Registry:
    """Two hospitals with two promoted models each."""
    return Registry(shutil.copytree(made_once, tmp_path / "registry"))


def _field(name: str, value: object) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps({**json.loads(content), name: value}).encode()


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"\xff" + content,
        lambda content: content[:40],
        lambda content: b"[]",
        lambda content: b"[" * 10_000,
        _field("action", "explode"),
        _field("action", []),
        _field("number", "1"),
        _field("number", 1e300),
        _field("hospital", None),
        _field("hospital", "h2"),
        _field("version", "../../etc"),
        _field("version", "0" * 64),
        _field("previous", "x"),
        _field("beside", {"../secret": "x"}),
        _field("sha256", "0" * 64),
        _field("strange", 1),
        lambda content: content.replace(b'"sha256"', b'"sha257"'),
    ],
)
def test_a_damaged_decision_is_the_problem_of_its_hospital(
    two: Registry, number: int, damage: Callable[[bytes], bytes]
) -> None:
    line = two.lines()["h2"]
    event = _events(two, "h1")[number]
    whole = event.read_bytes()
    event.write_bytes(damage(whole))
    standing = two.standing()
    assert set(standing.problems) == {"h1"}
    assert event.name in " ".join(standing.problems["h1"].values())
    assert two.lines() == {"h2": line}
    assert set(_status(two, "h1")) == {"unknown"}
    for ask in (two.promoted, two.roll_back, lambda h: two.retire(h, line[0])):
        with pytest.raises(RegistryError, match="restore it from a copy, or promote a model again"):
            ask("h1")
    event.write_bytes(whole)
    assert two.lines() == {"h1": line, "h2": line}


def test_a_decision_that_cannot_be_read_is_the_problem_of_its_hospital(
    two: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = two.lines()
    lost = {_events(two, "h1")[1].name}
    for real in (Path.read_bytes, Path.stat):

        def fails(path: Path, real: Any = real, **options: bool) -> Any:
            if path.name in lost:
                raise OSError(errno.ESTALE, "Stale file handle")
            return real(path, **options)

        monkeypatch.setattr(Path, real.__name__, fails)
    assert two.lines() == {"h2": lines["h2"]}
    (reason, *_) = two.standing().problems["h1"].values()
    assert "Stale file handle" in reason
    lost.clear()
    assert two.lines() == lines
    lost.update(path.name for path in Path(two.root, "events").iterdir())
    with pytest.raises(RegistryError, match=r"cannot be read .*Stale file handle"):
        two.lines()


@pytest.mark.parametrize("number", range(4))
def test_a_promotion_sets_a_damaged_decision_aside(two: Registry, number: int) -> None:
    event = _events(two, "h1")[number]
    event.write_bytes(b"")
    again = two.publish(_checkpoint(5), "h1")
    assert "h1" in two.standing().problems  # to publish is not to decide
    two.promote("h1", again)
    assert two.standing().problems == {}
    # What answered before is not known: there is nothing to roll back to.
    assert two.lines()["h1"] == (again,)
    assert two.roll_back("h1") is None


def test_a_removed_decision_is_missed_unless_it_is_the_newest(two: Registry) -> None:
    for event in _events(two, "h1")[:-1]:
        whole = event.read_bytes()
        event.unlink()
        assert set(two.standing().problems) == {"h1"}
        event.write_bytes(whole)
    assert two.standing().problems == {}
    one, other = _events(two, "h1")[0], _events(two, "h2")[0]
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert set(two.standing().problems) == {"h1", "h2"}


def test_decisions_of_earlier_versions_are_read_and_named_by_the_next(two: Registry) -> None:
    """They have no digest and their files do not name the hospital."""
    lines = two.lines()
    events = Path(two.root, "events")
    for event in list(events.iterdir()):
        content = json.loads(event.read_bytes())
        for name in ("previous", "beside", "set_aside", "sha256"):
            del content[name]
        event.unlink()
        earlier = events / f"{content['number']:09d}-{content['id']}.json"
        earlier.write_text(json.dumps(content, indent=1))
    assert two.lines() == lines
    two.roll_back("h1")
    assert two.lines() == {"h1": lines["h1"][:1], "h2": lines["h2"]}
    newest = max(set(events.iterdir()) - set(_events(two, "h1")))
    whole = newest.read_text()
    newest.write_text(whole.replace('"promote"', '"explode"'))
    assert set(two.standing().problems) == {"h2"}
    newest.write_text("{")
    assert set(two.standing().problems) == {""}  # nobody can say whose it is
    newest.write_text(whole)
    # The last decision of h1 of an earlier version is named by the roll-back.
    named = [p for p in events.iterdir() if '"h1"' in p.read_text() and p not in _events(two, "h1")]
    max(named).unlink()
    assert set(two.standing().problems) == {"h1"}


@pytest.mark.parametrize("hospital", ["a/b", "../x", "Ä-1-2", ".", "a b%41", "h.json"])
def test_any_name_of_a_hospital_makes_a_file(tmp_path: Path, hospital: str) -> None:
    registry = Registry(tmp_path / "registry")
    version = registry.publish(_checkpoint(), hospital)
    registry.promote(hospital, version)
    assert registry.lines() == {hospital: (version,)}
    assert len(list((tmp_path / "registry" / "events").iterdir())) == 2


def test_what_is_in_a_folder_must_be_what_its_name_says(two: Registry) -> None:
    """Whole and well listed, but another model; or with a file more, or one less."""
    one, other = (Path(two.root, "models", version) for version in two.lines()["h1"])
    shutil.copytree(one, other, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match=f"holds the model {one.name[:12]}, not"):
        two.checkpoint(other.name)
    for name in ("metrics.json", "calibration.json", "provenance.json"):
        Checkpoint.load(one).save(other)
        changed = {**json.loads((other / name).read_bytes()), "strange": {"threshold": 0.5}}
        (other / name).write_text(json.dumps(changed))
        hashes = json.loads((other / "sha256.json").read_text())
        hashes[name] = digest_of(other / name)
        (other / "sha256.json").write_text(json.dumps(hashes))
        with pytest.raises(CheckpointError, match="holds the model"):
            two.checkpoint(other.name)
    (one / "notes.txt").write_text("")
    with pytest.raises(CheckpointError, match=r"notes\.txt is not listed in sha256\.json"):
        two.checkpoint(one.name)
    (one / "notes.txt").unlink()
    assert two.checkpoint(one.name).digest == one.name
    (one / "sha256.json").write_text("{}")
    (one / "metrics.json").unlink()
    with pytest.raises(CheckpointError, match=r"metrics\.json is missing"):
        two.checkpoint(one.name)
    assert two.publish(_checkpoint(0), "h1") == one.name  # which repairs it
    assert two.checkpoint(one.name).digest == one.name


def test_a_promotion_holds_the_digest_of_the_reference_bags(two: Registry) -> None:
    version = two.lines()["h1"][-1]
    two.keep_reference_bags(version, pa.table({"logit": [0.5]}))
    two.promote("h1", version)
    file = Path(two.root, "golden", f"{version}.arrow")
    (promotion,) = [one for one in two.standing().lines["h1"] if one.version == version]
    assert promotion.beside == {f"golden/{version}.arrow": digest_of(file)}
    two.check_beside(promotion.beside)
    two.keep_reference_bags(version, pa.table({"logit": [0.75]}))
    with pytest.raises(CheckpointError, match="missing, or changed since the model was promoted"):
        two.check_beside(promotion.beside)
    file.unlink()
    with pytest.raises(CheckpointError, match="missing, or changed since the model was promoted"):
        two.check_beside(promotion.beside)
    file.write_bytes(b"ARROW1")
    with pytest.raises(CheckpointError, match=r"reference bags.* are damaged"):
        two.reference_bags(version)


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
    assert [one.version for one in _replay(ordered).line["h1"]] == ["a", "b"]
    # A roll-back of what no longer answers, and of a model that is retired, count for nothing.
    late = [
        *ordered,
        Decision("roll_back", "h1", "a", 4, "t"),
        Decision("retire", "h1", "b", 5, "t"),
    ]
    assert _replay(late) == _replay(ordered)


def _promote_often(root: str, version: str, times: int) -> None:
    registry = Registry(root)
    for _ in range(times):
        registry.promote("h1", version)


def test_processes_that_promote_at_once_corrupt_nothing(
    tmp_path: Path, imported: ForkServerContext
) -> None:
    registry = Registry(tmp_path)
    versions = [registry.publish(_checkpoint(i), "h1") for i in range(2)]
    workers = [
        imported.Process(target=_promote_often, args=(str(tmp_path), version, 12))
        for version in versions
    ]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        assert [e.version for e in registry.entries("h1")] == versions  # readable all the time
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    decisions = registry.standing().decisions
    assert len(decisions) == 2 + 24  # no decision is lost
    assert replace(decisions[-1]).version == registry.promoted("h1").version  # type: ignore[union-attr]
    assert sum(entry.status == "promoted" for entry in registry.entries("h1")) == 1
