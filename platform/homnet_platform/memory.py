"""Peak memory of a job: over all its processes, and in Ray's object store."""

import os
import threading
from types import TracebackType
from typing import Final, Self

import ray

from homnet.processes import PROC, tree_bytes

_INTERVAL_S: Final = 0.5


class _Peak:
    """Samples a number of bytes twice a second while the body runs, and keeps the maximum."""

    def __init__(self) -> None:
        self.peak_bytes: int | None = None
        """Maximum seen; None if the system does not report it."""
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
    """Measures this process and its descendants while the body runs.

    This includes the workers and object store of a Ray that the process started, but not of one
    that it joined. Shared memory is counted once (proportional set size, Linux only).
    """

    def _look(self) -> int | None:
        told = (PROC / "self" / "smaps_rollup").is_file()
        return tree_bytes(os.getpid()) if told else None


class PeakObjectStore(_Peak):
    """Measures the object stores of all nodes of the running Ray while the body runs."""

    def _look(self) -> int | None:
        name = "object_store_memory"
        # Nodes report the remaining amount of this resource with every heartbeat.
        return int(ray.cluster_resources().get(name, 0) - ray.available_resources().get(name, 0))


def gib(num_bytes: int | None) -> float | None:
    """Converts bytes to GiB, rounded to two decimals; None stays None."""
    return None if num_bytes is None else round(num_bytes / 2**30, 2)
