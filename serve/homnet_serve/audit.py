"""The audit log: the caller, time, model and result of each request.

Each process writes a file of JSON lines. Each line holds the digest of the previous line, so that
changing, removing or inserting a line breaks the chain. The first line of a file holds the digests
of the last lines of all earlier files. A chain cannot reveal that its end was cut off; the digest
of each line is therefore also written to the structured log, which is stored elsewhere.

A line that cannot be written completely is removed, and the next line states how many were lost. A
process killed during a write leaves a partial line at the end, outside the chain.
"""

import contextlib
import hashlib
import json
import os
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from homnet.errors import DataError

_FIRST: Final = "0" * 64


class AuditLog:
    """An append-only file. Safe to use from several threads."""

    def __init__(self, directory: Path, *, sync: bool = True) -> None:
        """Creates a new file.

        Args:
            directory: directory of the audit log; created if it is missing.
            sync: whether each line is flushed to disk before :meth:`append` returns.

        Raises:
            DataError: the directory or the file cannot be written.
        """
        self._sync = sync
        self._lock = threading.Lock()
        self._previous = _FIRST
        self._number = 0
        self._size = 0
        """Size in bytes of the completely written lines."""
        self._lost = 0
        """Number of lines that failed to be written since the last success."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            last = {path.name: _lines(path)[0][-1:] for path in sorted(directory.glob("*.jsonl"))}
            started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
            self.path = directory / f"{started}-{uuid.uuid4().hex[:8]}.jsonl"
            self._file = os.open(
                self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600
            )
            heads = {name: _digest(line) for name, lines in last.items() for line in lines}
            self.append({"event": "opened", "heads": heads})
        except OSError as error:
            raise DataError(f"{directory}: no audit log can be written ({error})") from None

    def append(self, entry: Mapping[str, Any]) -> str:
        """Appends a line and returns its SHA-256 in hexadecimal.

        Raises:
            OSError: the line could not be written. The file is unchanged and remains usable.
        """
        with self._lock:
            content = {
                "number": self._number,
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "previous": self._previous,
                **({"lost": self._lost} if self._lost else {}),
                **entry,
            }
            line = json.dumps(content, sort_keys=True).encode()
            try:
                if self._lost:
                    # Truncate again: if truncation failed before, the fragment remains.
                    os.ftruncate(self._file, self._size)
                self._write(line + b"\n")
            except OSError:
                self._lost += 1
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._size)
                raise
            self._size += len(line) + 1
            self._lost = 0
            self._number += 1
            self._previous = _digest(line)
            return self._previous

    def _write(self, content: bytes) -> None:
        while content:
            content = content[os.write(self._file, content) :]
        if self._sync:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


@dataclass(frozen=True)
class AuditFile:
    """Result of checking one file with an intact chain."""

    num_lines: int
    """Number of lines in the chain."""
    num_lost: int
    """Number of lost lines, as stated by later lines; their requests were not answered."""
    is_cut_off: bool
    """Whether the file ends in a partial line: its process ended during a write."""


def verify_audit(directory: Path) -> dict[str, AuditFile]:
    """Checks every chain in a directory and returns the result by file name.

    Raises:
        DataError: a line was changed, removed or inserted, or a file is missing; says where.
    """
    files: dict[str, AuditFile] = {}
    digests: dict[str, set[str]] = {}
    heads: list[tuple[str, dict[str, str]]] = []
    for path in sorted(directory.glob("*.jsonl")):
        previous, lost = _FIRST, 0
        own = digests.setdefault(path.name, set())
        lines, rest = _lines(path)
        for number, line in enumerate(lines):
            try:
                entry = json.loads(line)
                right = entry["previous"] == previous and entry["number"] == number
                lost += entry.get("lost", 0)
            except (ValueError, KeyError, TypeError):
                right = False
            if not right:
                raise DataError(
                    f"{path}: line {number + 1} does not continue the chain: it, or the line "
                    "before it, was changed, removed or inserted"
                )
            if number == 0:
                heads.append((path.name, entry.get("heads", {})))
            previous = _digest(line)
            own.add(previous)
        files[path.name] = AuditFile(len(lines), lost, bool(rest))
    for name, named in heads:
        for other, digest in named.items():
            if digest not in digests.get(other, set()):
                raise DataError(
                    f"{directory / other}: the line whose digest {name} holds is missing; the file "
                    "was removed or cut off"
                )
    return files


def _lines(path: Path) -> tuple[list[bytes], bytes]:
    """Splits a file into its lines and the bytes after the last line feed."""
    *lines, rest = path.read_bytes().split(b"\n")
    return lines, rest


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
