"""Around every request: one line of log, and faults that say nothing."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from homnet_serve.audit import AuditFile, verify_audit
from homnet_serve.logs import JsonLines

StreamOf = Callable[..., bytes]


def test_logs_and_audit_know_no_patients(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoint = start_endpoint(tmp_path)
    caplog.set_level(logging.INFO, "homnet_serve")
    answered = endpoint.arrow(stream_of(pairs), headers={"X-Request-Id": "lab-7"})
    endpoint.arrow(stream_of(pa.concat_tables([pairs, pairs])))
    endpoint.arrow(stream_of(pairs), key="wrong-secret")
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    text = "\n".join(map(json.dumps, lines)) + (
        (tmp_path / "audit" / endpoint.service.audit.name).read_text(encoding="utf-8")
    )
    # The cell in quotes: digests are full of c0.
    for secret in ("h1-p0", "h2-p0", '"c0"', "wrong-secret", endpoint.keys["both"]):
        assert secret not in text
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["status"] for line in requests] == [200, 422, 401]
    assert requests[0]["caller_request_id"] == "lab-7"
    assert "caller_request_id" not in requests[1]
    assert requests[0]["num_patients"] == 3
    name = endpoint.service.audit.name
    entry = json.loads((tmp_path / "audit" / name).read_text().splitlines()[1])
    assert entry["key"] == "both"
    assert entry["caller_request_id"] == "lab-7"
    assert entry["request_id"] == requests[0]["request_id"] == answered.json()["request_id"]
    assert answered.json()["caller_request_id"] == "lab-7"
    assert entry["models"].keys() == {"h1", "h2"}
    assert requests[0]["audit"]
    assert verify_audit(tmp_path / "audit") == {name: AuditFile(2, 0, False)}
    assert len(answered.json()["patients"]) == 3


def test_a_fault_says_nothing_but_its_number(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoint = start_endpoint(tmp_path)

    def broken(*_: object, **__: object) -> None:
        raise KeyError("h1-p0")

    monkeypatch.setattr("homnet_serve.service.assess", broken)
    response = endpoint.arrow(stream_of(pairs))
    assert response.status_code == 500
    assert "h1-p0" not in response.text
    lines = [JsonLines().format(record) for record in caplog.records]
    assert "h1-p0" not in "".join(lines)
    assert any('"error": "KeyError"' in line for line in lines)


@pytest.mark.parametrize(
    ("asked", "is_kept"), [("lab-7.b_2", True), ("", False), ("a b", False), ("x" * 65, False)]
)
def test_requests_have_names_and_answers_safe_headers(
    endpoint: Any, asked: str, is_kept: bool
) -> None:
    response = endpoint.request("GET", "/healthz", key=None, headers={"X-Request-Id": asked})
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])
    assert response.headers.get("x-caller-request-id") == (asked if is_kept else None)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


def test_foreign_paths_count_as_one(endpoint: Any, recorded: Any) -> None:
    """One series for each would fill the memory."""
    for name in ("a", "b"):
        assert endpoint.request("GET", f"/{name}", key=None).status_code == 404
    assert recorded("homnet_requests", route="other", status="404") == 2
