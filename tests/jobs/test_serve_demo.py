"""The demonstration's endpoint: what it takes for a demonstration, and how it ends."""

import runpy
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from homnet.calibration.bags import Calibration
from homnet.cohorts.cohort import write_cohort
from homnet.errors import DataError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, HomNetConfig
from homnet_serve.records.local_server import free_port

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "serve_demo.py"


@pytest.fixture
def demonstration(tmp_path: Path, table_of: Any) -> Path:
    """A finished one, as jobs/demo.py leaves it."""
    write_cohort(
        tmp_path / "cohort",
        [table_of("h1", num_cells=2, chromosomes=("1", "21"), abnormal="21")],
        scale={"h1": 3.0},
        provenance={"made by": "test"},
    )
    form = HomNetConfig(width=8, pair_width=12, num_heads=2)
    checkpoint = Checkpoint(form, HomNet(form).state_dict(), calibration={"h1": Calibration(0.5)})
    checkpoint.save(tmp_path / "fine_tune" / "h1" / "checkpoint")
    (tmp_path / ".homnet-demo").write_text("finished\n")
    return tmp_path


def test_a_half_made_demonstration_is_made_anew(
    demonstration: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = runpy.run_path(str(JOB))
    asked = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(subprocess, "run", run)
    (demonstration / ".homnet-demo").write_text("")  # killed while it fine-tuned
    with pytest.raises(DataError, match="the demonstration failed"):
        job["main"](job["ServeDemoConfig"](work=demonstration))
    (command,) = asked
    assert command[1:] == [str(JOB.with_name("demo.py")), "--work", str(demonstration)]


@pytest.mark.ray
@pytest.mark.slow
def test_sigterm_ends_it_cleanly(demonstration: Path) -> None:
    command = [sys.executable, str(JOB), f"--work={demonstration}", f"--port={free_port()}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        guard = threading.Timer(240, process.kill)
        guard.start()
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "Ctrl-C ends it.\n":
                process.terminate()
        guard.cancel()
    said = "".join(lines)
    assert process.returncode == 0, said
    assert "key:     homnet-" in said
    assert lines.count("ending\n") == 1, said
    assert "Traceback" not in said
