"""Processes of this machine, as Linux shows them: who descends from whom, who holds what memory.

Memory that processes share is counted once: each has its proportional part (PSS).
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


def tree_bytes(root: int) -> int:
    """Proportional set size of a process and its descendants, bytes."""
    return held_bytes(descendants(root))


def held_bytes(pids: Iterable[int]) -> int:
    """Proportional set size of processes, bytes; those that have ended hold nothing."""
    total = 0
    for pid in pids:
        for line in _read(PROC / str(pid) / "smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += 1024 * int(line.split()[1])
    return total


def descendants(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in _entries(PROC):
        if entry.name.isdigit():
            # The name, in brackets, may hold spaces and brackets itself.
            fields = _read(entry / "stat").rpartition(")")[2].split()
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:  # grows while it is gone through
        found += children.get(pid, [])
    return found


def command_of(pid: int) -> str:
    """The command line of a process, as it shows itself; empty when it has ended."""
    return _read(PROC / str(pid) / "cmdline").replace("\0", " ").strip()


def num_connections(pid: int, port: int) -> int:
    """Established TCP connections over IPv4 that a process holds at a port of its own."""
    held = set()
    for entry in _entries(PROC / str(pid) / "fd"):
        # Closed meanwhile, some are gone.
        with contextlib.suppress(OSError):
            held.add(str(entry.readlink()))
    return sum(
        fields[1].endswith(f":{port:04X}") and fields[3] == "01" and f"socket:[{fields[9]}]" in held
        for fields in map(str.split, _read(PROC / str(pid) / "net" / "tcp").splitlines()[1:])
    )


def _entries(path: Path) -> list[Path]:
    """What is in a directory, or nothing when the process has ended."""
    try:
        return list(path.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    """The text, or nothing when the process has ended."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
