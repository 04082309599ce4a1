"""Checkpoints: a directory of JSON and safetensors, saved atomically, loaded strictly with hashes.

``config.json`` (format and form of the model), ``model.safetensors``, ``metrics.json``,
``provenance.json`` (cohort fingerprint, recipe, seed, package version, parent),
``calibration.json`` (temperature, prior and threshold of each hospital), ``patients.json`` (the
same for whole patients, once calibrated), ``state.safetensors`` (optimizer, while a run is
unfinished) and ``sha256.json``, which lists all of them: a file that is missing or not listed is
refused. No pickle is ever loaded. The content does not depend on the time: the same seed on the
same machine gives the same bytes.

Format 1 has one more field in HomNet's form: ``deviations``, removed because it brought no gain
(LAB.md, 2026-11-27). Checkpoints that do not use it can still be read, with a new version digest.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from homnet.calibration.bags import Calibration
from homnet.calibration.patients import FORMAT as PATIENTS_FORMAT
from homnet.calibration.patients import PatientCalibration
from homnet.errors import CheckpointError, ConfigError
from homnet.files import digest_of, parse_json, replacing_directory
from homnet.locations import Location, files_in, local_copy, to_location
from homnet.model.contract import BagModel, Form, settings_of
from homnet.model.network import HomNetConfig

FORMAT: Final = 2
"""Format that is written; format 1 can also be read."""
HASHES: Final = "sha256.json"
"""File of a checkpoint that is written last; its presence means that the checkpoint is complete."""
_REQUIRED: Final = (
    "config.json",
    "model.safetensors",
    "metrics.json",
    "provenance.json",
    "calibration.json",
)
_ADVICE: Final = "take another copy of the checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """A model with everything needed to use, verify and continue it."""

    config: Form
    """Form of the model."""
    weights: Mapping[str, torch.Tensor]
    """State of the model, keyed by parameter and buffer name."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Validation metrics, overall and per epoch; JSON-able."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data, settings and parent of the weights; JSON-able."""
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    """Calibration of bag logits, by hospital."""
    state: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """State needed to continue the run; empty when the run is finished."""
    patients: Mapping[str, PatientCalibration] = field(default_factory=dict)
    """Calibration of patient scores, by hospital. Empty until calibrated."""

    def build(self) -> BagModel:
        """Builds the model with these weights.

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

    def scale_of(self, hospital: str) -> float | None:
        """Samples per image pixel that a hospital's sequences must have; None if it is unknown.

        The scale of the hospital's calibration, or else that of its training sequences, or else the
        one that all calibrations and training sequences have in common.
        """
        learnt: Mapping[str, float] = self.provenance.get("samples_per_px", {})
        calibrated = {name: one.samples_per_px for name, one in self.patients.items()}
        own = calibrated.get(hospital) or learnt.get(hospital)
        common = {*learnt.values(), *calibrated.values()} - {None}
        return own or (common.pop() if len(common) == 1 else None)

    def require_scale(self, scale: Mapping[str, float], name: str = "the checkpoint") -> None:
        """Refuses sequences of another scale than the model's: lengths would be misjudged.

        Args:
            scale: samples per image pixel of each hospital.
            name: of the checkpoint in the message.

        Raises:
            CheckpointError: names the hospital and both scales.
        """
        for hospital, given in scale.items():
            own = self.scale_of(hospital)
            if own is not None and not math.isclose(own, given, rel_tol=1e-6):
                raise CheckpointError(
                    f"{name}: for sequences of {own:g} samples per image pixel, and those of "
                    f"{hospital} have {given:g}; measure the images again at {own:g}, or train at "
                    f"{given:g}"
                )

    @property
    def version(self) -> str:
        """SHA-256 of form and weights, by which reports name the model."""
        return _version(settings_of(self.config), self.weights)

    @property
    def digest(self) -> str:
        """SHA-256 of everything that affects an answer, including calibration and provenance."""
        return _digest(
            self.version,
            self.metrics,
            self.provenance,
            {name: dataclasses.asdict(one) for name, one in self.calibration.items()},
            {name: one.to_json() for name, one in self.patients.items()},
        )

    def save(self, path: str | Location) -> Location:
        """Writes the checkpoint to a directory or URI atomically and replaces an older one.

        Returns:
            The path.

        Raises:
            CheckpointError: the path cannot be written, or a value is not finite; the previous
                content is kept.
        """
        root = to_location(path, error=CheckpointError)
        try:
            files = {
                "config.json": _json({"format": FORMAT, **settings_of(self.config)}),
                "metrics.json": _json(self.metrics),
                "provenance.json": _json(self.provenance),
                "calibration.json": _json(
                    {name: dataclasses.asdict(value) for name, value in self.calibration.items()}
                ),
            }
            if self.patients:
                files["patients.json"] = _json(
                    {name: one.to_json() for name, one in self.patients.items()}
                )
            with replacing_directory(root, last=HASHES) as made:
                for name, content in files.items():
                    (made / name).write_bytes(content)
                _save_tensors(self.weights, made / "model.safetensors")
                if self.state:
                    _save_tensors(self.state, made / "state.safetensors")
                hashes = {path.name: digest_of(path) for path in sorted(made.iterdir())}
                (made / HASHES).write_bytes(_json(hashes))
        except ValueError as error:
            raise CheckpointError(
                f"{root}: the checkpoint has a value that is not finite ({error}); train again "
                "with a lower learning rate"
            ) from None
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{root}: cannot write the checkpoint ({error}); free space or choose another place"
            ) from None
        return root

    @classmethod
    def load(
        cls,
        path: str | Location,
        form: Callable[..., Form] = HomNetConfig,
        *,
        digest: str | None = None,
    ) -> Self:
        """Reads a checkpoint.

        Args:
            path: the directory or URI.
            form: builds the model's form from the fields in ``config.json``.
            digest: the :attr:`digest` that the stored content must have, if it is known.

        Raises:
            CheckpointError: the checkpoint is missing, incomplete, altered, of another format, of
                another digest, or of a form that ``form`` does not build.
        """
        root = to_location(path, error=CheckpointError)
        if not (root / HASHES).is_file():
            raise CheckpointError(f"{root}: no checkpoint here ({HASHES} is missing)")
        try:
            return cls._load(root, form, digest)
        except (
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
            ArithmeticError,
            OSError,
            SafetensorError,
            ConfigError,
        ) as error:
            raise CheckpointError(
                f"{root}: the checkpoint cannot be read ({error}); {_ADVICE}"
            ) from None

    @classmethod
    def _load(cls, root: Location, form: Callable[..., Form], digest: str | None) -> Self:
        hashes = check_listed(root, (root / HASHES).read_bytes(), files_in(root))
        with local_copy(root, hashes) as folder:
            return cls._parse(root, folder, hashes, form, digest)

    @classmethod
    def _parse(
        cls,
        root: Location,
        folder: Path,
        hashes: Mapping[str, Any],
        form: Callable[..., Form],
        digest: str | None,
    ) -> Self:
        """Reads the listed files in a local folder; messages name ``root``."""
        for name, expected in hashes.items():
            if digest_of(folder / name) != expected:
                raise CheckpointError(
                    f"{root / name}: the file was altered or damaged since it was written; "
                    f"{_ADVICE}"
                )

        def read(name: str) -> dict[str, Any]:
            content = (folder / name).read_bytes()
            return parse_json(content, root / name, error=CheckpointError, advice=_ADVICE)

        def tensors(name: str) -> dict[str, torch.Tensor]:
            return load_file(folder / name) if name in hashes else {}

        config, metrics, provenance = (
            read(f"{n}.json") for n in ("config", "metrics", "provenance")
        )
        calibration = read("calibration.json")
        patients = read("patients.json") if "patients.json" in hashes else {}
        weights = tensors("model.safetensors")
        number = config.pop("format", None)
        if digest is not None:
            # Of what is stored, not of what this version makes of it: it may skip a field.
            version = _version(config, weights)
            found = _digest(version, metrics, provenance, calibration, patients)
            if found != digest:
                raise CheckpointError(
                    f"{root}: holds the model {found[:12]}, not {digest[:12]}; {_ADVICE}"
                )
        if number == 1:
            _drop_deviations(root, config)
        elif number != FORMAT:
            raise CheckpointError(
                f"{root}: a checkpoint of format {number}, and this version reads 1 and "
                f"{FORMAT}; train it again, or use the version of HomNet that wrote it"
            )
        return cls(
            config=form(**config),
            weights=weights,
            metrics=metrics,
            provenance=provenance,
            calibration={name: Calibration(**value) for name, value in calibration.items()},
            state=tensors("state.safetensors"),
            patients={
                name: PatientCalibration.from_json(value)
                for name, value in patients.items()
                # A calibration fitted to the scores of another version counts as missing.
                if value.get("format") == PATIENTS_FORMAT
            },
        )


