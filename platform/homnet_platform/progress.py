"""Progress of remote work: workers send messages, the driver draws a bar."""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Literal

import ray
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from tqdm import tqdm

_Step = Literal["advance", "reach", "begin"]
_PAUSE_S: Final = 0.2
"""Shortest time between two messages of :meth:`Progress.reach` that say nothing but a number: a GPU
takes hundreds of steps a second, and each message is a call to another process."""


class Progress:
    """A worker's handle on the bar; can be sent to any process of the cluster."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._said_at = -_PAUSE_S

    def advance(self, amount: int, **state: Any) -> None:
        """Reports ``amount`` more units as done; ``state`` is shown beside the bar."""
        self._put(("advance", amount, state))

    def reach(self, total: int, **state: Any) -> None:
        """Sets the number of units done; soon after another call it may be passed over."""
        now = time.monotonic()
        if not state and now - self._said_at < _PAUSE_S:
            return
        self._said_at = now
        self._put(("reach", total, state))

    def begin(self, total: int, **state: Any) -> None:
        """Says that work begins, or goes on, with so many units done; fewer if work was lost."""
        self._put(("begin", total, state))

    def _put(self, message: tuple[_Step, int, Mapping[str, Any]]) -> None:
        # The result is not awaited: work must neither wait for the bar nor fail with it.
        actor: Any = self._queue.actor
        actor.put_nowait.remote(message)


def driver_bar(total: int, desc: str, unit: str, **options: Any) -> "tqdm[Any]":
    """A bar on standard error: a terminal shows it moving, a log file a line every ten seconds."""
    interval_s = 0.5 if sys.stderr.isatty() else 10.0
    options |= {"mininterval": interval_s, "maxinterval": interval_s}
    return tqdm(total=total, desc=desc, unit=unit, **options)


@contextmanager
def progress_bar(title: str, total: int, unit: str) -> Iterator[Progress]:
    """Draws one bar on the driver's standard error while the body runs."""
    # The queue runs on the driver's node, because a worker's node can be lost.
    here = ray.get_runtime_context().get_node_id()
    queue = Queue(
        actor_options={
            "num_cpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(here, soft=False),
        }
    )
    # Messages to an actor that is still starting may overtake each other.
    queue.size()
    done = threading.Event()
    with driver_bar(total, title, unit) as bar:
        reader = threading.Thread(target=_draw, args=(queue, bar, done), daemon=True)
        reader.start()
        try:
            yield Progress(queue)
        finally:
            done.set()
            reader.join()
            queue.shutdown(force=True)


def _draw(queue: Queue, bar: "tqdm[Any]", done: threading.Event) -> None:
    state: dict[str, Any] = {}
    while True:
        try:
            step, amount, news = queue.get(timeout=0.2)
        except Empty:
            if done.is_set():
                return
            continue
        state |= news
        bar.set_postfix_str(_describe(state), refresh=False)
        if step == "begin" and bar.n:
            # The last message of a worker that died may be missing.
            repeated = max(0, bar.n - amount)
            bar.write(f"{bar.desc}: goes on from {amount:,}; {repeated:,} are repeated")
        elif step == "begin" and amount:
            bar.write(f"{bar.desc}: goes on from {amount:,}")
        bar.update(amount if step == "advance" else amount - bar.n)


def _describe(state: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in state.items()
    )
