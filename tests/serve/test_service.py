"""What is answered, and what is refused when there is no room or no audit log."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from homnet.cohorts.pairs import MEASURED
from homnet.model.checkpoint import Checkpoint
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


def test_images_and_sequences_have_the_models_scale(
    start_endpoint: Any,
    tmp_path: Path,
    family: Callable[..., list[Checkpoint]],
    images_zip: Callable[..., bytes],
    table_of: Callable[..., pa.Table],
    stream_of: StreamOf,
) -> None:
    (plain,) = family(1)
    scaled = replace(plain, provenance={"samples_per_px": {"h1": 1.5}})
    endpoint = start_endpoint(tmp_path, checkpoints={"h1": scaled})
    options = {"headers": {"Content-Type": "application/zip"}, "content": images_zip()}
    route = "/v1/diagnose/images?sequences=all"
    own = endpoint.request("POST", route, **options)
    assert own.json()["models"][0]["samples_per_px"] == 1.5
    (patient,) = own.json()["patients"]
    first = base64.b64decode(patient["evidence"][0]["pairs"][0]["sequence"])
    assert sum(byte > 0 for byte in first[:512]) == pytest.approx(70 * 1.5, abs=3)
    same = endpoint.request("POST", f"{route}&samples_per_px=1.5", **options)
    assert same.json()["patients"] == own.json()["patients"]
    body = stream_of(table_of("h1", num_patients=1).select(MEASURED.names))
    for refused in (
        endpoint.request("POST", f"{route}&samples_per_px=3", **options),
        endpoint.arrow(body, params={"samples_per_px": 3.0}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (422, "other_scale")
        assert "3 is given" in refused.json()["message"]
        assert "for 1.5 samples" in refused.json()["message"]
    assert endpoint.arrow(body).status_code == 200


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
