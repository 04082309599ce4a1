"""Fills the tables and numbers of README.md and docs/ from the results of record.

python jobs/records/render_tables.py

What stands between markers is replaced; homnet/records/rendering.py describes the markers. With
--check nothing is written, and a page that differs from the results is an error.
"""

from dataclasses import dataclass
from pathlib import Path

from homnet.errors import DataError
from homnet.records.rendering import render_page
from homnet_platform.job import run_job


@dataclass(frozen=True)
class RenderConfig:
    """Which pages."""

    root: Path = Path()
    """Folder of README.md, docs/ and results/; the paths in markers start here."""
    check: bool = False
    """Only compare; exit with an error if a page differs from the results."""


def pages_of(root: Path) -> list[Path]:
    """README.md and all pages of docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def main(config: RenderConfig) -> None:
    """Writes or compares each page."""
    changed = []
    for page in pages_of(config.root):
        text = page.read_text(encoding="utf-8")
        wanted = render_page(text, config.root)
        if wanted == text:
            continue
        changed.append(str(page))
        if not config.check:
            page.write_text(wanted, encoding="utf-8")
    names = ", ".join(changed)
    if config.check and changed:
        raise DataError(f"{names}: differ from the results; run jobs/records/render_tables.py")
    print(f"changed: {names}" if changed else "all pages agree with the results")


if __name__ == "__main__":
    run_job(RenderConfig, main, description=__doc__)