def check_listed(where: object, hashes: bytes, present: Collection[str]) -> dict[str, Any]:
    """Compares the files of a checkpoint with the list of them.

    Args:
        where: directory of the checkpoint, for messages.
        hashes: content of ``sha256.json``.
        present: names of the files in the directory, from :func:`homnet.locations.files_in`.

    Returns:
        Digests by file name.

    Raises:
        CheckpointError: the list is damaged, or a file is missing or not listed.
    """
    listed = parse_json(hashes, f"{where}/{HASHES}", error=CheckpointError, advice=_ADVICE)
    missing = [name for name in (*_REQUIRED, *listed) if name not in present]
    if missing:
        raise CheckpointError(
            f"{where}: the checkpoint is incomplete, {missing[0]} is missing; {_ADVICE}"
        )
    strange = sorted(set(present) - {HASHES, *listed})
    if strange:
        raise CheckpointError(
            f"{where}: {strange[0]} is not listed in {HASHES}; remove it, or {_ADVICE}"
        )
    return listed


def patient_digests(patients: Iterable[str]) -> list[str]:
    """Digests of the training patients, by which a checkpoint recognises them.

    Returns:
        BLAKE2b of each name, 16 hexadecimal digits, sorted.
    """
    return sorted(hashlib.blake2b(p.encode(), digest_size=8).hexdigest() for p in patients)


def _drop_deviations(root: Location, config: dict[str, Any]) -> None:
    """Converts a form of format 1 to format 2; a reader's form contains that of its HomNet."""
    nested = config.get("model")
    for form in (config, nested) if isinstance(nested, dict) else (config,):
        if form.pop("deviations", False):
            raise CheckpointError(
                f"{root}: this model was trained with deviations from normal pairs, which HomNet "
                "no longer computes; train it again with the same recipe"
            )


def _version(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(_json(config))
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _digest(version: str, *parts: Mapping[str, Any]) -> str:
    """Digest of the version, metrics, provenance, calibration and, if there are any, patients."""
    *others, patients = parts
    content = {"content": [version, *others, *([patients] if patients else [])]}
    # Through JSON: the digest of what will be read again, in which all keys are text.
    return hashlib.sha256(_json(json.loads(_json(content)))).hexdigest()


def _save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    save_file({n: t.detach().cpu().contiguous() for n, t in sorted(tensors.items())}, path)


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()
