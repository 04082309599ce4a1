"""Checkpoints: whole, strict, hash-checked, and the same bytes for the same content."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from homnet.calibration.bags import Calibration
from homnet.errors import CheckpointError
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.model.network import HomNet, best_form

CONFIG = replace(best_form(64), width=8, pair_width=12, stretched_length=64)


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    model = HomNet(CONFIG)
    return Checkpoint(
        config=CONFIG,
        weights=model.state_dict(),
        metrics={"history": [{"epoch": 0, "validation_auc": 0.5}]},
        provenance={"seed": 3},
        calibration={"h1": Calibration(threshold=0.3, temperature=1.5, prior=0.04)},
        state={"optimizer.0.step": torch.tensor(4.0)},
    )


def test_what_is_saved_is_loaded(checkpoint: Checkpoint, tmp_path: Path) -> None:
    loaded = Checkpoint.load(checkpoint.save(tmp_path / "c"))
    assert loaded.config == CONFIG
    assert loaded.metrics == checkpoint.metrics
    assert loaded.provenance == checkpoint.provenance
    assert loaded.calibration == checkpoint.calibration
    assert loaded.version == checkpoint.version
    for name, value in loaded.build().state_dict().items():
        assert torch.equal(value, checkpoint.weights[name])


def test_same_content_same_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    one, two = checkpoint.save(tmp_path / "one"), checkpoint.save(tmp_path / "two")
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in two.iterdir()
    }


def test_the_version_follows_weights_and_form(checkpoint: Checkpoint) -> None:
    weights = {**checkpoint.weights, "bag.bag.bias": torch.tensor([0.25])}
    assert replace(checkpoint, weights=weights).version != checkpoint.version
    form = replace(CONFIG, attention="ratio")
    assert replace(checkpoint, config=form).version != checkpoint.version
    assert replace(checkpoint, metrics={}).version == checkpoint.version


def test_saving_again_replaces_the_old_one(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c")
    replace(checkpoint, provenance={"seed": 4}).save(path)
    assert Checkpoint.load(path).provenance == {"seed": 4}
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_changed_file_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c")
    weights = path / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: the file was altered"):
        Checkpoint.load(path)


def test_a_missing_file_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c")
    (path / "calibration.json").unlink()
    with pytest.raises(CheckpointError, match=r"incomplete, calibration\.json is missing"):
        Checkpoint.load(path)


def test_no_checkpoint_here(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        Checkpoint.load(tmp_path)


def test_an_unwritable_place_keeps_what_was_there(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint.save(tmp_path / "c")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("homnet.model.checkpoint.save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        replace(checkpoint, provenance={}).save(path)
    assert Checkpoint.load(path).provenance == {"seed": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_weights_of_another_form_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="do not fit the config"):
        replace(checkpoint, config=replace(CONFIG, pair_width=13)).build()


def test_fields_of_another_version_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c")
    config = path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "format": 99}))
    hashes = path / "sha256.json"
    known = json.loads(hashes.read_text())
    del known["config.json"]
    hashes.write_text(json.dumps(known))
    with pytest.raises(CheckpointError, match="not a format 1 checkpoint"):
        Checkpoint.load(path)


def test_patients_are_known_again_but_not_named() -> None:
    digests = patient_digests(["anna", "bert"])
    assert digests == patient_digests(["bert", "anna"])
    assert not any("anna" in d for d in digests)
    assert set(patient_digests(["anna"])) < set(digests)
