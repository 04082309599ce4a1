"""The job writes pages that differ from the results, and with --check only complains."""

import runpy
from pathlib import Path

import pytest

from homnet.errors import DataError
from homnet.results import write_result

JOB = runpy.run_path(str(Path(__file__).parents[3] / "jobs" / "records" / "render_tables.py"))


def test_pages_are_written_or_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"days": 3}
    path = tmp_path / "results" / "a.json"
    write_result(path, claim="c", figures=figures, recipe="r", seed=5)
    page = "It took <!-- value: results/a.json days --><!-- end --> days.\n"
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/one.md"):
        (tmp_path / name).write_text(page)
    check = JOB["RenderConfig"](tmp_path, check=True)
    with pytest.raises(DataError, match=r"README.md, .*one.md: differ from the results"):
        JOB["main"](check)
    assert (tmp_path / "README.md").read_text() == page
    JOB["main"](JOB["RenderConfig"](tmp_path))
    assert "days -->3<!-- end --> days." in (tmp_path / "docs" / "one.md").read_text()
    JOB["main"](check)
    assert capsys.readouterr().out.endswith("all pages agree with the results\n")
