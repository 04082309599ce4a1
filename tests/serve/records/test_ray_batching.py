"""Ray forms the passes, the rest is as in our queue: parts in order, room that comes back."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import pytest

from homnet_serve.errors import RequestError
from homnet_serve.metrics import Metrics
from homnet_serve.records import ray_batching
from homnet_serve.records.ray_batching import RayBatches
from homnet_serve.shares import Shares


class _Numbers(list[int]):
    """Work that a pass copies."""

    def part(self, start: int, stop: int) -> Self:
        return type(self)(self[start:stop])


def test_large_requests_are_cut_and_joined_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {}

    def one_at_a_time(**given: Any) -> Callable[..., Any]:
        options.update(given)
        return lambda one_pass: lambda work: _first(one_pass([work]))

    async def _first(results: Any) -> Any:
        return (await results)[0]

    monkeypatch.setattr(ray_batching.serve, "batch", one_at_a_time)
    passes: list[int] = []

    def process(works: Any) -> list[Any]:
        passes.extend(map(len, works))
        return [list(work) for work in works]

    async def main() -> None:
        waiting = Shares("patients", 40, 1.0)
        with ThreadPoolExecutor(1) as thread:
            queue = RayBatches[_Numbers, list[int]](
                Metrics(),
                process,
                lambda parts: [one for part in parts for one in part],
                step="score",
                thread=thread,
                max_items=10,
                waiting=waiting,
                wait_s=0.5,
            )
            works = [_Numbers(range(25)), _Numbers(range(10))]
            assert await asyncio.gather(*map(queue.submit, works)) == works
            assert waiting.total == 0
            waiting.take("other", 30)
            with pytest.raises(RequestError):
                await queue.submit(works[0])

    asyncio.run(main())
    assert sorted(passes) == [5, 10, 10, 10]
    assert (options["max_batch_size"], options["batch_wait_timeout_s"]) == (10, 0.5)
    assert options["batch_size_fn"]([_Numbers(range(3)), _Numbers(range(4))]) == 7
