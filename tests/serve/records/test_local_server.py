"""Ray Serve in a child process: it answers, names its processes, and leaves nothing behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from homnet.errors import DataError
from homnet.processes import command_of, descendants
from homnet_serve.records.generator import Generator
from homnet_serve.records.local_server import LocalServer, serve_processes
from homnet_serve.records.material import MaterialConfig, make_material

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="only Linux tells")


def test_only_own_processes_are_found() -> None:
    # Named as Ray names its processes, by the first word of the command line.
    script = f"exec -a ray::ServeReplica:homnet:Endpoint {sys.executable} -c 'input()'"
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE) as child:
        deadline = time.monotonic() + 10
        while not command_of(child.pid).startswith("ray::"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert child.pid in serve_processes(os.getpid())["replica"]
        assert serve_processes(child.pid)["replica"] == [child.pid]
        assert serve_processes(child.pid)["proxy"] == []
        child.communicate(b"\n")
    assert child.pid not in serve_processes(os.getpid())["replica"]


@pytest.mark.slow
@pytest.mark.ray
def test_an_endpoint_in_a_child_process(tmp_path: Path) -> None:
    material = make_material(MaterialConfig(num_hospitals=2, num_patients=2, num_cells=1))
    secret, settings = material.publish(tmp_path)
    with LocalServer(tmp_path / "server.log") as server:
        server.deploy({**settings, "refresh_s": 60})
        processes = server.processes()
        assert {role: len(pids) for role, pids in processes.items()} == {
            "controller": 1,
            "proxy": 1,
            "replica": 1,
        }
        assert server.num_ready() == 1
        assert all(size > 20 * 2**20 for size in server.memory().values())
        load = Generator(server.url, secret, material.bodies("arrow")).closed(2, 0.5)
        assert set(load.statuses) == {"200"}
        # Another deployment takes the place of the first.
        server.deploy(settings, max_ongoing_requests=1)
        load = Generator(server.url, secret, material.bodies("json")).closed(1, 0.2)
        assert set(load.statuses) == {"200"}
        assert server.processes()["replica"] != processes["replica"]
        mine = descendants(server.pid)
        with pytest.raises(DataError, match=r"server\.log: the endpoint did not come up"):
            server.deploy({"registri": "x"})
    assert not any(command_of(pid).startswith("ray::") for pid in mine)
