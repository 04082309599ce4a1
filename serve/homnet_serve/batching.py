"""Batches the work of waiting requests into passes of a model or a reader.

Ray's ``@serve.batch`` could do this too: with ``batch_size_fn`` it counts bags, it does not compute
what was cancelled, and with ``batch_wait_timeout_s=0`` a lone request does not wait. Measured in
turns on quiet CPUs, it is as fast without a timeout; with one of 10 ms this queue answers 1.2 times
as many of 32 clients (results/load-queues.json). What it lacks is why this queue stays: it refuses
requests larger than a batch, puts what does not fit behind later requests, and gives keys no turns.

A request passes two queues that share one thread: bags to score in the first, types to read in the
second.
"""

import asyncio
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, Self, TypeVar

import numpy as np

from homnet.bags.assessment import Assessment, FlatBags
from homnet.errors import HomNetError
from homnet.model.predictor import Evidence, Predictor, score_bags
from homnet.patients.finding import Finding, FindingReader
from homnet_serve.errors import RequestError
from homnet_serve.logs import fault_of
from homnet_serve.metrics import Metrics
from homnet_serve.shares import Shares

_LOG: Final = logging.getLogger(__name__)
_MOST_FAILED: Final = 3
"""Passes that fail one after the other until this process counts as broken. After some errors of a
GPU each further use of it fails, until the process ends."""


