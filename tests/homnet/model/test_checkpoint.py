"""Checkpoints: whole, strict, hash-checked, and the same bytes for the same content."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from homnet.calibration.bags import Calibration
from homnet.errors import CheckpointError
from homnet.files import write_whole
from homnet.locations import files_in
from homnet.model.checkpoint import FORMAT, Checkpoint, patient_digests
from homnet.model.network import HomNet, best_form
from homnet.reader.network import ReaderConfig

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


def test_a_checkpoint_in_a_bucket_is_whole_or_none(
    checkpoint: Checkpoint, tmp_path: Path, bucket: Callable[[str], str]
) -> None:
    saved = checkpoint.save(bucket("runs/c"))
    assert Checkpoint.load(saved).digest == checkpoint.digest
    local = checkpoint.save(tmp_path / "c")
    assert files_in(saved) == files_in(local)
    for name in files_in(local):
        assert (saved / name).read_bytes() == (local / name).read_bytes()
    write_whole(saved / "model.safetensors", b"other")
    with pytest.raises(CheckpointError, match=r"s3://.*/c/model.safetensors\?.*altered or damaged"):
        Checkpoint.load(saved)
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"s3://.*/c\?.*model.safetensors is missing"):
        Checkpoint.load(saved)
    checkpoint.save(saved)
    (saved / "sha256.json").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        Checkpoint.load(saved)
    with pytest.raises(CheckpointError, match="nothing can be stored there"):
        checkpoint.save("ftp://host/c")


def test_same_content_same_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    one, two = checkpoint.save(tmp_path / "one"), checkpoint.save(tmp_path / "two")
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in two.iterdir()
    }


def test_sequences_of_another_scale_are_refused(checkpoint: Checkpoint) -> None:
    learnt = replace(checkpoint, provenance={"samples_per_px": {"h1": 3.0, "h2": 1.5}})
    assert [learnt.scale_of(name) for name in ("h1", "h2", "h3")] == [3.0, 1.5, None]
    learnt.require_scale({"h1": 3.0, "h2": 1.5, "h3": 9.0})
    with pytest.raises(CheckpointError, match=r"m: for sequences of 1\.5 .* h2 have 3;"):
        learnt.require_scale({"h2": 3.0}, "m")
    alike = replace(checkpoint, provenance={"samples_per_px": {"h1": 3.0, "h2": 3.0}})
    with pytest.raises(CheckpointError, match="h9 have 2;"):
        alike.require_scale({"h9": 2.0})
    checkpoint.require_scale({"h1": 0.7})  # an older one does not know its scale


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


def test_a_file_that_is_not_listed_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c")
    (path / ".left-by-a-killed-process").touch()
    (path / "reader").mkdir()  # calibrate puts one there
    Checkpoint.load(path)
    (path / "patients.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"patients\.json is not listed"):
        Checkpoint.load(path)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[]", b'{"a": NaN}', b"{" * 5000, b'{"../x": "y"}', b'{"a": 3}']
)
@pytest.mark.parametrize(
    "name", ["sha256.json", "config.json", "metrics.json", "provenance.json", "calibration.json"]
)
def test_whatever_a_file_holds_it_is_one_error(
    checkpoint: Checkpoint, tmp_path: Path, name: str, content: bytes
) -> None:
    """Also if somebody lists it with its digest."""
    path = checkpoint.save(tmp_path / "c")
    (path / name).write_bytes(content)
    if name != "sha256.json":
        hashes = json.loads((path / "sha256.json").read_text())
        hashes[name] = hashlib.sha256(content).hexdigest()
        (path / "sha256.json").write_text(json.dumps(hashes))
        if (
            name in ("metrics.json", "provenance.json")
            and content.startswith(b'{"')
            and (b"NaN" not in content)
        ):
            Checkpoint.load(path)  # these may hold anything
            with pytest.raises(CheckpointError, match="holds the model"):
                Checkpoint.load(path, digest=checkpoint.digest)
            return
    with pytest.raises(CheckpointError, match=f"(?s)^{path}.*another copy|format"):
        Checkpoint.load(path)


def test_a_value_that_is_not_finite_is_not_saved(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c")
    with pytest.raises(CheckpointError, match="has a value that is not finite"):
        replace(checkpoint, metrics={"auc": float("nan")}).save(path)
    assert Checkpoint.load(path, digest=checkpoint.digest).metrics == checkpoint.metrics


def test_the_digest_is_that_of_what_is_read_again(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Keys that are numbers become text, in another order; format 1 has a field more."""
    odd = replace(checkpoint, metrics={"epochs": {2: 0.5, 10: 0.25}})
    Checkpoint.load(odd.save(tmp_path / "odd"), digest=odd.digest)
    path = checkpoint.save(tmp_path / "c")
    _rewrite_config(path, lambda config: config.update(format=1, deviations=False))
    fields = {**json.loads((path / "config.json").read_text())}
    del fields["format"]
    version = hashlib.sha256(json.dumps(fields, indent=1, sort_keys=True).encode())
    for name in sorted(checkpoint.weights):
        version.update(name.encode())
        version.update(checkpoint.weights[name].numpy().tobytes())
    calibration = json.loads((path / "calibration.json").read_text())
    content = [version.hexdigest(), checkpoint.metrics, checkpoint.provenance, calibration]
    text = json.dumps({"content": content}, indent=1, sort_keys=True)
    Checkpoint.load(path, digest=hashlib.sha256(text.encode()).hexdigest())
    with pytest.raises(CheckpointError, match="holds the model"):
        Checkpoint.load(path, digest=checkpoint.digest)


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


