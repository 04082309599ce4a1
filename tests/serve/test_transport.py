"""Both ends of a request: bodies come in within bounds, answers come in time."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa

from homnet_serve.bodies import ARROW_TYPE
from homnet_serve.config import Limits

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


def test_bodies_together_are_bounded(
    start_endpoint: Any, tmp_path: Path, pairs: pa.Table, stream_of: StreamOf
) -> None:
    body = stream_of(pairs)
    limits = Limits(max_body_bytes=len(body))
    endpoint = start_endpoint(tmp_path, limits=limits, max_held_bytes=len(body) + 1000)
    headers = {"Authorization": f"Bearer {endpoint.keys['both']}", "Content-Type": ARROW_TYPE}
    sent = asyncio.Event()

    async def slow() -> Any:
        yield body[:2000]
        sent.set()
        await asyncio.sleep(0.3)
        yield body[2000:]

    async def both() -> tuple[httpx.Response, httpx.Response]:
        first = asyncio.create_task(
            endpoint.client.post("/v1/diagnose", content=slow(), headers=headers)
        )
        await sent.wait()
        other = await endpoint.client.post("/v1/diagnose", content=body, headers=headers)
        return await first, other

    first, other = endpoint.run(both())
    assert (first.status_code, other.status_code) == (200, 503)
    # What was held is given back.
    assert endpoint.arrow(body).status_code == 200


def test_the_deadline_is_kept(
    start_endpoint: Any, tmp_path: Path, pairs: pa.Table, stream_of: StreamOf
) -> None:
    endpoint = start_endpoint(tmp_path, deadline_s=0.001)
    response = endpoint.arrow(stream_of(pairs))
    assert response.status_code == 504
    assert response.json()["code"] == "deadline"
