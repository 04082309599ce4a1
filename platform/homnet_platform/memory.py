"""Peak memory of a job: over all its processes, and in Ray's object store."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

import ray

from homnet.processes import PROC, tree_bytes

_INTERVAL_S: Final = 0.5
_PAUSE: Final = 50.0
"""Least time between two looks, as a multiple of what one takes: memory is counted page by page,
and the process that owns the pages waits meanwhile."""


@dataclass
class Peak:
    """Maximum of a number that is looked at twice a second, or less often if a look takes long."""

    peak_bytes: int | None = None
    """Maximum seen; None if the system does not report it."""


@contextmanager
def _watching(look: Callable[[], int | None]) -> Iterator[Peak]:
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while True:
            begun = time.perf_counter()
            now = look()
            if now is None:
                return
            peak.peak_bytes = max(peak.peak_bytes or 0, now)
            if done.wait(max(_INTERVAL_S, _PAUSE * (time.perf_counter() - begun))):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def peak_memory() -> AbstractContextManager[Peak]:
    """Measures this process and its descendants while the body runs.

    This includes the workers and object store of a Ray that the process started, but not of one
    that it joined. Shared memory is counted once (proportional set size, Linux only).
    """
    told = (PROC / "self" / "smaps_rollup").is_file()
    return _watching(lambda: tree_bytes(os.getpid()) if told else None)


def peak_object_store() -> AbstractContextManager[Peak]:
    """Measures the object stores of all nodes of the running Ray while the body runs."""
    name = "object_store_memory"
    # Nodes report the remaining amount of this resource with every heartbeat.
    return _watching(
        lambda: int(ray.cluster_resources().get(name, 0) - ray.available_resources().get(name, 0))
    )


def gib(num_bytes: int | None) -> float | None:
    """Converts bytes to GiB, rounded to two decimals; None stays None."""
    return None if num_bytes is None else round(num_bytes / 2**30, 2)
