"""Processes of this machine, as Linux shows them: who descends from whom, who holds what memory.

Memory that processes share is counted once: each has its proportional part (PSS).
"""

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
    for entry in PROC.iterdir():
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


def _read(path: Path) -> str:
    """The text, or nothing when the process has ended."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
