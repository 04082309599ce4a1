"""Adds a request id, a duration, a log line and security headers to every request.

A request id is always made here: what a caller sends as ``X-Request-Id`` may be anybody's, and is
kept beside it as the caller's.
"""

import logging
import re
import time
import uuid
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homnet_serve.logs import fault_of
from homnet_serve.metrics import Metrics
from homnet_serve.schemas import ErrorBody

REQUEST_ID: Final = "x-request-id"
CALLER_REQUEST_ID: Final = "x-caller-request-id"
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOG: Final = logging.getLogger("homnet_serve.access")
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Around:
    """ASGI middleware. Routes add fields of the log line to ``request.state.log``."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin_s = time.perf_counter()
        asked = dict(scope["headers"]).get(REQUEST_ID.encode(), b"").decode("latin-1")
        caller_request_id = asked if _SAFE_ID.fullmatch(asked) else None
        request_id = uuid.uuid4().hex
        headers = [*_HEADERS, (REQUEST_ID.encode(), request_id.encode())]
        log: dict[str, object] = {}
        if caller_request_id is not None:
            log["caller_request_id"] = caller_request_id
            headers.append((CALLER_REQUEST_ID.encode(), caller_request_id.encode()))
        scope.setdefault("state", {}).update(
            request_id=request_id, caller_request_id=caller_request_id, log=log
        )
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *headers]
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except Exception as error:
            # The message may quote a request: log type and location only.
            _LOG.error("fault", extra={"request_id": request_id, **fault_of(error)})
            if status:
                raise
            body = ErrorBody(
                request_id=request_id,
                caller_request_id=caller_request_id,
                code="internal",
                message="something went wrong here; tell the operator the request_id",
            )
            await JSONResponse(body.model_dump(), 500)(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - begin_s
            # Use the path of the route: the number of request paths is unbounded.
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.inc(tags={"route": route, "status": str(status)})
            self.metrics.request_seconds.observe(seconds, tags={"route": route})
            _LOG.info(
                "request",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "seconds": round(seconds, 4),
                    **log,
                },
            )
