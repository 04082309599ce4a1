"""The audit log: the caller, time, model and result of each request.

A request that names a hospital for which its key is not has a line, too, without a patient.

Each process writes a log of JSON lines: a file of its own on a local disk, or, at the URI of an
object store, a folder with one object for each line. Each line ends with its own digest and holds
that of the previous line, so that changing, removing or inserting a line breaks the chain. The
first line holds the digests of the last lines of all earlier logs.

With a key the digests are HMACs: who has only the files cannot compute the chain anew. An anchor is
a place elsewhere that keeps the number of lines and the last digest of each log after each line: a
log that was removed, shortened or computed anew no longer fits it. The digest of each line is also
written to the structured log. Without an anchor nothing here reveals that the end was cut off.

A line that cannot be written completely is removed, and the next line states how many were
``lost``. A line whose digest cannot be anchored stays, and the next line states that it was
``withheld``. In both cases the request is not answered. A process killed during a write leaves a
partial line at the end, outside the chain.
"""

import contextlib
import hashlib
import hmac
import json
import os
import re
import threading
import uuid
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from homnet.errors import DataError
from homnet.files import make_folder, parse_json, write_whole
from homnet.files import sync as sync_to_disk
from homnet.locations import Location, RemotePath, files_in, to_location
from homnet_serve.errors import given_up
from homnet_serve.shares import Stopped

KEY_VARIABLE: Final = "HOMNET_AUDIT_KEY"
"""Environment variable with the key; used if no file is named."""
_FIRST: Final = "0" * 64
_TAIL_BYTES: Final = 2**16
"""Bytes at the end of a log that are read first; a line has some hundred."""
_ENDING: Final = re.compile(rb'(.*), "digest": "([0-9a-f]{64})"\}', re.DOTALL)
"""A line without its digest, and its digest. Lines of earlier versions have none."""


class AuditLog:
    """An append-only log. Safe to use from several threads."""

    def __init__(
        self,
        directory: str | Path,
        *,
        sync: bool = True,
        key: bytes | None = None,
        anchor: str | Path | None = None,
    ) -> None:
        """Starts a new log.

        Args:
            directory: directory or URI of the audit log; created if it is missing.
            sync: whether each line is flushed to the local disk before :meth:`append` returns.
            key: key of the digests, at least 16 bytes; None for digests without a key.
            anchor: directory or URI, on another disk or account, that keeps the newest digest of
                each log; None to keep none.

        Raises:
            DataError: the directory, the log or the anchor cannot be written.
        """
        self._lock = threading.Lock()
        self._key = key
        self._anchor = None if anchor is None else _place(anchor)
        self._previous = _FIRST
        self._number = 0
        self._lost = 0
        """Number of lines that failed to be written since the last success."""
        self._withheld = False
        """Whether the last line could not be anchored."""
        place = _place(directory)
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self.name = f"{started}-{uuid.uuid4().hex[:8]}.jsonl"
        """Name of the log in its directory."""
        try:
            last = {name: _last_line(place / parts[-1]) for name, parts in _logs(place)}
            heads = {name: _stored_digest(line) for name, line in last.items() if line is not None}
            self._lines = (
                _Objects(place, self.name)
                if isinstance(place, RemotePath)
                else _File(place / self.name, sync=sync)
            )
            kinds = {"keyed": key is not None, "anchored": anchor is not None}
            self.append({"event": "opened", "heads": heads, **kinds})
        except OSError as error:
            raise DataError(f"{directory}: no audit log can be written ({error})") from None

    def append(self, entry: Mapping[str, Any], stopped: Stopped | None = None) -> str:
        """Appends a line and returns its digest in hexadecimal.

        Args:
            entry: content of the line.
            stopped: whether its request was given up, and must not have the line; None if the line
                is written in any case.

        Raises:
            OSError: the line could not be written or anchored; nothing may be answered for it. The
                log remains usable.
            RequestError: 504, the request was given up.
        """
        with self._lock:
            # Only now: another line may have taken long.
            if stopped is not None and stopped():
                raise given_up()
            content = {
                "number": self._number,
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "previous": self._previous,
                **({"lost": self._lost} if self._lost else {}),
                **({"withheld": 1} if self._withheld else {}),
                **entry,
            }
            body = json.dumps(content, sort_keys=True).encode()[:-1]
            digest = _digest(body, self._key)
            try:
                self._lines.add(self._number, body + f', "digest": "{digest}"}}\n'.encode())
            except OSError:
                self._lost += 1
                raise
            self._lost = 0
            self._number += 1
            self._previous = digest
            if self._anchor is not None:
                self._withheld = True
                kept = {"lines": self._number, "digest": digest}
                write_whole(self._anchor / f"{self.name}.json", json.dumps(kept))
            self._withheld = False
            return digest

    def close(self) -> None:
        """Closes the log."""
        self._lines.close()


