"""The audit log: who asked what when, which model answered, and with which result.

Each process writes a file of JSON lines. Each line holds the digest of the line before it, so that
changing, removing or inserting a line breaks the chain. The first line of a file holds the digests
of the last lines of the files that existed before. A chain cannot show that its very end was cut
off; the digest of each line is therefore also in the structured log, which is kept elsewhere.

A line that cannot be written whole is cut off again, and the next line says how many were lost. A
process that is killed while it writes leaves the beginning of a line at the end of its file, which
is no part of the chain.
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
    """A file that only grows. Usable from several threads."""

    def __init__(self, directory: Path, *, sync: bool = True) -> None:
        """Begins a new file.

        Args:
            directory: directory of the audit log; created if it is missing.
            sync: whether each line is forced to the disk before :meth:`append` returns.

        Raises:
            DataError: the directory or the file cannot be written.
        """
        self._sync = sync
        self._lock = threading.Lock()
        self._previous = _FIRST
        self._number = 0
        self._size = 0
        """Bytes of the lines that were written whole."""
        self._lost = 0
        """Lines that could not be written since the last one that was."""
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
        """Adds a line and returns its SHA-256 in hexadecimal.

        Raises:
            OSError: the line could not be written. The file is as before, and can be added to.
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
                    # Again: where cutting off failed too, the fragment is still there.
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
        """Ends the file."""
        os.close(self._file)


@dataclass(frozen=True)
class AuditFile:
    """What a check found in one file whose chain is whole."""

    num_lines: int
    """Lines of the chain."""
    num_lost: int
    """Lines that could not be written, as later lines say; their requests were not answered."""
    is_cut_off: bool
    """Whether the file ends in the beginning of a line: its process ended while it wrote."""


def verify_audit(directory: Path) -> dict[str, AuditFile]:
    """Checks every chain in a directory; returns what each file holds, by the file's name.

    Raises:
        DataError: a line was changed, removed or inserted, or a file is missing; it says where.
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
    """The lines of a file, and what follows the last line feed."""
    *lines, rest = path.read_bytes().split(b"\n")
    return lines, rest


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
