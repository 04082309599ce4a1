"""The web page at ``/``: one file that sends requests only to this endpoint."""

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files

from homnet.report.patient_page import patient_style


@cache
def page() -> tuple[bytes, str]:
    """The page, and the Content-Security-Policy that allows only its own script and styles.

    The reports that the page shows in a frame inherit the policy, so their style is allowed, too.
    """
    html = files("homnet_serve").joinpath("page.html").read_text(encoding="utf-8")
    script, style = (
        " ".join(_source(text) for text in re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL))
        for tag in ("script", "style")
    )
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style} {_source(patient_style())}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return html.encode(), policy


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
