"""The documentation page: complete, offline, and open without a key."""

import re
from typing import Any

from homnet_serve.app import schema_of
from homnet_serve.docs_page import POLICY, documentation


def test_every_route_type_and_field_is_on_the_page(endpoint: Any) -> None:
    answer = endpoint.request("GET", "/docs", key=None)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == POLICY
    html = answer.text
    schema = endpoint.request("GET", "/openapi.json").json()
    for path in schema["paths"]:
        assert f" {path}</code>" in html
    for name, one in schema["components"]["schemas"].items():
        assert f'<h2 id="{name}">' in html
        for field in one.get("properties", {}):
            assert f"<code>{field}</code>" in html
    for link in re.findall(r'href="([^"]*)"', html):
        assert link.startswith("#")
        assert f'id="{link[1:]}"' in html
    assert "src=" not in html
    assert "<script" not in html


def test_what_a_schema_says_is_text_on_the_page(endpoint: Any) -> None:
    schema = schema_of(endpoint.client._transport.app)
    hostile = {**schema, "info": {**schema["info"], "description": "<script>alert(1)</script>"}}
    assert "<script>" not in documentation(hostile)
