"""Batches the bags of waiting requests into forward passes.

Ray's ``@serve.batch`` always waits for its timeout, moves requests that do not fit behind later
ones, refuses requests larger than a batch, and computes cancelled requests. This queue does none of
that, and can be tested without Ray.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from homnet.bags.assessment import FlatBags
from homnet.model.predictor import Evidence, Predictor, score_bags
from homnet_serve.errors import RequestError
from homnet_serve.metrics import Metrics

Score = Callable[
    [Sequence[Predictor], FlatBags, "np.ndarray[tuple[int], np.dtype[np.int64]]"], Evidence
]


@dataclass(eq=False)
class _Waiting:
    """A queued request and its progress."""

    bags: FlatBags
    predictor_B: Sequence[Predictor]
    answer: "asyncio.Future[Evidence]"
    taken: int = 0
    parts: list[Evidence] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.bags) - self.taken


@dataclass(frozen=True)
class _Slice:
    request: _Waiting
    start: int
    stop: int


class BatchQueue:
    """A queue of bags for one scoring thread."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        max_bags: int,
        max_waiting_bags: int,
        wait_s: float,
        score: Score = score_bags,
    ) -> None:
        """Sets up a queue; :meth:`run` processes it.

        Args:
            metrics: metrics to update.
            max_bags: maximum number of bags per pass.
            max_waiting_bags: maximum number of waiting bags; more are refused with 503.
            wait_s: longest time that a pass waits for requests being read.
            score: scores bags, each by its own model.
        """
        self._metrics = metrics
        self._max_bags = max_bags
        self._max_waiting_bags = max_waiting_bags
        self._wait_s = wait_s
        self._score = score
        self._queue: deque[_Waiting] = deque()
        self._changed = asyncio.Event()
        self._waiting_bags = 0
        self._arriving = 0
        self._seconds_per_bag = 0.002
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="homnet-score")

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Wraps the reading of a request, so that the next pass can wait for it."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
            self._changed.set()

    def admit(self, num_bags: int = 1) -> None:
        """Refuses a request if the queue is full.

        Raises:
            RequestError: 503, with the seconds until there should be room.
        """
        if self._waiting_bags and self._waiting_bags + num_bags > self._max_waiting_bags:
            seconds = math.ceil(self._waiting_bags * self._seconds_per_bag)
            raise RequestError(
                503,
                "busy",
                "too many requests are waiting; try again later",
                retry_after_s=min(max(seconds, 1), 60),
            )

    async def submit(self, bags: FlatBags, predictor_B: Sequence[Predictor]) -> Evidence:
        """Scores bags together with those of other requests.

        Cancelling the caller removes bags from the queue that are not being scored yet.

        Raises:
            RequestError: as :meth:`admit`.
        """
        self.admit(len(bags))
        request = _Waiting(bags, predictor_B, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._count(len(bags))
        self._changed.set()
        return await request.answer

    async def run(self) -> None:
        """Processes the queue until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._gather()
            begin_s = time.perf_counter()
            try:
                evidence = await loop.run_in_executor(self._thread, self._pass, batch)
            except Exception as error:  # reported to the requests of this pass; others continue
                for part in batch:
                    if not part.request.answer.done():
                        part.request.answer.set_exception(error)
                continue
            seconds = time.perf_counter() - begin_s
            num_bags = sum(part.stop - part.start for part in batch)
            self._metrics.batch_bags.observe(num_bags)
            self._metrics.batch_seconds.observe(seconds)
            self._seconds_per_bag += 0.1 * (seconds / num_bags - self._seconds_per_bag)
            for part, own in zip(batch, evidence, strict=True):
                _deliver(part, own)

    def close(self) -> None:
        """Stops the thread after the current pass."""
        self._thread.shutdown()

    async def _gather(self) -> list[_Slice]:
        """The next pass: slices of the waiting requests, in order of arrival."""
        while not self._skip_done():
            self._changed.clear()
            await self._changed.wait()
        deadline = time.monotonic() + self._wait_s
        while self._arriving and self._waiting_bags < self._max_bags:
            self._changed.clear()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._changed.wait()
            except TimeoutError:
                break
        batch: list[_Slice] = []
        room = self._max_bags
        while room and self._skip_done():
            request = self._queue.popleft()
            number = min(room, request.left)
            batch.append(_Slice(request, request.taken, request.taken + number))
            request.taken += number
            room -= number
            self._count(-number)
            if request.left:
                # A large request goes to the back of the queue after each slice.
                self._queue.append(request)
        return batch or await self._gather()

    def _skip_done(self) -> bool:
        """Drops cancelled requests; returns whether any is left."""
        while self._queue and self._queue[0].answer.done():
            self._count(-self._queue.popleft().left)
        return bool(self._queue)

    def _pass(self, batch: Sequence[_Slice]) -> list[Evidence]:
        """Scores the slices of several requests in one pass, in the thread."""
        asked_B = [
            one for part in batch for one in part.request.predictor_B[part.start : part.stop]
        ]
        predictors = list(dict.fromkeys(asked_B))
        number = {predictor: index for index, predictor in enumerate(predictors)}
        bags = FlatBags.concatenate(
            [part.request.bags.part(part.start, part.stop) for part in batch]
        )
        predictor_B = np.array([number[one] for one in asked_B], np.int64)
        evidence = self._score(predictors, bags, predictor_B)
        parts, bag, pair = [], 0, 0
        for part in batch:
            next_bag = bag + part.stop - part.start
            next_pair = pair + int(bags.size_B[bag:next_bag].sum())
            parts.append(
                Evidence(
                    evidence.logit_B[bag:next_bag],
                    evidence.weight_N[pair:next_pair],
                    evidence.added_N[pair:next_pair],
                )
            )
            bag, pair = next_bag, next_pair
        return parts

    def _count(self, change: int) -> None:
        self._waiting_bags += change
        self._metrics.waiting_bags.set(self._waiting_bags)


def _deliver(part: _Slice, evidence: Evidence) -> None:
    request = part.request
    request.parts.append(evidence)
    if request.answer.done() or sum(len(e.logit_B) for e in request.parts) < len(request.bags):
        return
    request.answer.set_result(
        Evidence(
            np.concatenate([part.logit_B for part in request.parts]),
            np.concatenate([part.weight_N for part in request.parts]),
            np.concatenate([part.added_N for part in request.parts]),
        )
    )
