"""Passes through Ray's ``@serve.batch``, for comparison with our queue in a load test."""

import asyncio
from collections.abc import Mapping
from typing import Any, TypeVar

from ray import serve

from homnet_serve.batching import BatchQueue, Work
from homnet_serve.deployment import Replica

W = TypeVar("W", bound=Work)
R = TypeVar("R")


class RayBatches(BatchQueue[W, R]):
    """Same bounds, passes and thread; Ray forms the passes, and keys do not take turns.

    A request larger than a pass is cut, because Ray refuses it. Its parts are awaited one after
    another, so that small requests can pass it.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)

        async def one_pass(works: list[W]) -> list[R]:
            loop = asyncio.get_running_loop()
            return list(await loop.run_in_executor(self._thread, self._process, works))

        self._batched = serve.batch(
            max_batch_size=self._max_items,
            batch_wait_timeout_s=self._wait_s,
            batch_size_fn=lambda works: sum(map(len, works)),
        )(one_pass)

    async def submit(self, work: W, key: str = "") -> R:
        """As :meth:`BatchQueue.submit`."""
        self._waiting.take(key, len(work), retry_after_s=self._seconds_until_empty())
        try:
            starts = range(0, len(work), self._max_items)
            ends = [min(start + self._max_items, len(work)) for start in starts]
            parts = zip(starts, ends, strict=True)
            return self._join([await self._batched(work.part(*part)) for part in parts])
        finally:
            self._waiting.give_back(key, len(work))

    async def run(self) -> None:
        """Does nothing: Ray runs the passes."""
        await asyncio.Event().wait()


class RayBatchedReplica(Replica):
    """A replica with these queues."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings, RayBatches)
