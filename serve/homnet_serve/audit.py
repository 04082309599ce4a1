"""The audit log: who asked what when, which model answered, and with which result.

One file of JSON lines per process, each line with the digest of the line before it, so that a line
cannot be changed, removed or put in without breaking the chain. The first line of a file names the
last lines of the files that were there before. What a chain cannot show is that its very end was
cut off; the digest of each line is therefore also in the structured log, which is kept elsewhere.
"""

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from homnet.errors import DataError

_FIRST: Final = "0" * 64


class AuditLog:
    """A file that only grows."""

    def __init__(self, directory: Path, *, sync: bool = True) -> None:
        """Begins a new file.

        Args:
            directory: where audit logs are; it is made.
            sync: whether a line counts as written only when the disk has it.

        Raises:
            DataError: the place cannot be written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
            last = {path.name: _last_line(path) for path in sorted(directory.glob("*.jsonl"))}
            started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
            self.path = directory / f"{started}-{uuid.uuid4().hex[:8]}.jsonl"
            self._file = os.open(
                self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600
            )
        except OSError as error:
            raise DataError(f"{directory}: no audit log can be written ({error})") from None
        self._sync = sync
        self._lock = threading.Lock()
        self._previous = _FIRST
        self._number = 0
        heads = {name: _digest(line) for name, line in last.items() if line}
        self.append({"event": "opened", "heads": heads})

    def append(self, entry: Mapping[str, Any]) -> str:
        """Adds a line, and gives its digest.

        Raises:
            OSError: it could not be written.
        """
        with self._lock:
            line = json.dumps(
                {
                    "number": self._number,
                    "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                    "previous": self._previous,
                    **entry,
                },
                sort_keys=True,
            ).encode()
            content = line + b"\n"
            if os.write(self._file, content) != len(content):
                raise OSError("the audit log could not be written whole")
            if self._sync:
                os.fdatasync(self._file)
            self._number += 1
            self._previous = _digest(line)
            return self._previous

    def close(self) -> None:
        """Ends the file."""
        os.close(self._file)


def verify_audit(directory: Path) -> dict[str, int]:
    """Checks every chain of a directory; gives the lines of each file.

    Raises:
        DataError: a line was changed, removed or put in, or a file is missing; it says where.
    """
    digests: dict[str, list[str]] = {}
    heads: list[tuple[str, dict[str, str]]] = []
    for path in sorted(directory.glob("*.jsonl")):
        previous = _FIRST
        own = digests.setdefault(path.name, [])
        for number, line in enumerate(path.read_bytes().splitlines()):
            try:
                entry = json.loads(line)
                right = entry["previous"] == previous and entry["number"] == number
            except (ValueError, KeyError, TypeError):
                right = False
            if not right:
                raise DataError(
                    f"{path}: line {number + 1} does not continue the chain: it, or the one before "
                    "it, was changed, removed or put in"
                )
            if number == 0:
                heads.append((path.name, entry.get("heads", {})))
            previous = _digest(line)
            own.append(previous)
    for name, named in heads:
        for other, digest in named.items():
            if digest not in digests.get(other, []):
                raise DataError(
                    f"{directory / other}: the line that {name} names is not there; the file was "
                    "removed or cut off"
                )
    return {name: len(lines) for name, lines in digests.items()}


def _last_line(path: Path) -> bytes:
    lines = path.read_bytes().splitlines()
    return lines[-1] if lines else b""


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
