"""Process trees, memory and connections from Linux's ``/proc``, and free ports.

Memory is the proportional set size (PSS), which counts shared memory once.
"""

import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")


def tree_bytes(root: int) -> int:
    """Proportional set size of a process and its descendants, in bytes."""
    return held_bytes(descendants(root))


def held_bytes(pids: Iterable[int]) -> int:
    """Proportional set size of processes, in bytes; those that have ended count as 0."""
    total = 0
    for pid in pids:
        for line in _read(PROC / str(pid) / "smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += 1024 * int(line.split()[1])
    return total


def descendants(root: int) -> list[int]:
    """Process ids of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in _entries(PROC):
        if entry.name.isdigit():
            # The name, in brackets, may itself contain spaces and brackets.
            fields = _read(entry / "stat").rpartition(")")[2].split()
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:  # grows during iteration
        found += children.get(pid, [])
    return found


def command_of(pid: int) -> str:
    """The command line of a process; empty if it has ended."""
    return _read(PROC / str(pid) / "cmdline").replace("\0", " ").strip()


def num_connections(pid: int, port: int) -> int:
    """Number of established IPv4 TCP connections of a process on a local port."""
    held = set()
    for entry in _entries(PROC / str(pid) / "fd"):
        # A descriptor may have been closed since it was listed.
        with contextlib.suppress(OSError):
            held.add(str(entry.readlink()))
    return sum(
        fields[1].endswith(f":{port:04X}") and fields[3] == "01" and f"socket:[{fields[9]}]" in held
        for fields in map(str.split, _read(PROC / str(pid) / "net" / "tcp").splitlines()[1:])
    )


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _entries(path: Path) -> list[Path]:
    """The entries of a directory; none if the process has ended."""
    try:
        return list(path.iterdir())
    except OSError:
        return []


def _read(path: Path) -> str:
    """The text; empty if the process has ended."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
