"""What one key may use of what all keys share, so that no client keeps the others out."""

import asyncio
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from homnet_serve.errors import RequestError

R = TypeVar("R")
Stopped = Callable[[], bool]
"""Says whether work was given up: it should then end within a second, its result is dropped."""


class Shares:
    """Counts by key what is in use of something of which there is only so much."""

    def __init__(self, what: str, most: int, share: float, *, retry_after_s: int = 2) -> None:
        """Nothing is in use.

        Args:
            what: its name in refusals.
            most: maximum in use by all keys together.
            share: maximum share of that, 0..1, that one key may use.
            retry_after_s: seconds after which a refused request should try again.
        """
        self.total = 0
        """In use by all keys."""
        self._used: Counter[str] = Counter()
        self._what, self._retry_after_s = what, retry_after_s
        self._most, self._most_of_key = most, max(1, int(share * most))

    def check(self, key: str, number: int = 1, *, retry_after_s: int | None = None) -> None:
        """Checks whether a key may use more. A request that is alone may be of any size.

        Raises:
            RequestError: 429, the key would use more than its share; or 503, all together would
                use more than there is.
        """
        wait_s = self._retry_after_s if retry_after_s is None else retry_after_s
        if self._used[key] and self._used[key] + number > self._most_of_key:
            raise RequestError(
                429,
                "share",
                f"this key has its share of {self._what} in progress; wait for an answer, then try "
                "again",
                retry_after_s=wait_s,
            )
        if self.total and self.total + number > self._most:
            raise RequestError(
                503, "busy", f"too many {self._what} at once; try again later", retry_after_s=wait_s
            )

    def take(self, key: str, number: int = 1, *, retry_after_s: int | None = None) -> None:
        """Counts what a key uses from now on.

        Raises:
            RequestError: as :meth:`check`; nothing is counted.
        """
        self.check(key, number, retry_after_s=retry_after_s)
        self._used[key] += number
        self.total += number

    def give_back(self, key: str, number: int) -> None:
        """Ends the use of what :meth:`take` counted, or of a part of it."""
        self._used[key] -= number
        self.total -= number

    @contextmanager
    def growing(self, key: str) -> Iterator[Callable[[int], None]]:
        """Returns a function that uses more, as :meth:`take`, until the context is left."""
        used = 0

        def grow(number: int) -> None:
            nonlocal used
            self.take(key, number)
            used += number

        try:
            yield grow
        finally:
            self.give_back(key, used)

    @contextmanager
    def taken(self, key: str) -> Iterator[None]:
        """Uses one within the context.

        Raises:
            RequestError: as :meth:`check`.
        """
        with self.growing(key) as grow:
            grow(1)
            yield


class SharedThreads:
    """Threads of which a key occupies only a part, so that work of another finds one."""

    def __init__(self, num_threads: int, share: float, name: str) -> None:
        """Sets up the threads.

        Args:
            num_threads: how many.
            share: maximum share of them, 0..1, that one key may occupy; at least one.
            name: prefix of their names.
        """
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix=name)
        most = max(1, int(share * num_threads))
        self._free: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(most)
        )

    async def run(self, key: str, work: Callable[[Stopped], R]) -> R:
        """Runs work in a thread.

        Cancelling the caller drops work that has not begun, and tells what has begun to stop. Its
        thread counts as occupied until it did.
        """
        loop = asyncio.get_running_loop()
        free = self._free[key]
        given_up = threading.Event()
        await free.acquire()
        # The pool keeps cancelled work in its queue until a thread gets there, and a body with it
        # that nothing counts any more: what it keeps is a list, which is emptied.
        held = [work]
        del work
        future = self._pool.submit(lambda: held.pop()(given_up.is_set))
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(free.release))
        try:
            return await asyncio.wrap_future(future)
        finally:
            given_up.set()
            held.clear()

    def close(self) -> None:
        """Drops what has not begun, and waits for the rest."""
        self._pool.shutdown(cancel_futures=True)
