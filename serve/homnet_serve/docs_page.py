"""The page at ``/docs``: the OpenAPI description in HTML, without a script or another server."""

import json
from collections.abc import Mapping
from typing import Any, Final

from homnet.report.html import render_page

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy of the page."""
_REF: Final = "#/components/schemas/"


def documentation(schema: Mapping[str, Any]) -> str:
    """The page as HTML.

    Args:
        schema: the OpenAPI description (:func:`homnet_serve.app.schema_of`).
    """
    routes = [
        {
            "method": method.upper(),
            "path": path,
            "what": route.get("description") or route.get("summary", ""),
            "parameters": [
                {
                    "name": one["name"],
                    "kind": _kind(one["schema"]),
                    "default": one["schema"].get("default"),
                    "description": one.get("description") or one["schema"].get("description", ""),
                }
                for one in route.get("parameters", ())
            ],
            "bodies": _bodies(route.get("requestBody", {})),
            "about_body": route.get("requestBody", {}).get("description", ""),
            "answers": [
                {
                    "status": status,
                    "description": one["description"],
                    "bodies": _bodies(one),
                }
                for status, one in sorted(route["responses"].items())
            ],
        }
        for path, methods in schema["paths"].items()
        for method, route in methods.items()
    ]
    types = [
        {
            "name": name,
            "description": one.get("description", ""),
            "fields": [
                {
                    "name": field,
                    "kind": _kind(content),
                    "required": field in one.get("required", ()),
                    "description": content.get("description", ""),
                }
                for field, content in one.get("properties", {}).items()
            ],
            "example": json.dumps(one["examples"][0], indent=1) if "examples" in one else "",
        }
        for name, one in sorted(schema["components"]["schemas"].items())
    ]
    return render_page(
        "docs.html.j2", package="homnet_serve", info=schema["info"], routes=routes, types=types
    )


def _bodies(content: Mapping[str, Any]) -> list[dict[str, str]]:
    """Media types of a body, each with the name of its type; empty without one."""
    return [
        {"media": media, "type": one.get("schema", {}).get("$ref", "").removeprefix(_REF)}
        for media, one in content.get("content", {}).items()
    ]


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in a few words; names of types are as in the headings of the page."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REF)
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(one) for one in schema["anyOf"]))
    if "enum" in schema:
        values = [str(value) for value in schema["enum"]]
        return ", ".join(values if len(values) < 7 else [*values[:2], "…", values[-1]])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_kind(schema['additionalProperties'])}"
    return str(schema.get("const", schema.get("type", "anything")))
