"""HTML pages from templates: one style for all, and files that appear whole or not at all."""

import base64
import importlib.resources
import os
import tempfile
from pathlib import Path
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


def write_page(path: Path, page: str) -> Path:
    """Writes a page, replacing an earlier one at once, and gives its path; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.stem}.", suffix=".html"
    )
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(page)
    Path(temporary).chmod(0o644)
    return Path(temporary).replace(path)


def label(name: str) -> str:
    """A field name as words."""
    words = str(name).replace("_", " ").strip()
    return words.removeprefix("num ")


def data_uri(picture: bytes, kind: str) -> str:
    """A picture as part of a page; ``kind`` is ``"png"`` or ``"svg+xml"``."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _source(name: str) -> str:
    return importlib.resources.files("homnet.report").joinpath(name).read_text(encoding="utf-8")
