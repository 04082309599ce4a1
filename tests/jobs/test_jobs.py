"""Every job as a user meets it: help, dry run, and errors as one sentence with exit code 2."""

import ast
import multiprocessing
import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
JOBS = sorted(path.relative_to(ROOT / "jobs").as_posix() for path in (ROOT / "jobs").rglob("*.py"))
DRY = {
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
    "records/orientation.py": [],
    "records/realism.py": ["--simulated", "c", "--output", "o"],
    "records/render_tables.py": [],
    "records/reproduce.py": ["2"],
    "records/ship_model.py": [],
    "records/throughput.py": [],
    "records/treat_images.py": ["--manifest", "m.csv"],
    "registry.py": ["list"],
    "report.py": ["--evaluation", "e"],
    "serve_demo.py": [],
    "simulate.py": ["--output", "o"],
    "tune.py": [],
}

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "homnet_baselines.one_class",
        "homnet_platform.evaluation",
        "homnet_platform.tuning",
        "homnet_serve.deployment",
    ]
)


@dataclass(frozen=True)
class _Done:
    returncode: int
    stdout: str
    stderr: str


def _run(cwd: Path, job: str, *arguments: str) -> _Done:
    """Runs a job in a process of its own, forked from one that has imported the packages.

    Importing torch and Ray takes seconds, a hundred times over.
    """
    printed = [cwd.parent / f"{cwd.name}.{name}" for name in ("stdout", "stderr")]
    process = _SERVER.Process(target=_job, args=(cwd, job, arguments, *printed))
    process.start()
    process.join(timeout=300)
    assert process.exitcode is not None, f"{job} {arguments} did not end"
    return _Done(process.exitcode, *(path.read_text() for path in printed))


def _job(cwd: Path, job: str, arguments: tuple[str, ...], stdout: Path, stderr: Path) -> None:
    os.chdir(cwd)
    path = str(ROOT / "jobs" / job)
    sys.argv = [path, *arguments]
    with stdout.open("w") as out, stderr.open("w") as err:
        sys.stdout, sys.stderr = out, err
        runpy.run_path(path, run_name="__main__")


def test_every_job_is_tried_here() -> None:
    assert sorted(DRY) == JOBS


@pytest.mark.parametrize("job", JOBS)
def test_help_and_dry_run_do_nothing(job: str, tmp_path: Path) -> None:
    text = _run(tmp_path, job, "--help").stdout
    assert "usage:" in text
    module = ast.parse((ROOT / "jobs" / job).read_text())
    docstring = ast.get_docstring(module)
    assert docstring
    for line in docstring.splitlines():
        if line.startswith(("python ", "    ")):  # a command, or its second line
            assert line.strip() in map(str.strip, text.splitlines())
    if job != "ingest.py":  # which reads its manifest to say what it holds
        dry = _run(tmp_path, job, *DRY[job], "--dry-run")
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
    job: str, arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = _run(tmp_path, job, *arguments)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]


def test_a_job_starts_from_anywhere(tmp_path: Path) -> None:
    """As a user starts it: nothing is imported yet."""
    command = [sys.executable, ROOT / "jobs" / "pretrain.py", "paper", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "parameters: 3" in done.stdout
    assert "FLOPs per bag" in done.stdout


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    done = _run(tmp_path, "pretrain.py", "best", "--learning-rat", "1")
    assert done.returncode == 2
    assert "learning-rat" in done.stdout + done.stderr
