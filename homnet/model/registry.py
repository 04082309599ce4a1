"""The registry: all models, and the model in use at each hospital.

A directory, local or at any URI that pyarrow supports (``s3://``, ``gs://``, ``hdfs://``)::

    models/<version>/...         checkpoints, named by the digest of their content
    readers/<version>/...        readers that calibrations name, by the digest of their weights
    golden/<version>.arrow       reference bags: pairs with the logits that the model must reproduce
    events/<number>-<id>.json    decisions, one small immutable file each

Concurrent decisions of two processes are both kept, because no decision is ever overwritten. Every
process sorts decisions by number, then by id, and derives the status of each model in that order.
"""

import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pyarrow import fs

from homnet.errors import CheckpointError, RegistryError
from homnet.model.checkpoint import HASHES, Checkpoint
from homnet.model.contract import Form
from homnet.model.network import HomNetConfig

Action = Literal["publish", "promote", "retire", "roll_back"]


@dataclass(frozen=True)
class Decision:
    """A decision on a model of a hospital."""

    action: Action
    """What was decided."""
    hospital: str
    """Hospital that the decision applies to."""
    version: str
    """Model that the decision applies to; for a roll-back, the model that is withdrawn."""
    number: int
    """One more than the largest number seen by the deciding process."""
    time: str
    """Time of the decision, UTC."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Orders decisions of equal number."""


@dataclass(frozen=True)
class Entry:
    """Status of a model at one hospital."""

    hospital: str
    """The hospital."""
    version: str
    """Digest of the checkpoint: weights, calibration and provenance."""
    status: Literal["candidate", "promoted", "retired"]
    """In use (promoted), available for promotion (candidate), or out of use (retired)."""
    published: str
    """Time of the first publication, UTC."""


