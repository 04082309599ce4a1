"""Both ends of a request: bodies come in within bounds, answers come in time."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pyarrow as pa
import pytest
from fastapi import Request

from homnet_serve.config import Limits, ServiceConfig
from homnet_serve.errors import RequestError
from homnet_serve.service import Answer
from homnet_serve.transport import answered

StreamOf = Callable[..., bytes]


def test_a_body_is_refused_while_it_streams(start_endpoint: Any, tmp_path: Path) -> None:
    endpoint = start_endpoint(tmp_path, limits=Limits(max_body_bytes=1000))
    sent = []

    async def endless() -> Any:
        while True:
            sent.append(1)
            yield b"x" * 100

    response = endpoint.arrow(endless())
    assert response.status_code == 413
    assert len(sent) < 20


def test_a_slow_body_is_given_up(start_endpoint: Any, tmp_path: Path) -> None:
    endpoint = start_endpoint(tmp_path, body_timeout_s=0.05)

    async def slow() -> Any:
        yield b"x"
        await asyncio.sleep(5)

    assert endpoint.arrow(slow()).status_code == 408


@pytest.mark.parametrize(("other", "status"), [("both", 429), ("h1", 503)])
def test_bodies_together_are_bounded(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    other: str,
    status: int,
) -> None:
    body = stream_of(pairs)
    limits = Limits(max_body_bytes=len(body))
    # A key may hold one body, all together one and a third.
    settings = {"max_held_bytes": len(body) * 4 // 3 + 4, "max_share": 0.75}
    endpoint = start_endpoint(tmp_path, limits=limits, **settings)
    sent = asyncio.Event()

    async def slow() -> Any:
        yield body[: len(body) // 2]
        sent.set()
        await asyncio.sleep(0.3)
        yield body[len(body) // 2 :]

    async def both() -> tuple[httpx.Response, httpx.Response]:
        first = asyncio.create_task(endpoint.post("both", slow()))
        await sent.wait()
        second = await endpoint.post(other, body)
        return await first, second

    first, second = endpoint.run(both())
    assert (first.status_code, second.status_code) == (200, status)
    assert int(second.headers["retry-after"]) > 0
    # What was held is given back.
    assert endpoint.service.held.total == endpoint.service.requests.total == 0
    assert endpoint.arrow(body).status_code == 200


@pytest.mark.parametrize(("other", "status"), [("both", 429), ("h1", 503)])
def test_requests_together_are_bounded(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    other: str,
    status: int,
) -> None:
    endpoint = start_endpoint(tmp_path, max_requests=1)
    body = stream_of(pairs)
    sent, refused = asyncio.Event(), asyncio.Event()

    async def slow() -> Any:
        yield body[:9]
        sent.set()
        await asyncio.wait_for(refused.wait(), 5)
        yield body[9:]

    async def both() -> tuple[httpx.Response, httpx.Response]:
        first = asyncio.create_task(endpoint.post("both", slow()))
        await sent.wait()
        second = await endpoint.post(other, body)
        refused.set()
        return await first, second

    first, second = endpoint.run(both())
    assert (first.status_code, second.status_code) == (200, status)
    assert "requests" in second.json()["message"]
    assert endpoint.arrow(body).status_code == 200


@pytest.mark.parametrize("is_gone", [True, False])
def test_work_that_nobody_waits_for_is_cancelled(is_gone: bool) -> None:
    ended: list[str] = []

    async def work() -> Answer:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        raise AssertionError

    async def receive() -> dict[str, str]:
        await asyncio.sleep(0 if is_gone else 60)
        return {"type": "http.disconnect"}

    async def ask() -> None:
        request = Request({"type": "http"}, receive)
        service: Any = SimpleNamespace(config=ServiceConfig(deadline_s=60 if is_gone else 0.05))
        with contextlib.suppress(RequestError):
            response = await answered(request, service, work())
            assert (response.status_code, is_gone) == (499, True)
        await asyncio.sleep(0)
        assert ended == ["cancelled"]

    asyncio.run(asyncio.wait_for(ask(), 5))


def test_the_deadline_is_kept(
    start_endpoint: Any, tmp_path: Path, pairs: pa.Table, stream_of: StreamOf
) -> None:
    endpoint = start_endpoint(tmp_path, deadline_s=0.001)
    response = endpoint.arrow(stream_of(pairs))
    assert response.status_code == 504
    assert response.json()["code"] == "deadline"
