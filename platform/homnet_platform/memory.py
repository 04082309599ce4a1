"""How much memory a job takes at most: over all of its processes, and in Ray's object store."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import ray

_INTERVAL_S: Final = 0.5
_PROC: Final = Path("/proc")


class _Peak:
    """Looks at a number of bytes twice a second while the body runs, and keeps the largest."""

    def __init__(self) -> None:
        self.peak_bytes: int | None = None
        """The largest that was seen; None where the system does not tell."""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            now = self._look()
            if now is None:
                return
            self.peak_bytes = max(self.peak_bytes or 0, now)
            if self._done.wait(_INTERVAL_S):
                return

    def _look(self) -> int | None:
        raise NotImplementedError


class PeakMemory(_Peak):
    """Watches this process and its descendants while the body runs.

    A Ray that the process started descends from it, with its workers and its object store; one that
    it joined does not. Memory that processes share is counted once (proportional set size), which
    only Linux tells.
    """

    def _look(self) -> int | None:
        told = (_PROC / "self" / "smaps_rollup").is_file()
        return tree_bytes(os.getpid()) if told else None


class PeakObjectStore(_Peak):
    """Watches the object stores of all nodes of the running Ray while the body runs."""

    def _look(self) -> int | None:
        name = "object_store_memory"
        # Nodes report what is left of this resource with every heartbeat.
        return int(ray.cluster_resources().get(name, 0) - ray.available_resources().get(name, 0))


def gib(num_bytes: int | None) -> float | None:
    """Bytes as GiB with two decimals, as results have them; None stays None."""
    return None if num_bytes is None else round(num_bytes / 2**30, 2)


def tree_bytes(root: int) -> int:
    """Proportional set size of a process and its descendants, bytes (Linux)."""
    total = 0
    for pid in descendants(root):
        for line in _read(_PROC / str(pid) / "smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += 1024 * int(line.split()[1])
    return total


def descendants(root: int) -> list[int]:
    """A process and all that descend from it (Linux)."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            # The name, in brackets, may hold spaces and brackets itself.
            fields = _read(entry / "stat").rpartition(")")[2].split()
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:  # grows while it is gone through
        found += children.get(pid, [])
    return found


def _read(path: Path) -> str:
    """The text, or nothing when the process has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""
