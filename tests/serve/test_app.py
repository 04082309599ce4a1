"""The application: right answers, clean refusals, and nothing that leaks."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from homnet.bags.assessment import assess
from homnet.cohorts.pairs import MEASURED
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import reference_bags
from homnet_serve.bodies import ARROW_TYPE
from homnet_serve.keys import read_keys, write_keys
from homnet_serve.schemas import DiagnoseResponse, ErrorBody

StreamOf = Callable[..., bytes]
TableOf = Callable[..., pa.Table]
ROUTES = [
    ("POST", "/v1/diagnose"),
    ("POST", "/v1/diagnose/images"),
    ("POST", "/v1/diagnose/karyograms"),
    ("POST", "/v1/karyograms"),
    ("GET", "/v1/models"),
    ("GET", "/openapi.json"),
]


def _logits(response: httpx.Response) -> dict[tuple[str, str], float]:
    answer = DiagnoseResponse.model_validate(response.json())
    return {
        (patient.verdict.patient_id, kind.chromosome): kind.logit
        for patient in answer.patients
        for kind in patient.evidence
    }


def _expected(table: pa.Table, checkpoints: dict[str, Checkpoint]) -> dict[tuple[str, str], float]:
    assessment = assess(table)
    logits = {}
    for hospital, checkpoint in checkpoints.items():
        logit_B = Predictor.of_checkpoint(checkpoint).flat_logits(assessment.bags)
        for kind, logit in zip(assessment.types, assessment.of_types(logit_B), strict=True):
            if kind.hospital == hospital:
                logits[kind.patient_id, kind.chromosome] = float(logit)
    return logits


@pytest.mark.parametrize("form", ["arrow", "base64", "lists"])
def test_answers_are_those_of_each_hospitals_model(
    endpoint: Any,
    pairs: pa.Table,
    stream_of: StreamOf,
    json_of: Callable[..., Any],
    form: str,
) -> None:
    if form == "arrow":
        response = endpoint.arrow(stream_of(pairs))
    else:
        response = endpoint.request(
            "POST", "/v1/diagnose", json=json_of(pairs, lists=form == "lists")
        )
    assert response.status_code == 200, response.text
    assert _logits(response) == pytest.approx(_expected(pairs, endpoint.checkpoints), abs=1e-5)
    answer = response.json()
    assert answer["request_id"] == response.headers["x-request-id"]
    for model in answer["models"]:
        promoted = endpoint.registry.promoted(model["hospital"])
        assert model["version"] == promoted.version
        assert model["weights"] == endpoint.checkpoints[model["hospital"]].version
        assert len(model["calibration"]) == 64


def test_company_changes_no_score(
    endpoint: Any, table_of: TableOf, stream_of: StreamOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    batch_items = endpoint.service.metrics.batch_items
    monkeypatch.setattr(batch_items, "observe", lambda number, tags: passes.append(number))
    tables = [
        table_of(f"h{n % 2 + 1}", num_patients=1, num_cells=1 + n % 5, seed=n).select(
            MEASURED.names
        )
        for n in range(16)
    ]
    headers = {"Authorization": f"Bearer {endpoint.keys['both']}", "Content-Type": ARROW_TYPE}

    async def all_at_once() -> list[httpx.Response]:
        return await asyncio.gather(
            *(
                endpoint.client.post("/v1/diagnose", content=stream_of(table), headers=headers)
                for table in tables
            )
        )

    for table, response in zip(tables, endpoint.run(all_at_once()), strict=True):
        assert _logits(response) == pytest.approx(_expected(table, endpoint.checkpoints), abs=1e-5)
    assert len(passes) < len(tables)


def test_images_are_answered(endpoint: Any, images_zip: Callable[..., bytes]) -> None:
    response = endpoint.request(
        "POST",
        "/v1/diagnose/images?sequences=all",
        content=images_zip(("1", "X"), hospital="h2"),
        headers={"Content-Type": "application/zip"},
    )
    assert response.status_code == 200, response.text
    (patient,) = response.json()["patients"]
    assert [kind["chromosome"] for kind in patient["evidence"]] == ["1", "X"]
    assert all(pair["sequence"] for kind in patient["evidence"] for pair in kind["pairs"])


@pytest.mark.parametrize(("method", "route"), ROUTES)
@pytest.mark.parametrize("key", [None, "wrong", "revoked", "", "é"])
def test_no_route_opens_without_a_key(
    endpoint: Any, method: str, route: str, key: str | None
) -> None:
    header = {} if key is None else {"Authorization": f"Bearer {endpoint.keys.get(key, key)}"}
    encoded = {name: value.encode() for name, value in header.items()}
    response = endpoint.request(method, route, key=None, headers=encoded, content=b"x")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    said = response.json()
    reference = endpoint.request(method, route, key=None).json()
    assert {**said, "request_id": ""} == {**reference, "request_id": ""}


def test_a_foreign_hospital_is_neither_named_nor_confirmed(
    endpoint: Any, table_of: TableOf, stream_of: StreamOf, images_zip: Callable[..., bytes]
) -> None:
    answers = []
    for hospital in ("h2", "never-heard-of"):
        table = table_of(hospital, num_patients=1, num_cells=1).select(MEASURED.names)
        answers.append(endpoint.arrow(stream_of(table), key="h1"))
        answers.append(
            endpoint.request(
                "POST",
                "/v1/diagnose/images",
                key="h1",
                content=images_zip(hospital=hospital),
                headers={"Content-Type": "application/zip"},
            )
        )
    assert {answer.status_code for answer in answers} == {403}
    assert len({answer.json()["message"] for answer in answers}) == 1
    assert "h2" not in answers[0].text
    mixed = pa.concat_tables([table_of(name, num_patients=1) for name in ("h1", "h2")])
    assert endpoint.arrow(stream_of(mixed.select(MEASURED.names)), key="h1").status_code == 403
    models = endpoint.request("GET", "/v1/models", key="h1").json()["models"]
    assert [model["hospital"] for model in models] == ["h1"]


def test_a_key_for_no_hospital_sees_no_model(endpoint: Any) -> None:
    assert endpoint.request("GET", "/v1/models", key="none").json() == {"models": []}


def test_a_hospital_without_a_model_is_said(
    endpoint: Any, table_of: TableOf, stream_of: StreamOf
) -> None:
    table = table_of("h-none", num_patients=1).select(MEASURED.names)
    response = endpoint.arrow(stream_of(table))
    assert response.status_code == 404
    assert "'h-none'" in response.json()["message"]


def test_open_routes_need_no_key(endpoint: Any) -> None:
    for route in ("/", "/healthz", "/readyz"):
        assert endpoint.request("GET", route, key=None).status_code == 200
    page = endpoint.request("GET", "/", key=None)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "url", "headers", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", "/v1/models/", {"Host": "elsewhere.example"}, 404),
        ("POST", "/v1/diagnose/", {"Host": "elsewhere.example"}, 404),
        ("GET", "/v1/diagnose", {}, 405),
        ("POST", "/v1/diagnose?sequences=some", {"Content-Type": ARROW_TYPE}, 422),
        ("POST", "/v1/diagnose/images?band_level=850", {"Content-Type": "application/zip"}, 422),
        ("POST", "/v1/diagnose/images?samples_per_px=nan", {}, 422),
        ("POST", "/v1/diagnose/images", {"Content-Type": "image/png"}, 415),
        ("POST", "/v1/karyograms", {"Content-Type": "image/png"}, 415),
        ("POST", "/v1/diagnose/karyograms", {"Content-Type": "image/png"}, 415),
        ("POST", "/v1/karyograms", {"Content-Type": "multipart/form-data"}, 422),
        ("POST", "/v1/karyograms?preview=perhaps", {"Content-Type": "application/zip"}, 422),
        ("POST", "/v1/diagnose/karyograms?px_per_um=0.1", {}, 422),
        ("POST", "/v1/diagnose/karyograms?px_per_um=nan", {}, 422),
        ("POST", f"/v1/diagnose/karyograms?patient_id={'p' * 129}", {}, 422),
        ("POST", "/v1/diagnose", {"Content-Type": "application/x-python-pickle"}, 415),
        ("POST", "/v1/diagnose", {"Content-Type": ARROW_TYPE, "Content-Encoding": "gzip"}, 415),
        ("POST", "/v1/diagnose", {"Content-Type": ARROW_TYPE, "Content-Length": "99999999"}, 413),
    ],
)
def test_refusals_are_sentences(
    endpoint: Any, method: str, url: str, headers: dict[str, str], status: int
) -> None:
    response = endpoint.request(method, url, headers=headers, content=b"")
    assert response.status_code == status
    assert "elsewhere" not in str(response.headers)
    body = ErrorBody.model_validate(response.json())
    assert body.request_id == response.headers["x-request-id"]
    assert body.message


def test_revoking_reaches_a_running_endpoint(start_endpoint: Any, tmp_path: Path) -> None:
    endpoint = start_endpoint(tmp_path)
    assert endpoint.request("GET", "/v1/models", key="h1").status_code == 200
    path = tmp_path / "keys.json"
    write_keys(path, [key for key in read_keys(path) if key.id != "one"])
    assert endpoint.request("GET", "/v1/models", key="h1").status_code == 401
    path.write_text("{")
    assert endpoint.request("GET", "/v1/models", key="h2").status_code == 200


@pytest.mark.slow
def test_a_promotion_under_load_drops_nothing(
    start_endpoint: Any,
    tmp_path: Path,
    table_of: TableOf,
    stream_of: StreamOf,
    family: Callable[..., list[Checkpoint]],
    recorded: Any,
) -> None:
    endpoint = start_endpoint(tmp_path, refresh_s=0.05)
    newer = family(3)[2]
    table = table_of("h1", num_patients=1, num_cells=2).select(MEASURED.names)
    bags = reference_bags(Predictor.of_checkpoint(newer), table)
    bad = family(1, seed=8)[0]
    headers = {"Authorization": f"Bearer {endpoint.keys['h1']}", "Content-Type": ARROW_TYPE}
    registry = endpoint.registry

    async def load() -> list[httpx.Response]:
        found = []
        for number in range(60):
            if number == 10:
                version = registry.publish(newer, "h1")
                registry.keep_reference_bags(version, bags)
                registry.promote("h1", version)
            if number == 35:
                version = registry.publish(bad, "h1")
                registry.keep_reference_bags(version, bags)
                registry.promote("h1", version)
            found += await asyncio.gather(
                *(
                    endpoint.client.post("/v1/diagnose", content=stream_of(table), headers=headers)
                    for _ in range(3)
                )
            )
        return found

    expected = {
        checkpoint.version: _expected(table, {"h1": checkpoint})
        for checkpoint in (endpoint.checkpoints["h1"], newer)
    }
    seen = []
    for response in endpoint.run(load()):
        assert response.status_code == 200
        weights = response.json()["models"][0]["weights"]
        assert _logits(response) == pytest.approx(expected[weights], abs=1e-5)
        seen.append(weights)
    assert list(dict.fromkeys(seen)) == [endpoint.checkpoints["h1"].version, newer.version]
    assert recorded("homnet_models_rejected", hospital="h1") == 1
