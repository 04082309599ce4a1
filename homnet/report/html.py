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


def render_page(template: str, *sheets: str, package: str = "homnet.report", **content: Any) -> str:
    """Fills a template.

    Args:
        template: file name of the template.
        sheets: style sheets of this package that follow ``style.css``.
        package: where the template is; it may extend and import those of this package.
        content: values by placeholder name; a missing value is an error.
    """
    style = style_sheet("style.css", *sheets)
    return _environment(package).get_template(template).render(style=style, **content)


def style_sheet(*names: str) -> str:
    """Returns style sheets of this package, one after the other, as the text of a style element."""
    sources = importlib.resources.files("homnet.report")
    return "".join(sources.joinpath(name).read_text(encoding="utf-8") for name in names)


def label(name: str) -> str:
    """Returns a field name as words."""
    words = str(name).replace("_", " ").strip()
    return words.removeprefix("num ")


def data_uri(picture: bytes, kind: str) -> str:
    """Returns a picture as a data URI; ``kind`` is ``"png"``, ``"webp"`` or ``"svg+xml"``."""
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


@cache
def _environment(package: str) -> jinja2.Environment:
    """Returns the environment, which keeps compiled templates."""
    loaders = [jinja2.PackageLoader(name, ".") for name in (package, "homnet.report")]
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": tables.number,
        "interval": tables.interval,
        "percent": tables.percent,
        "probable": tables.probable,
        "count": "{:,}".format,
        "label": label,
        "sum_values": lambda counts: sum(counts.values()),
    }
    return environment
