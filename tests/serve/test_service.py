"""What is answered, and what is refused when there is no room or no audit log."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from homnet_serve.bodies import ARROW_TYPE

StreamOf = Callable[..., bytes]


def test_a_full_queue_answers_503(
    start_endpoint: Any, tmp_path: Path, pairs: pa.Table, stream_of: StreamOf
) -> None:
    endpoint = start_endpoint(tmp_path, max_waiting_bags=5, max_bags=1)
    headers = {"Authorization": f"Bearer {endpoint.keys['both']}", "Content-Type": ARROW_TYPE}

    async def flood() -> list[httpx.Response]:
        body = stream_of(pairs)
        post = endpoint.client.post
        return await asyncio.gather(
            *(post("/v1/diagnose", content=body, headers=headers) for _ in range(20))
        )

    responses = endpoint.run(flood())
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {200, 503}
    assert len({json.dumps(r.json()["patients"]) for r in responses if r.status_code == 200}) == 1
    refused = next(r for r in responses if r.status_code == 503)
    assert int(refused.headers["retry-after"]) >= 1


def test_without_an_audit_log_nothing_is_answered(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = start_endpoint(tmp_path)

    def full(entry: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(endpoint.service.audit, "append", full)
    response = endpoint.arrow(stream_of(pairs))
    assert response.status_code == 503
    assert response.json()["code"] == "audit"