class Registry:
    """Models and decisions under one root directory."""

    def __init__(self, root: str | Path, form: Callable[..., Form] = HomNetConfig) -> None:
        """Opens a registry; the first publication creates it.

        Args:
            root: local path or URI.
            form: builds a model's form from the fields in its checkpoint; needed if the registry
                holds models other than HomNet.

        Raises:
            RegistryError: pyarrow does not support the URI.
        """
        self.root = str(root)
        self._form = form
        try:
            if "://" in self.root:
                self._files, self._base = fs.FileSystem.from_uri(self.root)
            else:
                self._files, self._base = fs.LocalFileSystem(), str(Path(root).resolve())
        except (pa.ArrowInvalid, OSError) as error:
            raise RegistryError(
                f"{root}: no registry can be there ({error}); give a path or URI that pyarrow knows"
            ) from None

    def publish(self, checkpoint: Checkpoint, hospital: str) -> str:
        """Stores a checkpoint and makes it a candidate at a hospital.

        Publishing the same content again has no effect.

        Returns:
            Version of the checkpoint.

        Raises:
            RegistryError: the registry cannot be written.
        """
        version = checkpoint.digest
        self._keep(f"{self._base}/models/{version}", checkpoint)
        if not any(e.version == version for e in self.entries(hospital)):
            self._decide("publish", hospital, version)
        return version

    def entries(self, hospital: str | None = None) -> list[Entry]:
        """Returns all models of one hospital, or of all, in order of publication.

        Raises:
            RegistryError: a decision cannot be read.
        """
        return _replay(self.decisions(), hospital)

    def lines(self) -> dict[str, tuple[str, ...]]:
        """Models that may be used, by hospital; the promoted one last, after its predecessors.

        Raises:
            RegistryError: as :meth:`entries`.
        """
        return {
            hospital: tuple(line)
            for hospital, line in _state(self.decisions()).line.items()
            if line
        }

    def promoted(self, hospital: str) -> Entry | None:
        """Returns the model in use at a hospital, or None.

        Raises:
            RegistryError: as :meth:`entries`.
        """
        return next((e for e in self.entries(hospital) if e.status == "promoted"), None)

    def promote(self, hospital: str, version: str) -> Entry:
        """Puts a model into use at a hospital, in place of the current one.

        Args:
            hospital: the hospital.
            version: version of the model, or a unique prefix of it.

        Raises:
            RegistryError: the hospital has no such model, or the model is retired, is not HomNet,
                or has damaged files.
        """
        entry = self._one(hospital, version)
        if entry.status == "retired":
            raise RegistryError(
                f"{self.root}: {entry.version[:12]} is retired for {hospital}; publish or choose "
                "another"
            )
        # The model must load, and must give the contribution of each pair.
        if not isinstance(self.checkpoint(entry.version).config, HomNetConfig):
            raise RegistryError(
                f"{self.root}: {entry.version[:12]} is not HomNet: other models can be shadows, "
                "and only HomNet can answer"
            )
        self._decide("promote", hospital, entry.version)
        return self._one(hospital, entry.version)

    def roll_back(self, hospital: str) -> Entry | None:
        """Withdraws the promoted model of a hospital and restores its predecessor.

        Returns:
            The model now in use, or None without a predecessor.

        Raises:
            RegistryError: no model is promoted.
        """
        now = self.promoted(hospital)
        if now is None:
            raise RegistryError(f"{self.root}: no model is promoted for {hospital}")
        self._decide("roll_back", hospital, now.version)
        return self.promoted(hospital)

    def retire(self, hospital: str, version: str) -> Entry:
        """Takes a model out of use permanently.

        Raises:
            RegistryError: the hospital has no such model, or the model is promoted.
        """
        entry = self._one(hospital, version)
        if entry.status == "promoted":
            raise RegistryError(
                f"{self.root}: {entry.version[:12]} answers for {hospital}; promote another or "
                "roll back first"
            )
        self._decide("retire", hospital, entry.version)
        return self._one(hospital, entry.version)

    def checkpoint(self, version: str) -> Checkpoint:
        """Loads a model and checks its hashes.

        Raises:
            CheckpointError: the checkpoint is incomplete or damaged.
            RegistryError: there is no such model.
        """
        source = f"{self._base}/models/{version}"
        if not self._is_file(f"{source}/{HASHES}"):
            raise RegistryError(f"{self.root}: no model {version} here")
        return self._load(source, self._form)

    def keep_reader(self, checkpoint: Checkpoint) -> None:
        """Stores the reader that calibrations name by its version.

        Raises:
            RegistryError: the registry cannot be written.
        """
        self._keep(f"{self._base}/readers/{checkpoint.version}", checkpoint)

    def reader(self, version: str, form: Callable[..., Form]) -> Checkpoint:
        """Loads a reader and checks its hashes.

        Args:
            version: digest of form and weights.
            form: builds the reader's form.

        Raises:
            CheckpointError: the checkpoint is incomplete or damaged, or is another reader.
            RegistryError: there is no such reader.
        """
        source = f"{self._base}/readers/{version}"
        if not self._is_file(f"{source}/{HASHES}"):
            raise RegistryError(
                f"{self.root}: no reader {version[:12]} here; calibrate with --registry, which "
                "stores model and reader"
            )
        found = self._load(source, form)
        if found.version != version:
            raise CheckpointError(f"{source}: holds the reader {found.version[:12]}; restore it")
        return found

    def keep_reference_bags(self, version: str, reference: pa.Table) -> None:
        """Stores the reference bags of a model (see :mod:`homnet.model.reference_bags`).

        Raises:
            RegistryError: the registry cannot be written.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, reference.schema) as writer:
            writer.write_table(reference)
        self._write(self._reference_file(version), sink.getvalue().to_pybytes())

    def reference_bags(self, version: str) -> pa.Table | None:
        """Loads the reference bags of a model; None if none were stored.

        Raises:
            RegistryError: the reference bags cannot be read.
        """
        path = self._reference_file(version)
        if not self._is_file(path):
            return None
        try:
            with pa.ipc.open_file(self._read(path)) as reader:
                return reader.read_all()
        except pa.ArrowInvalid as error:
            raise RegistryError(
                f"{self.root}: the reference bags of {version[:12]} are damaged ({error}); store "
                "them again"
            ) from None

    def decisions(self) -> list[Decision]:
        """Returns all decisions in order.

        Raises:
            RegistryError: a decision cannot be read.
        """
        found = []
        for path in self._list(f"{self._base}/events"):
            name = Path(path).name
            if name.startswith(".") or not name.endswith(".json"):
                continue  # being written
            try:
                found.append(Decision(**json.loads(self._read(path))))
            except (ValueError, TypeError) as error:
                raise RegistryError(
                    f"{self.root}: the decision {name} cannot be read ({error}); restore it"
                ) from None
        return sorted(found, key=lambda decision: (decision.number, decision.id))

    def _reference_file(self, version: str) -> str:
        # The folder keeps its original name, so that registries of earlier versions stay readable.
        return f"{self._base}/golden/{version}.arrow"

    def _keep(self, target: str, checkpoint: Checkpoint) -> None:
        """Stores a checkpoint, its hashes last, unless it is there."""
        if self._is_file(f"{target}/{HASHES}"):
            return
        with tempfile.TemporaryDirectory() as directory:
            saved = checkpoint.save(Path(directory) / "checkpoint")
            names = sorted(path.name for path in saved.iterdir())
            for name in sorted(names, key=lambda name: name == HASHES):
                self._write(f"{target}/{name}", (saved / name).read_bytes())

    def _load(self, source: str, form: Callable[..., Form]) -> Checkpoint:
        with tempfile.TemporaryDirectory() as directory:
            for path in self._list(source):
                name = Path(path).name
                if not name.startswith("."):  # left by a process that was killed
                    (Path(directory) / name).write_bytes(self._read(path))
            return Checkpoint.load(directory, form)

    def _one(self, hospital: str, version: str) -> Entry:
        fitting = [e for e in self.entries(hospital) if version and e.version.startswith(version)]
        if len(fitting) != 1:
            known = ", ".join(e.version[:12] for e in self.entries(hospital)) or "none"
            which = "several models" if fitting else "no model"
            raise RegistryError(
                f"{self.root}: {which} of {hospital} begin with {version!r}; there are: {known}"
            )
        return fitting[0]

    def _decide(self, action: Action, hospital: str, version: str) -> None:
        number = max((decision.number for decision in self.decisions()), default=0) + 1
        time = datetime.now(UTC).isoformat(timespec="seconds")
        decision = Decision(action, hospital, version, number, time)
        content: dict[str, Any] = asdict(decision)
        path = f"{self._base}/events/{number:09d}-{decision.id}.json"
        self._write(path, json.dumps(content, indent=1).encode())

    def _write(self, path: str, content: bytes) -> None:
        # Atomic write: by renaming, or by the atomic upload of object stores.
        parent, _, name = path.rpartition("/")
        staged = f"{parent}/.{uuid.uuid4().hex}-{name}"
        with self._reachable("written"):
            self._files.create_dir(parent, recursive=True)
            with self._files.open_output_stream(staged) as stream:
                stream.write(content)
            self._files.move(staged, path)

    def _read(self, path: str) -> bytes:
        with self._reachable("read"), self._files.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content

    def _list(self, path: str) -> list[str]:
        selector = fs.FileSelector(path, allow_not_found=True)
        with self._reachable("read"):
            return [info.path for info in self._files.get_file_info(selector)]

    def _is_file(self, path: str) -> bool:
        with self._reachable("read"):
            (info,) = self._files.get_file_info([path])
        found: bool = info.type == fs.FileType.File
        return found

    @contextmanager
    def _reachable(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RegistryError(
                f"{self.root}: cannot be {what} ({error}); free space, give access, or choose "
                "another place"
            ) from None


@dataclass(frozen=True)
class _State:
    """State that results from all decisions."""

    published: dict[tuple[str, str], str]
    """Time of publication by hospital and version, in order of publication."""
    retired: set[tuple[str, str]]
    """Pairs of hospital and version."""
    line: dict[str, list[str]]
    """Promoted models by hospital, the current one last."""


def _state(decisions: Iterable[Decision]) -> _State:
    """Applies all decisions in order; decisions that contradict the state are ignored."""
    state = _State({}, set(), {})
    for decision in decisions:
        key = (decision.hospital, decision.version)
        answering = state.line.setdefault(decision.hospital, [])
        if decision.action == "publish":
            state.published.setdefault(key, decision.time)
        elif decision.action == "promote" and key in state.published and key not in state.retired:
            if answering[-1:] != [decision.version]:
                answering.append(decision.version)
        elif decision.action == "roll_back" and answering[-1:] == [decision.version]:
            answering.pop()
        elif decision.action == "retire" and answering[-1:] != [decision.version]:
            state.retired.add(key)
            state.line[decision.hospital] = [v for v in answering if v != decision.version]
    return state


def _replay(decisions: Iterable[Decision], hospital: str | None) -> list[Entry]:
    state = _state(decisions)
    return [
        Entry(
            hospital=of,
            version=version,
            status="retired"
            if (of, version) in state.retired
            else "promoted"
            if state.line[of][-1:] == [version]
            else "candidate",
            published=time,
        )
        for (of, version), time in state.published.items()
        if hospital in (None, of)
    ]
