"""HTML pages from templates, one style for all."""

import base64
import importlib.resources
from typing import Any, Final

import jinja2

from homnet.report import tables

MARK: Final = "#b3261e"
"""Colour of what is flagged, in every page and picture; the other two are those of style.css."""
INK: Final = "#1d2733"
MUTED: Final = "#566270"


def render_page(template: str, **content: Any) -> str:
    """Fills a template of this package.

    Args:
        template: its file name.
        content: what its names stand for; a name without content is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": tables.number,
        "interval": tables.interval,
        "percent": tables.percent,
        "count": "{:,}".format,
        "label": label,
        "sum_values": lambda counts: sum(counts.values()),
    }
    return environment.get_template(template).render(**content)


def label(name: str) -> str:
    """A field name as words."""
    words = str(name).replace("_", " ").strip()
    return words.removeprefix("num ")


def data_uri(picture: bytes, kind: str) -> str:
    """A picture as part of a page; ``kind`` is ``"png"`` or ``"svg+xml"``."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _source(name: str) -> str:
    return importlib.resources.files("homnet.report").joinpath(name).read_text(encoding="utf-8")
