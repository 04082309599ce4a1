"""The registry: all models, and the model in use at each hospital.

A directory, or a URI of an object store (``s3://``, ``gs://``)::

    models/<version>/...         checkpoints, named by the digest of their content
    readers/<version>/...        readers that calibrations name, by the digest of their weights
    golden/<version>.arrow       reference bags: pairs with the logits that the model must reproduce
    events/<number>-<hospital>-<id>.json
                                 decisions, one small immutable file each

Concurrent decisions of two processes are both kept, because no decision is ever overwritten. Every
process sorts decisions by number, then by id, and derives the status of each model in that order.

:mod:`homnet.model.decisions` says what a decision holds and what happens to a damaged one.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from homnet.calibration.patients import NO_READER_USED
from homnet.errors import CheckpointError, RegistryError
from homnet.files import write_whole
from homnet.locations import Location, RemotePath, files_in, to_location
from homnet.model.checkpoint import HASHES, Checkpoint, check_listed
from homnet.model.contract import Form
from homnet.model.decisions import Action, Entry, Standing, read_decisions
from homnet.model.network import HomNetConfig

_SETTLED_NS: Final = 2 * 10**9
"""Age of a change after which a further one has another time: stores and file systems record whole
seconds, or two."""


class Registry:
    """Models and decisions under one root directory."""

    def __init__(self, root: str | Location, form: Callable[..., Form] = HomNetConfig) -> None:
        """Opens a registry; the first publication creates it.

        Args:
            root: local path or URI.
            form: builds a model's form from the fields in its checkpoint; needed if the registry
                holds models other than HomNet.

        Raises:
            RegistryError: see :func:`homnet.locations.to_location`.
        """
        self.root = str(root)
        self._form = form
        self._place = to_location(root, error=RegistryError).resolve()
        self._known: dict[str, tuple[tuple[int, ...], bytes]] = {}
        """Undamaged decisions by file: size and times of change, and content."""

    def exists(self) -> bool:
        """Whether the directory exists; always on an object store, which has no empty folders.

        Raises:
            RegistryError: the registry cannot be read.
        """
        with self._reachable("read"):
            return isinstance(self._place, RemotePath) or self._place.exists()

    def publish(self, checkpoint: Checkpoint, hospital: str) -> str:
        """Stores a checkpoint and makes it a candidate at a hospital.

        Publishing the same content again has no effect.

        Returns:
            Version of the checkpoint.

        Raises:
            RegistryError: the registry cannot be written.
        """
        version = checkpoint.digest
        self._keep(f"models/{version}", checkpoint)
        if not any(e.version == version for e in self.entries(hospital)):
            self._decide("publish", hospital, version)
        return version

    def standing(self) -> Standing:
        """What all decisions come to; damage of one hospital does not affect the others.

        Raises:
            RegistryError: the decisions cannot be listed, or none of them can be read.
        """
        found = self._standing()
        # A list made while decisions are written can have one and lack one that it names.
        return self._standing() if found.problems else found

    def entries(self, hospital: str | None = None) -> list[Entry]:
        """Returns all models of one hospital, or of all, in order of publication.

        Raises:
            RegistryError: the registry cannot be read.
        """
        return [e for e in self.standing().entries if hospital in (None, e.hospital)]

    def lines(self) -> dict[str, tuple[str, ...]]:
        """Versions that may be used, by hospital; the promoted one last, after its predecessors.

        Raises:
            RegistryError: the registry cannot be read.
        """
        lines = self.standing().lines
        return {hospital: tuple(one.version for one in line) for hospital, line in lines.items()}

    def promoted(self, hospital: str) -> Entry | None:
        """Returns the model in use at a hospital, or None.

        Raises:
            RegistryError: the registry cannot be read, or a decision of the hospital is damaged.
        """
        standing = self.standing()
        for reason in standing.problems.get(hospital, {}).values():
            raise RegistryError(f"{self.root}: {reason}")
        own = (entry for entry in standing.entries if entry.hospital == hospital)
        return next((entry for entry in own if entry.status == "promoted"), None)

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
        if (hospital, entry.version) in self.standing().retired:
            raise RegistryError(
                f"{self.root}: {entry.version[:12]} is retired for {hospital}; publish or choose "
                "another"
            )
        # The model must load, and must give the contribution of each pair.
        checkpoint = self.checkpoint(entry.version)
        if not isinstance(checkpoint.config, HomNetConfig):
            raise RegistryError(
                f"{self.root}: {entry.version[:12]} is not HomNet: other models can be shadows, "
                "and only HomNet can answer"
            )
        beside = self._beside(entry.version, checkpoint)
        self._decide("promote", hospital, entry.version, beside=beside)
        return self._one(hospital, entry.version)

    def roll_back(self, hospital: str) -> Entry | None:
        """Withdraws the promoted model of a hospital and restores its predecessor.

        Returns:
            The model now in use, or None without a predecessor.

        Raises:
            RegistryError: no model is promoted, or a decision of the hospital is damaged.
        """
        now = self.promoted(hospital)
        if now is None:
            raise RegistryError(f"{self.root}: no model is promoted for {hospital}")
        self._decide("roll_back", hospital, now.version)
        return self.promoted(hospital)

    def retire(self, hospital: str, version: str) -> Entry:
        """Takes a model out of use permanently.

        Raises:
            RegistryError: the hospital has no such model, the model is promoted, or a decision of
                the hospital is damaged.
        """
        now = self.promoted(hospital)
        entry = self._one(hospital, version)
        if entry == now:
            raise RegistryError(
                f"{self.root}: {entry.version[:12]} answers for {hospital}; promote another or "
                "roll back first"
            )
        self._decide("retire", hospital, entry.version)
        return self._one(hospital, entry.version)

    def checkpoint(self, version: str) -> Checkpoint:
        """Loads a model and compares its content with its version.

        Raises:
            CheckpointError: the checkpoint is incomplete or damaged, or is another model.
            RegistryError: there is no such model.
        """
        source = f"models/{version}"
        if not self._is_file(f"{source}/{HASHES}"):
            raise RegistryError(f"{self.root}: no model {version} here")
        return self._load(source, self._form, version)

    def keep_reader(self, checkpoint: Checkpoint) -> None:
        """Stores the reader that calibrations name by its version.

        Raises:
            RegistryError: the registry cannot be written.
        """
        self._keep(f"readers/{checkpoint.version}", checkpoint)

    def reader(self, version: str, form: Callable[..., Form]) -> Checkpoint:
        """Loads a reader and checks its hashes.

        Args:
            version: digest of form and weights.
            form: builds the reader's form.

        Raises:
            CheckpointError: the checkpoint is incomplete or damaged, or is another reader.
            RegistryError: there is no such reader.
        """
        source = f"readers/{version}"
        if not self._is_file(f"{source}/{HASHES}"):
            raise RegistryError(
                f"{self.root}: no reader {version[:12]} here; calibrate with --registry, which "
                "stores model and reader"
            )
        found = self._load(source, form)
        if found.version != version:
            raise CheckpointError(
                f"{self.root}/{source}: holds the reader {found.version[:12]}; restore it"
            )
        return found

    def check_beside(self, beside: Mapping[str, str]) -> None:
        """Compares reference bags and readers with their digests in a promotion.

        Raises:
            CheckpointError: a file is missing or was changed since the promotion.
            RegistryError: a file cannot be read.
        """
        for path, expected in beside.items():
            if not self._is_file(path) or _sha256(self._read(path)) != expected:
                raise CheckpointError(
                    f"{self.root}/{path}: missing, or changed since the model was promoted; "
                    "restore it, or promote the model again"
                )

    def keep_reference_bags(self, version: str, reference: pa.Table) -> None:
        """Stores the reference bags of a model (see :mod:`homnet.model.reference_bags`).

        A model that was promoted with other reference bags must be promoted again; see
        :meth:`hospitals_with_other_bags`.

        Raises:
            RegistryError: the registry cannot be written.
        """
        self._write(_reference_file(version), _arrow_file(reference))

    def hospitals_with_other_bags(self, version: str, reference: pa.Table) -> list[str]:
        """Hospitals that last promoted a model with other reference bags than these, sorted.

        Their endpoints would no longer load the model once these were stored. A hospital with a
        damaged decision is not known here.

        Raises:
            RegistryError: the registry cannot be read.
        """
        path, digest = _reference_file(version), _sha256(_arrow_file(reference))
        last = {
            hospital: promotion
            for hospital, line in self.standing().lines.items()
            for promotion in line
            if promotion.version == version
        }
        return sorted(h for h, one in last.items() if one.beside.get(path, digest) != digest)

    def reference_bags(self, version: str) -> pa.Table | None:
        """Loads the reference bags of a model; None if none were stored.

        Raises:
            CheckpointError: the reference bags are damaged.
            RegistryError: the reference bags cannot be read.
        """
        path = _reference_file(version)
        if not self._is_file(path):
            return None
        try:
            with pa.ipc.open_file(self._read(path)) as reader:
                return reader.read_all()
        except (pa.ArrowException, OSError) as error:
            raise CheckpointError(
                f"{self.root}: the reference bags of {version[:12]} are damaged ({error}); store "
                "them again"
            ) from None

    def _standing(self) -> Standing:
        known: dict[str, tuple[tuple[int, ...], bytes]] = {}
        contents: list[tuple[str, bytes | OSError]] = []
        with self._reachable("read"):
            now_ns = time.time_ns()
            for name, state in self._listed_decisions().items():
                before, content = self._known.get(name, ((), b""))
                if not state or state != before:
                    try:
                        content = (self._place / "events" / name).read_bytes()
                    except OSError as error:
                        contents.append((name, error))
                        continue
                contents.append((name, content))
                if state and now_ns - max(state[1:]) > _SETTLED_NS:
                    known[name] = (state, content)
            faults = [content for _, content in contents if isinstance(content, OSError)]
            if faults and len(faults) == len(contents):
                raise faults[0]
        found = read_decisions(contents)
        # What is damaged is read again, whatever its size and times say.
        damaged = {name for own in found.problems.values() for name in own}
        self._known = {name: one for name, one in known.items() if name not in damaged}
        return found

    def _listed_decisions(self) -> dict[str, tuple[int, ...]]:
        """Files of decisions, sorted: size and times of change, ns; nothing if that is unknown."""
        folder = self._place / "events"
        states: dict[str, tuple[int, ...]]
        if isinstance(folder, RemotePath):
            states = {
                one.base_name: (one.size, one.mtime_ns) if one.mtime_ns else ()
                for one in folder.listed()
                if one.is_file and not one.base_name.startswith(".")
            }
        else:
            states = {name: _state(folder / name) for name in files_in(folder)}
        return {name: states[name] for name in sorted(states) if name.endswith(".json")}

    def _beside(self, version: str, checkpoint: Checkpoint) -> dict[str, str]:
        readers = {one.reader for one in checkpoint.patients.values()} - {NO_READER_USED}
        paths = [_reference_file(version), *(f"readers/{one}/{HASHES}" for one in sorted(readers))]
        return {path: _sha256(self._read(path)) for path in paths if self._is_file(path)}

    def _keep(self, target: str, checkpoint: Checkpoint) -> None:
        """Stores a checkpoint, its hashes last, unless it is there and undamaged."""
        if self._is_intact(target):
            return
        with tempfile.TemporaryDirectory() as directory:
            saved = Path(directory) / "checkpoint"
            checkpoint.save(saved)
            names = sorted(path.name for path in saved.iterdir())
            for name in sorted(names, key=lambda name: name == HASHES):
                self._write(f"{target}/{name}", (saved / name).read_bytes())

    def _is_intact(self, target: str) -> bool:
        if not self._is_file(f"{target}/{HASHES}"):
            return False
        try:
            listed = self._listed(target)
        except CheckpointError:
            return False
        return all(_sha256(self._read(f"{target}/{n}")) == digest for n, digest in listed.items())

    def _listed(self, source: str) -> dict[str, Any]:
        """Digests of the files of a checkpoint; raises CheckpointError as :func:`check_listed`."""
        with self._reachable("read"):
            present = files_in(self._place / source)
        return check_listed(f"{self.root}/{source}", self._read(f"{source}/{HASHES}"), present)

    def _load(
        self, source: str, form: Callable[..., Form], digest: str | None = None
    ) -> Checkpoint:
        listed = self._listed(source)  # before anything else is read: a strange file may be large
        with tempfile.TemporaryDirectory() as directory:
            for name in (*listed, HASHES):
                (Path(directory) / name).write_bytes(self._read(f"{source}/{name}"))
            try:
                return Checkpoint.load(directory, form, digest=digest)
            except CheckpointError as error:
                place = f"{self.root}/{source}"
                raise CheckpointError(str(error).replace(directory, place)) from None

    def _one(self, hospital: str, version: str) -> Entry:
        fitting = [e for e in self.entries(hospital) if version and e.version.startswith(version)]
        if len(fitting) != 1:
            known = ", ".join(e.version[:12] for e in self.entries(hospital)) or "none"
            which = "several models" if fitting else "no model"
            raise RegistryError(
                f"{self.root}: {which} of {hospital} begin with {version!r}; there are: {known}"
            )
        return fitting[0]

    def _decide(
        self,
        action: Action,
        hospital: str,
        version: str,
        *,
        beside: Mapping[str, str] | None = None,
    ) -> None:
        decision = self.standing().next(action, hospital, version, beside=beside)
        content = {**asdict(decision), "sha256": decision.digest}
        self._write(f"events/{decision.name}", json.dumps(content, indent=1).encode())

    def _write(self, path: str, content: bytes) -> None:
        with self._reachable("written"):
            write_whole(self._place / path, content)

    def _read(self, path: str) -> bytes:
        with self._reachable("read"):
            return (self._place / path).read_bytes()

    def _is_file(self, path: str) -> bool:
        with self._reachable("read"):
            return (self._place / path).is_file()

    @contextmanager
    def _reachable(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RegistryError(
                f"{self.root}: cannot be {what} ({error}); free space, give access, or choose "
                "another place"
            ) from None


def _state(path: Path) -> tuple[int, ...]:
    """Size of a file, and when its content and its status changed, ns; nothing if that fails."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _reference_file(version: str) -> str:
    # The folder keeps its original name, so that registries of earlier versions stay readable.
    return f"golden/{version}.arrow"


def _arrow_file(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
