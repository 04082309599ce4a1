"""Requests made up from the OpenAPI schema: no 5xx, and every answer as the schema says."""

import json
from typing import Any

import httpx
import pytest

from homnet_serve.archives import ZIP_TYPE
from homnet_serve.bodies import ARROW_TYPE

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture(scope="module")
def schema(address: tuple[str, dict[str, str]]) -> dict[str, Any]:
    url, keys = address
    headers = {"Authorization": f"Bearer {keys['both']}"}
    content = httpx.get(f"{url}/openapi.json", headers=headers).json()
    assert isinstance(content, dict)
    return content


def test_the_examples_are_accepted(
    schema: dict[str, Any], address: tuple[str, dict[str, str]]
) -> None:
    url, keys = address
    (example,) = schema["components"]["schemas"]["DiagnoseRequest"]["examples"]
    text = json.dumps(example).replace("hospital-1", "h1")
    headers = {"Authorization": f"Bearer {keys['h1']}", "Content-Type": "application/json"}
    response = httpx.post(f"{url}/v1/diagnose", content=text, headers=headers)
    assert response.status_code == 200, response.text
    (patient,) = response.json()["patients"]
    assert [kind["chromosome"] for kind in patient["evidence"]] == ["21"]


def test_every_operation_says_what_it_needs(schema: dict[str, Any]) -> None:
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if path in ("/healthz", "/readyz"):
                assert "security" not in operation
            else:
                assert operation["security"] == [{"HTTPBearer": []}]
                assert "401" in operation["responses"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/diagnose"),
        ("POST", "/v1/diagnose/images"),
        ("GET", "/v1/models"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
    ],
)
@pytest.mark.parametrize("key", ["both", None])
def test_made_up_requests(
    schema: dict[str, Any],
    address: tuple[str, dict[str, str]],
    method: str,
    path: str,
    key: str | None,
) -> None:
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        response_schema_conformance,
        status_code_conformance,
    )

    for media_type in (ARROW_TYPE, ZIP_TYPE):
        schemathesis.serializer.alias(media_type, "application/octet-stream")
    url, keys = address
    operation = schemathesis.openapi.from_dict(schema)[path][method]
    headers = {"Authorization": f"Bearer {keys[key]}"} if key else {"Authorization": "Bearer x"}
    statuses = set()

    @settings(
        max_examples=20,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        response = case.call(base_url=url, headers=headers)
        statuses.add(response.status_code)
        case.validate_response(
            response,
            checks=[not_a_server_error, response_schema_conformance, status_code_conformance],
        )

    ask()
    open_route = path in ("/healthz", "/readyz")
    assert statuses == {401} if key is None and not open_route else 401 not in statuses