class _File:
    """Lines in a local file."""

    def __init__(self, path: Path, *, sync: bool) -> None:
        self._sync = sync
        self._size = 0
        """Size in bytes of the completely written lines."""
        make_folder(path.parent)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        sync_to_disk(path.parent)

    def add(self, number: int, line: bytes) -> None:
        try:
            if os.fstat(self._file).st_size != self._size:
                # Truncation failed when it was due: the fragment is still there.
                os.ftruncate(self._file, self._size)
            rest = line
            while rest:
                rest = rest[os.write(self._file, rest) :]
            if self._sync:
                # macOS has no fdatasync.
                getattr(os, "fdatasync", os.fsync)(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)

    def close(self) -> None:
        os.close(self._file)


class _Objects:
    """Lines at a URI that cannot append: one object each, which is stored whole or not at all.

    An object whose upload failed has the name of the next line, which would replace it if it
    remained.
    """

    def __init__(self, place: Location, name: str) -> None:
        self._place, self._name = place, name

    def add(self, number: int, line: bytes) -> None:
        place = self._place / self._name / f"{number:09d}"
        try:
            write_whole(place, line)
        except OSError:
            # It may have arrived all the same. A replica that starts would name its digest, which
            # no line has any more as soon as the next one replaces it.
            with contextlib.suppress(OSError):
                place.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class AuditFile:
    """Result of checking one log with an intact chain."""

    num_lines: int
    """Number of lines in the chain."""
    num_lost: int
    """Number of lost lines, as stated by later lines; their requests were not answered."""
    is_cut_off: bool
    """Whether the log ends in a partial line: its process ended during a write."""
    num_withheld: int = 0
    """Number of lines whose requests were not answered, since they could not be anchored."""


@dataclass(frozen=True)
class _Checked:
    """A chain that was followed."""

    file: AuditFile
    digests: list[str]
    """Digest of each line."""
    opening: Mapping[str, Any]
    """The first line; empty if there is none."""


def verify_audit(
    directory: str | Path, *, key: bytes | None = None, anchor: str | Path | None = None
) -> dict[str, AuditFile]:
    """Checks every chain in a directory and returns the result by name of the log.

    Args:
        directory: directory or URI of the audit log.
        key: key that the log was written with. Logs without a key then only pass if a log with the
            key names their last line.
        anchor: directory or URI of the anchor.

    Raises:
        DataError: a line was changed, removed or inserted, a log is missing, shortened or computed
            anew, or it cannot be read; one sentence for each of them says where.
    """
    place, problems = _place(directory), []
    checked: dict[str, _Checked] = {}
    try:
        # Before the logs: an endpoint that runs writes a line first, and then its anchor.
        anchors = {} if anchor is None else _anchors(_place(anchor))
        for name, parts in _logs(place):
            try:
                checked[name] = _follow(f"{directory}/{name}", *_read(place, parts), key)
            except DataError as error:
                problems.append(str(error))
        # A log that began since the anchors were read has one by now.
        begun = set() if anchor is None else _names_of_anchors(_place(anchor))
    except OSError as error:
        raise DataError(f"{directory}: the audit log cannot be read ({error})") from None
    unproven = {
        name
        for name, one in checked.items()
        # A log without a line is what a process left that could not begin.
        if key and one.digests and not one.opening.get("keyed")
    }
    for name, one in checked.items():
        for other, digest in one.opening.get("heads", {}).items():
            found = checked.get(other)
            if found is not None and digest in found.digests:
                if one.opening.get("keyed") and digest == found.digests[-1]:
                    unproven.discard(other)
            elif f"{directory}/{other}" not in "".join(problems):
                problems.append(
                    f"{directory}/{other}: the line whose digest {name} holds is missing; the log "
                    "was removed or cut off"
                )
    for name in sorted(unproven):
        problems.append(
            f"{directory}/{name}: was not written with the key, and no log with the key names its "
            "last line; it can have been computed anew"
        )
    if anchor is not None:
        problems += _against(anchors, begun, checked, str(directory))
    if problems:
        raise DataError("\n".join(problems))
    return {name: one.file for name, one in checked.items()}


