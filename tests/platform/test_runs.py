"""A run's directory: claimed, continued, refused; whom a checkpoint knows is refused too."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from homnet.errors import CheckpointError, ConfigError, DataError
from homnet.files import UNFINISHED, write_whole
from homnet.locations import to_location
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.model.network import HomNetConfig
from homnet.results import read_json, read_result
from homnet_platform.runs import (
    Run,
    models_of,
    paths_of_models,
    portable,
    provenance,
    ray_storage,
    refuse_known,
    refuse_split,
)


@dataclass(frozen=True)
class Config:
    output: str = "runs/a"
    cohort: str = "cohorts/a"
    findings: str = ""
    rates: tuple[float, ...] = (0.1, 0.2)
    max_concurrent: int = 0


def checkpoint() -> Checkpoint:
    config = HomNetConfig(width=16, merge_range=64)
    return Checkpoint(config, config.build().state_dict(), metrics={"history": [{"epoch": 0}]})


def test_the_same_run_continues_and_others_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config()
    Run.of(tmp_path, config, cohort="c").claim()
    Run.of(tmp_path, config, cohort="c").claim()
    for other, content in ((replace(config, rates=(0.1,)), "c"), (config, "d")):
        with pytest.raises(ConfigError, match="other settings or another cohort"):
            Run.of(tmp_path, other, cohort=content).claim()
    monkeypatch.setattr("homnet_platform.runs.PROGRAM", 0)
    with pytest.raises(ConfigError, match="a run of another version of this program is here"):
        Run.of(tmp_path, config, cohort="c").claim()
    with pytest.raises(ConfigError, match="other settings or another cohort"):
        Run.of(tmp_path, config, cohort="d").claim()


def test_a_run_that_another_program_finished_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.of(tmp_path, Config(), cohort="c")
    run.claim()
    run.publish(checkpoint())
    monkeypatch.setattr("homnet_platform.runs.PROGRAM", 0)
    assert Run.of(tmp_path, Config(), cohort="c").finished
    assert not Run.of(tmp_path, Config(), cohort="d").finished
    with pytest.raises(ConfigError, match="this run is finished"):
        Run.of(tmp_path, Config(), cohort="c").claim()


def test_places_and_hardware_may_change(tmp_path: Path) -> None:
    Run.of(tmp_path, Config(), cohort="c").claim()
    moved = Config(output="elsewhere", cohort="/mnt/a", findings="runs/reader", max_concurrent=3)
    Run.of(tmp_path, moved, cohort="c").claim()


def test_a_finished_run_is_known_and_not_claimed_again(tmp_path: Path) -> None:
    run = Run.of(tmp_path / "run", Config(), cohort="c")
    run.claim()
    assert not run.finished
    assert run.publish(checkpoint()) == run.checkpoint
    assert run.finished
    assert read_json(run.output / "history.json") == {"history": [{"epoch": 0}]}
    assert not Run.of(run.output, Config(), cohort="d").finished
    with pytest.raises(ConfigError, match="this run is finished"):
        run.claim()


@pytest.mark.parametrize("place", ["path", "object store"])
def test_of_two_runs_with_one_output_the_second_replaces_nothing(
    tmp_path: Path, bucket: Callable[[str], str], place: str
) -> None:
    output = bucket("run") if place == "object store" else str(tmp_path / "run")
    first, second = (Run.of(output, Config(), cohort="c") for _ in range(2))
    for run in (first, second):
        run.claim()
    first.publish(checkpoint())
    other = replace(checkpoint(), metrics={"history": []})
    with pytest.raises(DataError, match=r"run/checkpoint.*: exists already"):
        second.publish(other)
    assert Checkpoint.load(first.checkpoint).metrics == checkpoint().metrics
    assert read_json(first.output / "history.json") == {"history": [{"epoch": 0}]}


def test_a_checkpoint_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.of(tmp_path / "run", Config(), cohort="c")
    run.claim()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"checkpoint.*: cannot write .*No space left"):
        run.publish(checkpoint())
    assert not run.finished


def test_a_run_in_a_bucket_is_claimed_and_finished_as_on_a_disk(
    bucket: Callable[[str], str],
) -> None:
    output = bucket("runs/a")
    run = Run.of(output, Config(), cohort="c")
    run.claim()
    Run.of(output, Config(), cohort="c").claim()
    with pytest.raises(ConfigError, match=r"s3://.*runs/a\?.*other settings or another cohort"):
        Run.of(output, Config(), cohort="d").claim()
    write_whole(run.checkpoint / UNFINISHED, "")  # an interrupted upload
    write_whole(run.checkpoint / "model.safetensors", "half")
    assert not run.finished
    run.claim()
    run.publish(checkpoint())
    run.record("claim", {"a": 1}, recipe="r", seed=0)
    assert run.finished
    assert read_result(run.output / "run.json")["figures"] == {"a": 1}
    with pytest.raises(ConfigError, match="this run is finished"):
        run.claim()
    assert paths_of_models(bucket("runs/a/checkpoint"), ["h1"]) == {"h1": run.checkpoint}
    checkpoint().save(bucket("runs/tuned/h2/checkpoint"))
    assert paths_of_models(bucket("runs/tuned"), ["h1", "h2"]) == {
        "h2": to_location(bucket("runs/tuned/h2/checkpoint"))
    }
    for place in ("ftp://host/run", "s3:/bucket/run"):
        with pytest.raises(ConfigError, match="nothing can be stored there"):
            Run.of(place, Config())


def test_ray_gets_the_file_system_of_a_bucket(bucket: Callable[[str], str], tmp_path: Path) -> None:
    assert ray_storage(tmp_path) == {"storage_path": str(tmp_path)}
    storage = ray_storage(to_location(bucket("a")) / "ray")
    assert storage["storage_path"].endswith("/a/ray")
    assert storage["storage_filesystem"].type_name == "s3"


def test_the_directory_is_absolute_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run.of("runs/a", Config())
    monkeypatch.chdir("/")
    run.claim()
    run.record("It took a second.", {"seconds": 1.0}, recipe="a", seed=3)
    assert read_result(tmp_path / "runs/a/run.json")["figures"] == {"seconds": 1.0}


def test_a_config_without_its_places_is_json() -> None:
    assert portable(Config(findings="runs/reader")) == {"rates": [0.1, 0.2]}


def test_a_checkpoint_knows_its_people_and_those_of_its_parent() -> None:
    split = {"train": frozenset({"a"}), "validation": frozenset({"b"}), "test": frozenset({"c"})}
    parent = replace(
        checkpoint(), provenance={"learnt_from": patient_digests(["z"]), "validated_on": []}
    )
    origin = provenance("f", {"h1": 2.0}, Config(), split, parent)
    assert origin["parent"] == parent.version
    assert origin["samples_per_px"] == {"h1": 2.0}
    other = replace(parent, provenance={**parent.provenance, "samples_per_px": {"h1": 3.0}})
    with pytest.raises(CheckpointError, match="have 2;"):
        provenance("f", {"h1": 2.0}, Config(), split, other)
    refuse_known("model", origin, ["c"], "learnt_from", "validated_on")
    for name, use in (("a", "learnt_from"), ("z", "learnt_from"), ("b", "validated_on")):
        with pytest.raises(ConfigError, match=f"1 of the patients to be scored, {name} among"):
            refuse_known("model", origin, ["c", name], use)
    with pytest.raises(CheckpointError, match="does not say whom it was calibrated_on"):
        refuse_known("model", origin, ["c"], "calibrated_on")
    refuse_split({"validation": split["validation"], "test": split["test"]}, {Path("m"): origin})
    with pytest.raises(ConfigError, match="validated on"):
        refuse_split({"validation": frozenset(), "test": frozenset({"b"})}, {Path("m"): origin})
    for part in ("validation", "test"):
        asked = {"validation": frozenset[str](), "test": frozenset[str](), part: frozenset({"a"})}
        with pytest.raises(ConfigError, match="learnt from"):
            refuse_split(asked, {Path("m"): origin})


def test_every_hospital_has_its_model(tmp_path: Path) -> None:
    checkpoint().save(tmp_path / "h1" / "checkpoint")
    assert models_of(tmp_path, {"h1": 3.0, "h2": 3.0}) == {"h1": tmp_path / "h1" / "checkpoint"}
    with pytest.raises(CheckpointError, match="for h2"):
        models_of(tmp_path, {"h1": 3.0, "h2": 3.0}, ["h2"])
    replace(checkpoint(), provenance={"samples_per_px": {"h1": 3.0}}).save(tmp_path / "one")
    with pytest.raises(CheckpointError, match=r"one: for sequences of 3 .* h2 have 1\.5"):
        models_of(tmp_path / "one", {"h1": 3.0, "h2": 1.5})
    assert models_of(tmp_path / "one", {"h1": 3.0, "h2": 3.0}) == dict.fromkeys(
        ("h1", "h2"), tmp_path / "one"
    )
