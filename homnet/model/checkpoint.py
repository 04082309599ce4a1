"""Checkpoints: a directory of JSON and safetensors, written whole, loaded strictly, hash-checked.

``config.json`` (form of the model), ``model.safetensors``, ``metrics.json``, ``provenance.json``
(cohort fingerprint, recipe, seed, package version, parent), ``calibration.json`` (per hospital
temperature, prior and threshold), ``patients.json`` (the same for whole patients, once they were
calibrated), ``state.safetensors`` (optimizer, while a run goes on) and ``sha256.json``. No pickle
is ever loaded. Nothing in it depends on when it was written: the same seed on the same machine
gives the same bytes.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from homnet.calibration.bags import Calibration
from homnet.calibration.patients import FORMAT as PATIENTS_FORMAT
from homnet.calibration.patients import PatientCalibration
from homnet.errors import CheckpointError
from homnet.files import digest_of, replacing_directory
from homnet.model.contract import BagModel, Form
from homnet.model.network import HomNetConfig

FORMAT: Final = 1
_HASHES: Final = "sha256.json"


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use, trust and continue it."""

    config: Form
    weights: Mapping[str, torch.Tensor]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    patients: Mapping[str, PatientCalibration] = field(default_factory=dict)
    """By hospital: how scores become the verdict on a patient. Empty until calibrated."""

    def build(self) -> BagModel:
        """The model with these weights.

        Raises:
            CheckpointError: the weights do not fit the config.
        """
        model = self.config.build()
        try:
            model.load_state_dict(dict(self.weights), strict=True)
        except RuntimeError as error:
            raise CheckpointError(
                f"the weights do not fit the config: {str(error).splitlines()[-1].strip()}"
            ) from None
        return model

    @property
    def version(self) -> str:
        """Digest of config and weights: what a report names as the model."""
        digest = hashlib.sha256(_json(dataclasses.asdict(self.config)))
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(self.weights[name].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def digest(self) -> str:
        """Digest of all that decides what is answered and why: also calibration and provenance."""
        calibration = {name: dataclasses.asdict(c) for name, c in self.calibration.items()}
        content = [self.version, self.metrics, self.provenance, calibration]
        if self.patients:
            content.append({name: c.to_json() for name, c in self.patients.items()})
        return hashlib.sha256(_json({"content": content})).hexdigest()

    def save(self, path: str | Path) -> Path:
        """Writes the checkpoint; the directory appears whole, an older one is replaced.

        Raises:
            CheckpointError: the place cannot be written; what was there before is kept.
        """
        root = Path(path)
        files = {
            "config.json": _json({"format": FORMAT, **dataclasses.asdict(self.config)}),
            "metrics.json": _json(self.metrics),
            "provenance.json": _json(self.provenance),
            "calibration.json": _json(
                {name: dataclasses.asdict(value) for name, value in self.calibration.items()}
            ),
        }
        if self.patients:
            files["patients.json"] = _json({name: c.to_json() for name, c in self.patients.items()})
        try:
            with replacing_directory(root) as made:
                for name, content in files.items():
                    (made / name).write_bytes(content)
                _save_tensors(self.weights, made / "model.safetensors")
                if self.state:
                    _save_tensors(self.state, made / "state.safetensors")
                hashes = {path.name: digest_of(path) for path in sorted(made.iterdir())}
                (made / _HASHES).write_bytes(_json(hashes))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{root}: cannot write the checkpoint ({error}); free space or choose another place"
            ) from None
        return root

    @classmethod
    def load(cls, path: str | Path, form: Callable[..., Form] = HomNetConfig) -> Self:
        """Reads a checkpoint.

        Args:
            path: the directory.
            form: makes the model's form out of what ``config.json`` holds.

        Raises:
            CheckpointError: it is missing, incomplete, altered, or of another format.
        """
        root = Path(path)
        if not (root / _HASHES).is_file():
            raise CheckpointError(f"{root}: no checkpoint here ({_HASHES} is missing)")
        try:
            for name, expected in json.loads((root / _HASHES).read_text()).items():
                if not (root / name).is_file():
                    raise CheckpointError(
                        f"{root}: the checkpoint is incomplete, {name} is missing"
                    )
                if digest_of(root / name) != expected:
                    raise CheckpointError(
                        f"{root / name}: the file was altered or damaged since it was written; "
                        "take another copy of the checkpoint"
                    )
            config = json.loads((root / "config.json").read_text())
            if config.pop("format", None) != FORMAT:
                raise CheckpointError(f"{root / 'config.json'}: not a format {FORMAT} checkpoint")
            state, patients = root / "state.safetensors", root / "patients.json"
            return cls(
                config=form(**config),
                weights=load_file(root / "model.safetensors"),
                metrics=json.loads((root / "metrics.json").read_text()),
                provenance=json.loads((root / "provenance.json").read_text()),
                calibration={
                    name: Calibration(**value)
                    for name, value in json.loads((root / "calibration.json").read_text()).items()
                },
                state=load_file(state) if state.is_file() else {},
                patients={
                    name: PatientCalibration.from_json(value)
                    for name, value in json.loads(patients.read_text()).items()
                    # Fitted to the scores of another version: as good as not calibrated.
                    if value.get("format") == PATIENTS_FORMAT
                }
                if patients.is_file()
                else {},
            )
        except (json.JSONDecodeError, TypeError, OSError, SafetensorError) as error:
            raise CheckpointError(f"{root}: the checkpoint cannot be read ({error})") from None


def patient_digests(patients: Iterable[str]) -> list[str]:
    """What a checkpoint keeps of the patients it learnt from: enough to know them again."""
    return sorted(hashlib.blake2b(p.encode(), digest_size=8).hexdigest() for p in patients)


def _save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    save_file({n: t.detach().cpu().contiguous() for n, t in sorted(tensors.items())}, path)


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True).encode()
