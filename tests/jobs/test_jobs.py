"""Every job as a user meets it: help, dry run, and errors as one sentence with exit code 2."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
JOBS = sorted(path.relative_to(ROOT / "jobs").as_posix() for path in (ROOT / "jobs").rglob("*.py"))
DRY = {
    "adapt.py": [],
    "demo.py": [],
    "describe.py": ["--cohort", "c"],
    "diagnose.py": ["patients"],
    "endpoint.py": ["list-keys"],
    "evaluate.py": ["hospitals"],
    "fine_tune.py": [],
    "fit_laboratory.py": ["--cohort", "c", "--hospital", "h", "--output", "o"],
    "ingest.py": ["--manifest", "m.csv", "--output", "o"],
    "learn_reader.py": [],
    "pretrain.py": ["best"],
    "records/benchmark.py": [],
    "records/drill.py": ["endpoint"],
    "records/evaluate_findings.py": [],
    "records/feed.py": [],
    "records/fuzz.py": [],
    "records/load_test.py": [],
    "records/oracle.py": [],
    "records/patient_search.py": [],
    "records/orientation.py": [],
    "records/read_karyograms.py": ["--manifest", "m.csv"],
    "records/realism.py": ["--simulated", "c", "--output", "o"],
    "records/render_tables.py": [],
    "records/reproduce.py": ["2"],
    "records/ship_model.py": [],
    "records/ship_classifiers.py": ["--cohort", "c"],
    "records/estimate_levels.py": ["--cohort", "c"],
    "records/throughput.py": [],
    "records/treat_images.py": ["--manifest", "m.csv"],
    "registry.py": ["list"],
    "report.py": ["--evaluation", "e"],
    "serve_demo.py": [],
    "simulate.py": ["--output", "o"],
    "tune.py": [],
}


def test_every_job_is_tried_here() -> None:
    assert sorted(DRY) == JOBS


@pytest.mark.parametrize("job", JOBS)
def test_help_and_dry_run_do_nothing(job: str, tmp_path: Path, run_job: Callable[..., Any]) -> None:
    text = run_job(tmp_path, job, "--help").stdout
    assert "usage:" in text
    module = ast.parse((ROOT / "jobs" / job).read_text())
    docstring = ast.get_docstring(module)
    assert docstring
    for line in docstring.splitlines():
        if line.startswith(("python ", "    ")):  # a command, or its second line
            assert line.strip() in map(str.strip, text.splitlines())
    if job != "ingest.py":  # which reads its manifest to say what it holds
        dry = run_job(tmp_path, job, *DRY[job], "--dry-run")
        assert dry.returncode == 0, dry.stderr
        assert dry.stdout.startswith("{")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("pretrain.py", ["best", "--cohort", "nowhere"], "nowhere: no cohort here"),
        ("pretrain.py", ["best", "--model.width", "65"], "width 65 must be a multiple"),
        ("fine_tune.py", ["--cohort", "nowhere"], "nowhere: no cohort here"),
        ("evaluate.py", ["hospitals", "--cohort", "nowhere"], "nowhere: no cohort here"),
        ("records/evaluate_findings.py", ["--cohort", "nowhere"], "nowhere: no cohort here"),
        ("learn_reader.py", ["--cohort", "nowhere"], "nowhere: no cohort here"),
        ("describe.py", ["--cohort", "nowhere"], "nowhere: no cohort here"),
        ("describe.py", [], "give either --cohort or --images"),
        ("describe.py", ["--images", "no.csv"], "no.csv: there is no such file"),
        ("diagnose.py", ["calibrate", "--cohort", "nowhere"], "nowhere: no cohort here"),
        ("diagnose.py", ["measure", "--record.claim", "much"], "needs both --record.claim"),
        ("ingest.py", ["--manifest", "no.csv", "--output", "o"], "no.csv"),
        ("report.py", ["--evaluation", "nowhere"], "nowhere"),
        (
            "fit_laboratory.py",
            ["--cohort", "nowhere", "--hospital", "h", "--output", "o"],
            "nowhere: no cohort here",
        ),
        (
            "records/realism.py",
            ["--simulated", "nowhere", "--output", "o"],
            "nowhere: no cohort here",
        ),
        (
            "records/realism.py",
            ["--simulated", "c", "--output", "o", "--laboratory", "l"],
            "--laboratory are about --real",
        ),
        ("simulate.py", ["--output", "o", "--laboratory", "l.json"], "l.json: there is no such"),
        ("simulate.py", ["--output", "o", "--scale", "0"], "scale is 0.0"),
        (
            "records/throughput.py",
            ["--gpu.peak-flop-per-s", "1e13"],
            "nobody reaches the data sheet",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    job: str, arguments: list[str], message: str, tmp_path: Path, run_job: Callable[..., Any]
) -> None:
    done = run_job(tmp_path, job, *arguments)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]


@pytest.mark.slow
def test_a_job_starts_from_anywhere(tmp_path: Path) -> None:
    """As a user starts it: nothing is imported yet."""
    command = [sys.executable, ROOT / "jobs" / "simulate.py", "--output", "here", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert '"output": "here"' in done.stdout


def test_unknown_options_are_refused(tmp_path: Path, run_job: Callable[..., Any]) -> None:
    done = run_job(tmp_path, "pretrain.py", "best", "--learning-rat", "1")
    assert done.returncode == 2
    assert "learning-rat" in done.stdout + done.stderr
