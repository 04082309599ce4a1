"""What is answered, and what is refused when there is no room or no audit log."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from homnet_serve.bodies import ARROW_TYPE

StreamOf = Callable[..., bytes]


def test_a_full_queue_is_said(
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
    assert set(statuses) == {200, 429}
    assert len({json.dumps(r.json()["patients"]) for r in responses if r.status_code == 200}) == 1
    refused = next(r for r in responses if r.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1


def test_what_is_given_up_stops_and_leaves_no_line_in_the_audit_log(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = start_endpoint(tmp_path, deadline_s=0.5)
    drawn: list[float] = []

    def slow_page(*_: object, **__: object) -> str:
        time.sleep(0.4)
        drawn.append(time.monotonic())
        return "<html>"

    monkeypatch.setattr("homnet_serve.answers.render_patient", slow_page)
    before = endpoint.service.audit.path.read_text().count("answered")
    response = endpoint.request(
        "POST",
        "/v1/diagnose?pages=all",
        content=stream_of(pairs),
        headers={"Content-Type": ARROW_TYPE},
    )
    assert response.status_code == 504
    given_up = time.monotonic()
    endpoint.run(asyncio.sleep(1.2))
    assert len(drawn) < 3
    assert max(drawn) < given_up + 1
    assert endpoint.service.audit.path.read_text().count("answered") == before


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