class Work(Protocol):
    """What a request wants done: items that can be done in several passes, in order."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> Self:
        """Items ``start`` to ``stop - 1``."""
        ...


W = TypeVar("W", bound=Work)
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class ScoreWork:
    """Bags to be scored, each by its own model."""

    bags: FlatBags
    """The bags, B."""
    predictor_B: Sequence[Predictor]
    """The model of each bag."""

    def __len__(self) -> int:
        return len(self.bags)

    def part(self, start: int, stop: int) -> "ScoreWork":
        """Bags ``start`` to ``stop - 1``."""
        return ScoreWork(self.bags.part(start, stop), self.predictor_B[start:stop])


@dataclass(frozen=True, eq=False)
class ReadWork:
    """Types to be read, each by its own reader."""

    assessment: Assessment
    """Only the types to be read, G."""
    reader_G: Sequence[FindingReader]
    """The reader of each type."""

    def __len__(self) -> int:
        return len(self.reader_G)

    def part(self, start: int, stop: int) -> "ReadWork":
        """Types ``start`` to ``stop - 1``."""
        if (start, stop) == (0, len(self)):
            return self
        return ReadWork(self.assessment.only(range(start, stop)), self.reader_G[start:stop])


def score(works: Sequence[ScoreWork]) -> list[Evidence]:
    """Scores the bags of several requests in one pass."""
    asked_B = [one for work in works for one in work.predictor_B]
    predictors = list(dict.fromkeys(asked_B))
    number = {predictor: index for index, predictor in enumerate(predictors)}
    bags = FlatBags.concatenate([work.bags for work in works])
    evidence = score_bags(predictors, bags, np.array([number[one] for one in asked_B], np.int64))
    parts, bag, pair = [], 0, 0
    for work in works:
        next_bag = bag + len(work)
        next_pair = pair + int(work.bags.size_B.sum())
        parts.append(evidence.part(slice(bag, next_bag), slice(pair, next_pair)))
        bag, pair = next_bag, next_pair
    return parts


def read(works: Sequence[ReadWork]) -> list[list[Finding]]:
    """Reads the types of several requests, those of one reader in one pass."""
    asked_G = [one for work in works for one in work.reader_G]
    together = Assessment.concatenate([work.assessment for work in works])
    found: dict[int, Finding] = {}
    for reader in dict.fromkeys(asked_G):
        own_G = [g for g, one in enumerate(asked_G) if one is reader]
        findings = reader(together.only(own_G))
        found |= dict(zip(own_G, findings, strict=True))
    at = itertools.accumulate(map(len, works), initial=0)
    return [[found[g] for g in range(*ends)] for ends in itertools.pairwise(at)]


def chained(parts: Sequence[list[Finding]]) -> list[Finding]:
    """The findings of all parts, in order."""
    return [one for part in parts for one in part]


@dataclass(eq=False)
class _Waiting(Generic[W, R]):
    """A queued request and its progress."""

    key: str
    work: W
    answer: "asyncio.Future[R]"
    taken: int = 0
    parts: list[R] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.work) - self.taken


class BatchQueue(Generic[W, R]):
    """A queue of work for one thread."""

    def __init__(
        self,
        metrics: Metrics,
        process: Callable[[Sequence[W]], Sequence[R]],
        join: Callable[[Sequence[R]], R],
        *,
        step: str,
        thread: ThreadPoolExecutor,
        max_items: int,
        waiting: Shares,
        wait_s: float,
    ) -> None:
        """Sets up a queue; :meth:`run` processes it.

        Args:
            metrics: metrics to update.
            process: does a pass: one result for each part of a request, in order.
            join: joins the results of a request's parts.
            step: name in the metrics.
            thread: where passes run; queues may share it.
            max_items: maximum number of items per pass.
            waiting: bounds on the waiting items.
            wait_s: longest time that a pass waits for requests being read.
        """
        self._process, self._join = process, join
        self._metrics, self._tags = metrics, {"step": step}
        self._max_items = max_items
        self._waiting = waiting
        self._wait_s = wait_s
        # By key; the key whose turn it is comes first, and goes to the back after it.
        self._queues: dict[str, deque[_Waiting[W, R]]] = {}
        self._changed = asyncio.Event()
        self._arriving = 0
        self._seconds_per_item = 0.002
        """An estimate, which follows what is measured."""
        self._thread = thread
        self._num_failed = 0
        """Number of passes that failed since the last one that succeeded."""

    @property
    def is_failing(self) -> bool:
        """Whether the last passes all failed, and by no fault of their requests."""
        return self._num_failed >= _MOST_FAILED

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Wraps the reading of a request, so that the next pass can wait for it."""
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1
            self._changed.set()

    def admit(self, key: str) -> None:
        """Refuses a request if it may not wait.

        Raises:
            RequestError: 429 or 503, with the seconds until there should be room.
        """
        self._waiting.check(key, retry_after_s=self._seconds_until_empty())

    async def submit(self, work: W, key: str = "") -> R:
        """Does a request's work together with that of other requests; keys take turns.

        Cancelling the caller removes what is not being processed yet from the queue.

        Args:
            work: the work.
            key: whose request it is.

        Raises:
            RequestError: as :meth:`admit`; or 503, a pass failed as the passes before it did.
        """
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        request = _Waiting[W, R](key, work, answer)
        self._waiting.take(key, len(work), retry_after_s=self._seconds_until_empty())
        self._tell_waiting()
        self._queues.setdefault(key, deque()).append(request)
        self._changed.set()
        try:
            return await answer
        finally:
            self._take(request, request.left)
            queue = self._queues.get(key, deque())
            if request in queue:
                queue.remove(request)
            if not queue:
                self._queues.pop(key, None)

    async def run(self) -> None:
        """Processes the queue until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._gather()
            works = [work for _, work in batch]
            begin_s = time.perf_counter()
            try:
                results = await loop.run_in_executor(self._thread, self._process, works)
            except Exception as error:  # reported to the requests of this pass; others continue
                reported = self._reported(error)
                for request, _ in batch:
                    if not request.answer.done():
                        request.answer.set_exception(reported)
                continue
            self._num_failed = 0
            seconds = time.perf_counter() - begin_s
            num_items = sum(map(len, works))
            self._metrics.batch_items.observe(num_items, tags=self._tags)
            self._metrics.batch_seconds.observe(seconds, tags=self._tags)
            self._seconds_per_item += 0.1 * (seconds / num_items - self._seconds_per_item)
            for (request, _), result in zip(batch, results, strict=True):
                request.parts.append(result)
                if not request.answer.done() and not request.left:
                    request.answer.set_result(self._join(request.parts))

    def _reported(self, error: Exception) -> Exception:
        """Counts a failed pass and returns what its requests get.

        The first ones get the error, so a request that breaks its pass is not asked again. Where
        one pass after the other fails, it is not the requests: another replica can answer them.
        """
        if isinstance(error, HomNetError):
            return error
        self._num_failed += 1
        _LOG.error("pass_failed", extra={"reason": self._tags["step"], **fault_of(error)})
        if not self.is_failing:
            return error
        return RequestError(
            503, "failing", "nothing can be computed here now; try again later", retry_after_s=5
        )

    async def _gather(self) -> list[tuple[_Waiting[W, R], W]]:
        """The next pass: at most one part of each waiting request, in order of arrival."""
        while not self._queues:
            self._changed.clear()
            await self._changed.wait()
        deadline = time.monotonic() + self._wait_s
        while self._arriving and self._waiting.total < self._max_items:
            self._changed.clear()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._changed.wait()
            except TimeoutError:
                break
        batch: list[tuple[_Waiting[W, R], W]] = []
        room = self._max_items
        while room and self._queues:
            key = next(iter(self._queues))
            queue = self._queues.pop(key)
            request = queue.popleft()
            if not request.answer.done():
                number = min(room, request.left)
                part = request.work.part(request.taken, request.taken + number)
                batch.append((request, part))
                self._take(request, number)
                room -= number
                if request.left:
                    # A large request goes behind the others of its key after each slice.
                    queue.append(request)
            if queue:
                self._queues[key] = queue
        return batch or await self._gather()

    def _take(self, request: _Waiting[W, R], number: int) -> None:
        """Takes items of a request out of those that wait."""
        request.taken += number
        self._waiting.give_back(request.key, number)
        self._tell_waiting()

    def _tell_waiting(self) -> None:
        self._metrics.waiting_items.set(self._waiting.total, tags=self._tags)

    def _seconds_until_empty(self) -> int:
        seconds = math.ceil(self._waiting.total * self._seconds_per_item)
        return min(max(seconds, 1), 60)