def _rewrite_config(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes ``config.json`` of a checkpoint, and its hash."""
    file, hashes = path / "config.json", path / "sha256.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))
    known = json.loads(hashes.read_text())
    known["config.json"] = hashlib.sha256(file.read_bytes()).hexdigest()
    hashes.write_text(json.dumps(known))


def test_another_format_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c")
    assert json.loads((path / "config.json").read_text())["format"] == FORMAT == 2
    _rewrite_config(path, lambda config: config.update(format=99))
    with pytest.raises(CheckpointError, match="format 99, and this version reads 1 and 2"):
        Checkpoint.load(path)


def test_format_1_without_deviations_is_read(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c")
    _rewrite_config(path, lambda config: config.update(format=1, deviations=False))
    loaded = Checkpoint.load(path)
    assert loaded.config == CONFIG
    assert loaded.version == checkpoint.version
    loaded.build()


def test_format_1_with_deviations_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c")
    _rewrite_config(path, lambda config: config.update(format=1, deviations=True))
    with pytest.raises(CheckpointError, match=r"trained with deviations.* train it again"):
        Checkpoint.load(path)


@pytest.mark.parametrize("deviations", [False, True])
def test_a_readers_homnet_is_of_format_1_too(tmp_path: Path, deviations: bool) -> None:
    form = ReaderConfig(model=CONFIG, width=16)
    path = Checkpoint(form, {}).save(tmp_path / "reader")

    def change(config: dict[str, Any]) -> None:
        config["format"] = 1
        config["model"]["deviations"] = deviations

    _rewrite_config(path, change)
    if deviations:
        with pytest.raises(CheckpointError, match="trained with deviations"):
            Checkpoint.load(path, ReaderConfig.of_json)
    else:
        assert Checkpoint.load(path, ReaderConfig.of_json).config == form


def test_an_unknown_field_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "c")
    _rewrite_config(path, lambda config: config.update(deviations=False))
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoint.load(path)


def test_patients_are_known_again_but_not_named() -> None:
    digests = patient_digests(["anna", "bert"])
    assert digests == patient_digests(["bert", "anna"])
    assert not any("anna" in d for d in digests)
    assert set(patient_digests(["anna"])) < set(digests)