def _against(
    anchors: Mapping[str, tuple[int, str]],
    begun: Set[str],
    checked: Mapping[str, _Checked],
    directory: str,
) -> list[str]:
    """What does not fit the anchor, in sentences; ``begun`` are logs that have an anchor by now."""
    problems = []
    for name, (num_lines, digest) in anchors.items():
        if name not in checked:
            problems.append(
                f"{directory}/{name}: was removed or damaged; the anchor knows {num_lines} lines"
            )
        elif len(found := checked[name].digests) < num_lines:
            problems.append(
                f"{directory}/{name}: was shortened to {len(found)} lines; the anchor knows "
                f"{num_lines}"
            )
        elif found[num_lines - 1] != digest:
            problems.append(
                f"{directory}/{name}: was computed anew; line {num_lines} has another digest than "
                "the anchor"
            )
    for name, one in checked.items():
        # A replica that could not anchor its first line did not start, and answered nothing.
        is_needed = one.opening.get("anchored") and len(one.digests) > 1
        if is_needed and name not in anchors and name not in begun:
            problems.append(f"{directory}/{name}: its anchor is missing; restore the anchor")
    return problems


def _place(where: str | Path) -> Location:
    """Where a log or its anchors are, whatever the working directory becomes."""
    return to_location(where, error=DataError).resolve()


def _anchors(place: Location) -> dict[str, tuple[int, str]]:
    """Number of lines and last digest by name of the log."""
    found = {}
    for name in files_in(place):
        content = parse_json(
            (place / name).read_bytes(), f"anchor {name}", advice="restore it from a copy"
        )
        lines, digest = content.get("lines"), content.get("digest")
        if type(lines) is not int or lines < 1 or not isinstance(digest, str):
            raise DataError(f"anchor {name}: is damaged; restore it from a copy")
        found[name.removesuffix(".json")] = (lines, digest)
    return found


def _names_of_anchors(place: Location) -> set[str]:
    """Names of the logs that have an anchor."""
    return {name.removesuffix(".json") for name in files_in(place)}


def _follow(where: str, lines: list[bytes], rest: bytes, key: bytes | None) -> _Checked:
    """Follows a chain; raises DataError where it breaks."""
    previous, lost, withheld, opening = _FIRST, 0, 0, {}
    digests = []
    for number, line in enumerate(lines):
        entry = _entry(line)
        if entry is None or (entry["previous"], entry["number"]) != (previous, number):
            raise DataError(
                f"{where}: line {number + 1} does not continue the chain: it, or the line before "
                "it, was changed, removed or inserted"
            )
        if number == 0:
            opening = entry
        if opening.get("keyed") and key is None:
            raise DataError(f"{where}: was written with a key; give the key to verify it")
        ending = _ENDING.fullmatch(line)
        previous = _digest(ending[1], key if opening.get("keyed") else None) if ending else ""
        if ending is None and "keyed" not in opening:
            previous = _digest(line, None)  # of an earlier version: the line has no digest
        elif ending is None or not hmac.compare_digest(ending[2].decode(), previous):
            raise DataError(
                f"{where}: the digest of line {number + 1} is wrong: the line was changed, or "
                "written with another key"
            )
        lost += entry["lost"]
        withheld += entry["withheld"]
        digests.append(previous)
    return _Checked(AuditFile(len(lines), lost, bool(rest), withheld), digests, opening)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Content of a line with counts of lost and withheld lines; None if it is malformed."""
    try:
        entry = {"lost": 0, "withheld": 0, "heads": {}, **parse_json(line, "line")}
    except DataError:
        return None
    wholes = ("number", "lost", "withheld")
    well_formed = (
        all(type(entry.get(name)) is int for name in wholes)
        and isinstance(entry.get("previous"), str)
        and isinstance(entry["heads"], dict)
    )
    return entry if well_formed else None


def _logs(place: Location) -> list[tuple[str, list[str]]]:
    """Names of the logs, and the paths of their parts in order: the file itself, or its objects."""
    found: dict[str, list[str]] = {}
    for path in files_in(place, recursive=True):
        name = path.partition("/")[0]
        if name.endswith(".jsonl"):
            found.setdefault(name, []).append(path)
    return list(found.items())


def _read(place: Location, parts: list[str]) -> tuple[list[bytes], bytes]:
    """Splits a log into its lines and the bytes after the last line feed."""
    *lines, rest = b"".join((place / path).read_bytes() for path in parts).split(b"\n")
    return lines, rest


def _last_line(path: Location) -> bytes | None:
    """The last whole line of a file, which is read from its end; None if there is none."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        length = _TAIL_BYTES
        while True:
            start = max(size - length, 0)
            file.seek(start)
            lines = file.read(size - start).split(b"\n")[:-1]
            if start:
                lines = lines[1:]  # the first may have begun before
            if lines or not start:
                return lines[-1] if lines else None
            length *= 8


def _digest(content: bytes, key: bytes | None) -> str:
    if key is None:
        return hashlib.sha256(content).hexdigest()
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def _stored_digest(line: bytes) -> str:
    """The digest that a line holds; of a line of an earlier version, its SHA-256."""
    ending = _ENDING.fullmatch(line)
    return ending[2].decode() if ending else _digest(line, None)
