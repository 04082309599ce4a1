"""The endpoint on this machine: it answers rightly out of the box, and ends as asked."""

import runpy
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from homnet.errors import ConfigError
from homnet.processes import free_port
from homnet_serve.client import Client, EndpointError
from homnet_serve.schemas import DiagnoseResponse

JOB = Path(__file__).parents[2] / "jobs" / "serve_demo.py"


def _answered(client: Client, pairs: pa.Table) -> DiagnoseResponse:
    """The answer, on a machine that other tests may keep busy beyond the endpoint's patience."""
    while True:  # or until the test's timer ends the endpoint
        try:
            return client.diagnose(pairs, pages="all")
        except EndpointError as error:
            if error.status != 504:
                raise


@pytest.mark.ray
@pytest.mark.slow
def test_it_answers_for_the_example_and_ends_at_sigterm(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, str(JOB), f"--work={tmp_path}", f"--port={port}", "--num-threads=1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        guard = threading.Timer(500, process.kill)
        guard.start()
        assert process.stdout
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "Ctrl-C ends it.\n":
                said = dict(
                    one.split(maxsplit=1) for one in lines if one.startswith(("key", "exam"))
                )
                with pa.ipc.open_stream(said["example:"].strip()) as stream:
                    pairs = stream.read_all()
                with Client(f"http://127.0.0.1:{port}", said["key:"].strip()) as client:
                    (patient,) = _answered(client, pairs).patients
                process.terminate()
        guard.cancel()
    text = "".join(lines)
    assert process.returncode == 0, text
    assert lines.count("ending\n") == 1, text
    assert "Traceback" not in text
    verdict = patient.verdict
    assert verdict.decision == "abnormal"
    (flagged,) = verdict.flagged
    (kind,) = (one for one in verdict.types if one.chromosome == flagged)
    assert kind.draft is not None
    assert patient.page is not None


def test_a_second_endpoint_does_not_share_the_port_of_the_first(tmp_path: Path) -> None:
    job = runpy.run_path(str(JOB), run_name="job")
    with socket.socket() as other:
        # As Ray's proxy listens.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port}: cannot be used"):
            job["main"](job["ServeDemoConfig"](work=tmp_path / "work", port=port))
    assert not (tmp_path / "work").exists()
