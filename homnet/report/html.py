"""Renders HTML pages from templates with one style sheet."""

import base64
import importlib.resources
from functools import cache
from typing import Any, Final

import jinja2

from homnet.report import tables

MARK: Final = "#b3261e"
"""Colour of flagged items in every page and picture; the other two are in style.css."""
INK: Final = "#1d2733"
MUTED: Final = "#566270"


def render_page(template: str, **content: Any) -> str:
    """Fills a template of this package.

    Args:
        template: file name of the template.
        content: values by placeholder name; a missing value is an error.
    """
    return _environment().get_template(template).render(**content)


def style_sheet(*names: str) -> str:
    """Returns style sheets of this package, one after the other, as the text of a style element."""
    return "".join(_source(name) for name in names)


def label(name: str) -> str:
    """Returns a field name as words."""
    words = str(name).replace("_", " ").strip()
    return words.removeprefix("num ")


def data_uri(picture: bytes, kind: str) -> str:
    """Returns a picture as a data URI; ``kind`` is ``"png"``, ``"webp"`` or ``"svg+xml"``."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _source(name: str) -> str:
    return importlib.resources.files("homnet.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    """Returns the environment, which keeps compiled templates."""
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
    return environment
