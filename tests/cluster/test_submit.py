"""``ray job submit`` to a cluster with token authentication, from a checkout and from the wheel.

The nodes have the dependencies and not HomNet: what runs there was shipped with the job.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from homnet.cohorts.cohort import Cohort

ROOT = Path(__file__).parents[2]
FROM_CHECKOUT = {"env_vars": {"PYTHONPATH": ".:platform:baselines:serve"}}
TINY = ("--num-healthy", "2", "--healthy-cells", "1", "--num-patients", "0", "0", "0", "0")

# One process takes all tests: when three started a Ray each at once, two of the starts timed out.
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("submitted")]


@dataclass(frozen=True)
class Nodes:
    """A cluster of one node, as a user meets it."""

    python: Path
    address: str
    environment: Mapping[str, str]

    def submit(
        self,
        folder: Path,
        *entrypoint: str | Path,
        runtime_env: Mapping[str, object] | None = None,
        **environment: str,
    ) -> "subprocess.CompletedProcess[str]":
        """What is typed in ``folder``."""
        return subprocess.run(
            [
                *(self.python, "-m", "ray.scripts.scripts", "job", "submit"),
                *("--address", self.address, "--working-dir", "."),
                *("--runtime-env-json", json.dumps(runtime_env or {})),
                *("--", "python", *map(str, entrypoint)),
            ],
            cwd=folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A started Ray that only this module knows, and that ends with it."""
    home = tmp_path_factory.mktemp("nodes")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True)
    site = sysconfig.get_path("purelib", vars={"base": str(home / "venv")})
    # The folder of the dependencies, but not the .pth file in it that leads on to this checkout.
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    python = home / "venv" / "bin" / "python"
    # Sockets have short names, and pytest's folders long ones.
    temporary = Path(tempfile.mkdtemp(prefix="ray-"))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHON"))}
    environment = kept | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
    }
    gcs, dashboard, client, agent, metrics = _free_ports(5)
    log = (home / "ray.log").open("w")
    head = subprocess.Popen(
        [
            *(python, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
            *(f"--port={gcs}", f"--dashboard-port={dashboard}", "--num-cpus=2"),
            *(f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"),
            *(f"--metrics-export-port={metrics}", "--object-store-memory=100000000"),
            *("--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={temporary}"),
        ],
        cwd=home,
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_for(dashboard, head, home / "ray.log")
        yield Nodes(python, f"http://127.0.0.1:{dashboard}", environment)
    finally:
        # Ray's other processes end with the one that blocks.
        head.terminate()
        head.wait(timeout=60)
        log.close()
        shutil.rmtree(temporary, ignore_errors=True)


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_for(port: int, head: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and head.poll() is None:
        # Its last line, after the dashboard answers.
        if "This command will now block" in log.read_text():
            return
        time.sleep(0.3)
    raise AssertionError(f"no Ray at port {port}:\n{log.read_text()}")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What cluster/README.md tells a user of the wheel to make: its packages, jobs beside them."""
    folder = tmp_path_factory.mktemp("bundle")
    wheels = tmp_path_factory.mktemp("wheel")
    build = ["build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)]
    subprocess.run([sys.executable, "-m", *build], check=True, capture_output=True)
    (wheel,) = wheels.glob("homnet-*.whl")
    install = ["pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True)
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    return folder


def test_the_nodes_have_no_homnet(nodes: Nodes, tmp_path: Path) -> None:
    """Or the tests below would show nothing."""
    program = "import ray, torch; import homnet"
    done = subprocess.run(
        [nodes.python, "-c", program],
        cwd=tmp_path,
        env=nodes.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'homnet'" in done.stderr


def test_jobs_run_from_a_checkout_and_from_the_wheel(
    nodes: Nodes, bundle: Path, tmp_path: Path
) -> None:
    def submit(name: str) -> subprocess.CompletedProcess[str]:
        job = ("jobs/simulate.py", "--output", tmp_path / name, *TINY)
        if name == "wheel":
            return nodes.submit(bundle, *job)
        return nodes.submit(ROOT, *job, runtime_env=FROM_CHECKOUT)

    with ThreadPoolExecutor() as pool:
        for done in pool.map(submit, ("checkout", "wheel")):
            assert done.returncode == 0, done.stdout + done.stderr
    cohorts = [Cohort.open(tmp_path / name) for name in ("checkout", "wheel")]
    assert [cohort.num_patients for cohort in cohorts] == [2, 2]
    assert cohorts[0].fingerprint == cohorts[1].fingerprint


def test_a_mistake_ends_as_failed_with_one_sentence(
    nodes: Nodes, bundle: Path, tmp_path: Path
) -> None:
    done = nodes.submit(bundle, "jobs/describe.py", "--cohort", tmp_path / "nowhere")
    assert done.returncode != 0
    printed = done.stdout + done.stderr
    assert "failed" in printed
    assert f"error: {tmp_path / 'nowhere'}: no cohort here" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}, "Missing authentication token"),
        ({"RAY_AUTH_TOKEN": "0" * 32}, "Invalid authentication token"),
    ],
)
def test_nobody_gets_in_without_the_token(
    nodes: Nodes, bundle: Path, environment: dict[str, str], reason: str
) -> None:
    done = nodes.submit(bundle, "jobs/registry.py", "list", **environment)
    assert done.returncode != 0
    assert reason in done.stdout + done.stderr
    assert "submitted successfully" not in done.stdout + done.stderr
