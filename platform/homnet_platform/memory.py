"""How much memory a job takes at most: over all of its processes, and in Ray's object store."""

import os
import threading
from types import TracebackType
from typing import Final, Self

import ray

from homnet.processes import PROC, tree_bytes

_INTERVAL_S: Final = 0.5


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
        told = (PROC / "self" / "smaps_rollup").is_file()
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
