"""Reads the body of a request within limits, and sends the answer or abandons it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from homnet_serve.config import ServiceConfig
from homnet_serve.errors import RequestError, too_large
from homnet_serve.keys import Key
from homnet_serve.service import Answer, Service


@asynccontextmanager
async def body_of(request: Request, service: Service, key: Key) -> AsyncIterator[bytes]:
    """Reads the whole body; it counts as a request of the key until the context is left.

    Raises:
        RequestError: the body is too large, too slow or encoded, or there is no room for another
            request or for its bytes; raised as soon as that is known.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, "unknown_encoding", "Content-Encoding: send the body as it is")
    with service.requests.taken(key.id), service.held.growing(key.id) as hold:
        body = await _whole_body(request, service.config, hold)
        request.state.log["bytes"] = len(body)
        yield body


async def _whole_body(
    request: Request, config: ServiceConfig, hold: Callable[[int], None]
) -> bytes:
    limit = config.limits.max_body_bytes
    refusal = too_large(f"body: more than {limit} bytes; send fewer patients at once")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise refusal
    parts: list[bytes] = []
    num_bytes = 0
    try:
        async with asyncio.timeout(config.body_timeout_s):
            async for part in request.stream():
                num_bytes += len(part)
                if num_bytes > limit:
                    raise refusal
                hold(len(part))
                parts.append(part)
    except ClientDisconnect:
        raise RequestError(400, "disconnected", "body: cut off") from None
    except TimeoutError:
        raise RequestError(
            408,
            "slow_body",
            f"body: it did not arrive within {config.body_timeout_s:g} s; send less",
        ) from None
    return b"".join(parts)


async def answered(request: Request, service: Service, work: Awaitable[Answer]) -> Response:
    """Waits for the answer until the deadline, or until the client disconnects.

    Raises:
        RequestError: 504 after the deadline, or the error raised by the work.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait(
            {task, gone},
            timeout=service.config.deadline_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not task.done():
            if gone.done():
                return Response(status_code=499)
            raise RequestError(
                504,
                "deadline",
                f"not done within {service.config.deadline_s:g} s; send fewer patients, or again "
                "later",
            )
        answer = task.result()
    finally:
        gone.cancel()
        task.cancel()
    request.state.log.update(**answer.counts, audit=answer.audit)
    return Response(answer.content, media_type="application/json")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
