"""Shares: a key leaves room for others, in counts and in threads."""

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from homnet_serve.errors import RequestError
from homnet_serve.shares import SharedThreads, Shares, Stopped


def _status(act: Callable[[], object]) -> int:
    try:
        act()
    except RequestError as error:
        return error.status if error.retry_after_s == 2 else 0
    return 200


def test_one_key_leaves_room_and_all_together_have_no_more_than_there_is() -> None:
    shares = Shares("zips", 8, 0.75)
    taken = [_status(lambda: shares.take("a")) for _ in range(8)]
    assert taken == [200] * 6 + [429] * 2
    assert [_status(lambda: shares.take("b")) for _ in range(3)] == [200, 200, 503]
    shares.give_back("a", 6)
    assert _status(lambda: shares.take("b", 4)) == 200
    assert _status(lambda: shares.take("b", 1)) == 429


def test_who_is_alone_may_use_all() -> None:
    shares = Shares("patients", 10, 0.5)
    assert _status(lambda: shares.take("a", 30)) == 200
    assert _status(lambda: shares.take("b", 1)) == 503
    assert _status(lambda: shares.take("a", 1)) == 429


def test_what_a_context_used_is_given_back() -> None:
    shares = Shares("large bodies", 10, 0.5)
    with shares.growing("a") as grow:
        grow(2)
        grow(3)
        assert shares.total == 5
        assert _status(lambda: grow(1)) == 429
    assert shares.total == 0
    with pytest.raises(KeyError), shares.taken("a"):
        raise KeyError
    assert shares.total == 0


def _run(body: Callable[[SharedThreads], Coroutine[Any, Any, None]], num_threads: int = 4) -> None:
    async def main() -> None:
        threads = SharedThreads(num_threads, 0.75, "test")
        try:
            async with asyncio.timeout(10):
                await body(threads)
        finally:
            threads.close()

    asyncio.run(main())


@pytest.mark.parametrize("num_threads", [2, 4])
def test_another_key_finds_a_thread(num_threads: int) -> None:
    async def body(threads: SharedThreads) -> None:
        release = threading.Event()
        many = [asyncio.create_task(threads.run("a", lambda _: release.wait(5))) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert await threads.run("b", lambda _: "done") == "done"
        release.set()
        assert all(await asyncio.gather(*many))

    _run(body, num_threads)


def test_work_that_is_given_up_is_told_and_what_waits_is_dropped() -> None:
    ran: list[str] = []

    async def body(threads: SharedThreads) -> None:
        def until_stopped(stopped: Stopped) -> None:
            while not stopped():
                time.sleep(0.005)
            ran.append("stopped")

        running = [asyncio.create_task(threads.run("a", until_stopped)) for _ in range(3)]
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(threads.run("a", lambda _: ran.append("waited")))
        await asyncio.sleep(0)
        for task in (waiting, *running):
            task.cancel()
        await asyncio.gather(waiting, *running, return_exceptions=True)
        # All of them are free again.
        last = await asyncio.gather(*(threads.run("a", lambda _: "next") for _ in range(3)))
        assert last == ["next"] * 3

    _run(body)
    assert ran == ["stopped"] * 3


def test_work_that_is_given_up_before_it_begins_is_not_kept() -> None:
    class Body:
        pass

    async def body(threads: SharedThreads) -> None:
        release = threading.Event()
        running = [asyncio.create_task(threads.run(k, lambda _: release.wait(5))) for k in "ab"]
        await asyncio.sleep(0)
        sent = Body()
        kept = weakref.ref(sent)
        waiting = asyncio.create_task(threads.run("c", lambda _, sent=sent: sent))
        del sent
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert kept() is None
        release.set()
        assert all(await asyncio.gather(*running))

    _run(body, 2)
