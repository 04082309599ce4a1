"""The registry: the models there are, and which one answers for each hospital.

A directory, local or at any URI that pyarrow supports (``s3://``, ``gs://``, ``hdfs://``)::

    models/<version>/...        checkpoints, under the digest of their content
    golden/<version>.arrow      reference bags: pairs with the logits that the model must give them
    events/<number>-<id>.json   decisions, one small file each, never changed

Decisions are never overwritten, so two processes that decide at the same time cannot damage
anything: both decisions are kept, and every process sorts them by number and then by id. The status
of a model follows from the decisions in that order.
"""

import json
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa
from pyarrow import fs

from homnet.errors import RegistryError
from homnet.model.checkpoint import Checkpoint
from homnet.model.contract import Form
from homnet.model.network import HomNetConfig

Action = Literal["publish", "promote", "retire", "roll_back"]
_HASHES: Final = "sha256.json"
"""File of a checkpoint that is written last: if it is there, the checkpoint is complete."""


@dataclass(frozen=True)
class Decision:
    """What somebody decided about a model of a hospital."""

    action: Action
    """What was decided."""
    hospital: str
    """The hospital it concerns."""
    version: str
    """The model it concerns; for a roll-back the one that stops answering."""
    number: int
    """One more than the largest number that the deciding process saw."""
    time: str
    """Time of the decision, UTC."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Orders decisions of the same number."""


@dataclass(frozen=True)
class Entry:
    """A model as seen by one hospital."""

    hospital: str
    """The hospital."""
    version: str
    """Digest of the checkpoint: weights, calibration and provenance."""
    status: Literal["candidate", "promoted", "retired"]
    """Whether it answers (promoted), may be promoted (candidate), or may not (retired)."""
    published: str
    """Time of its first publication, UTC."""


class Registry:
    """Models and decisions under one root."""

    def __init__(self, root: str | Path, form: Callable[..., Form] = HomNetConfig) -> None:
        """Opens a registry; a new one is created by its first publication.

        Args:
            root: local path or URI.
            form: makes the form of a model from the fields in its checkpoint, if the registry holds
                models other than HomNet.

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
        """Stores a checkpoint and makes it a candidate of a hospital.

        Publishing the same content again changes nothing.

        Returns:
            Its version.

        Raises:
            RegistryError: the registry cannot be written.
        """
        version = checkpoint.digest
        target = f"{self._base}/models/{version}"
        if not self._is_file(f"{target}/{_HASHES}"):
            with tempfile.TemporaryDirectory() as directory:
                saved = checkpoint.save(Path(directory) / "checkpoint")
                names = sorted(path.name for path in saved.iterdir())
                for name in sorted(names, key=lambda name: name == _HASHES):
                    self._write(f"{target}/{name}", (saved / name).read_bytes())
        if not any(e.version == version for e in self.entries(hospital)):
            self._decide("publish", hospital, version)
        return version

    def entries(self, hospital: str | None = None) -> list[Entry]:
        """All models of one hospital, or of all, in the order of their publication.

        Raises:
            RegistryError: a decision cannot be read.
        """
        return _replay(self.decisions(), hospital)

    def lines(self) -> dict[str, tuple[str, ...]]:
        """By hospital, the models that may answer: the promoted one last, its predecessors before.

        Raises:
            RegistryError: as :meth:`entries`.
        """
        return {
            hospital: tuple(line)
            for hospital, line in _state(self.decisions()).line.items()
            if line
        }

    def promoted(self, hospital: str) -> Entry | None:
        """The model that answers for a hospital; None if none was promoted.

        Raises:
            RegistryError: as :meth:`entries`.
        """
        return next((e for e in self.entries(hospital) if e.status == "promoted"), None)

    def promote(self, hospital: str, version: str) -> Entry:
        """Makes a model answer for a hospital, instead of the present one.

        Args:
            hospital: the hospital.
            version: its version, or as many leading letters as are unique.

        Raises:
            RegistryError: the hospital has no such model, it is retired, it is not HomNet, or its
                files are damaged.
        """
        entry = self._one(hospital, version)
        if entry.status == "retired":
            raise RegistryError(
                f"{self.root}: {entry.version[:12]} is retired for {hospital}; publish or choose "
                "another"
            )
        # A model that cannot be loaded, or cannot say what a pair added, must not answer.
        if not isinstance(self.checkpoint(entry.version).config, HomNetConfig):
            raise RegistryError(
                f"{self.root}: {entry.version[:12]} is not HomNet: other models can be shadows, "
                "and only HomNet can answer"
            )
        self._decide("promote", hospital, entry.version)
        return self._one(hospital, entry.version)

    def roll_back(self, hospital: str) -> Entry | None:
        """Withdraws the promoted model of a hospital; the one before it answers again.

        Returns:
            The model that answers now, or None if there was none before.

        Raises:
            RegistryError: no model is promoted.
        """
        now = self.promoted(hospital)
        if now is None:
            raise RegistryError(f"{self.root}: no model is promoted for {hospital}")
        self._decide("roll_back", hospital, now.version)
        return self.promoted(hospital)

    def retire(self, hospital: str, version: str) -> Entry:
        """Takes a model out of use for good.

        Raises:
            RegistryError: the hospital has no such model, or it is the one that answers.
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
            CheckpointError: it is incomplete or damaged.
            RegistryError: there is no such model.
        """
        source = f"{self._base}/models/{version}"
        if not self._is_file(f"{source}/{_HASHES}"):
            raise RegistryError(f"{self.root}: no model {version} here")
        with tempfile.TemporaryDirectory() as directory:
            for path in self._list(source):
                name = Path(path).name
                if not name.startswith("."):  # left by a process that was killed
                    (Path(directory) / name).write_bytes(self._read(path))
            return Checkpoint.load(directory, self._form)

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
        """The reference bags of a model; None if none were stored.

        Raises:
            RegistryError: they cannot be read.
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
        """All decisions, in their order.

        Raises:
            RegistryError: one cannot be read.
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
        # The folder keeps its first name, so that registries of earlier versions stay readable.
        return f"{self._base}/golden/{version}.arrow"

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
        # Written whole or not at all: by renaming, or in object stores by an atomic upload.
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
    """The result of all decisions."""

    published: dict[tuple[str, str], str]
    """Time of publication by hospital and version, in the order of publication."""
    retired: set[tuple[str, str]]
    """Hospitals and versions."""
    line: dict[str, list[str]]
    """By hospital, the models that answered, the present one last."""


def _state(decisions: Iterable[Decision]) -> _State:
    """The result of all decisions. Those that contradict the state before them are ignored."""
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
