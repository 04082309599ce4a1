"""The Ray of a job lets nobody in who does not know its token."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

STUBBED = """
import json, os, sys
import ray
from ray._private.authentication.authentication_token_setup import (
    enable_token_auth_by_default, ensure_token_if_auth_enabled,
)
from ray._raylet import AuthenticationTokenLoader, get_authentication_mode
from homnet_platform.runtime import local_or_cluster

def init(**options):
    # As ray.init() does it before it starts anything.
    enable_token_auth_by_default()
    ensure_token_if_auth_enabled(None, create_token_if_missing=True)
    header = AuthenticationTokenLoader.instance().get_token_for_http_header()
    seen.append({
        "asks": int(get_authentication_mode()) == 1,
        "sends": header.get("authorization", ""),
        "mode": os.environ.get("RAY_AUTH_MODE"),
        "token": os.environ.get("RAY_AUTH_TOKEN"),
    })

seen = []
ray.init = init
for _ in range(2):
    with local_or_cluster():
        pass
print(json.dumps(seen))
"""
STARTED = """
import functools, json, urllib.error, urllib.request
import ray
from ray._private.parameter import RayParams
from homnet_platform.runtime import local_or_cluster

# The usual port is taken where another Ray runs; the agent is then not reached at all.
RayParams.__init__ = functools.partialmethod(RayParams.__init__, dashboard_agent_listen_port=0)

@ray.remote
def answer():
    return 42

def status(header):
    port = ray._private.worker.global_worker.node.dashboard_agent_listen_port
    request = urllib.request.Request(
        f"http://{ray.util.get_node_ip_address()}:{port}/api/job_agent/jobs/",
        data=json.dumps({"entrypoint": "true"}).encode(),
        headers={"Content-Type": "application/json", **header},
    )
    try:
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code

with local_or_cluster():
    assert ray.get(answer.remote()) == 42
    print(json.dumps([status({}), status({"Authorization": "Bearer " + "0" * 64})]))
"""


def _run(program: str, home: Path, **environment: str) -> Any:
    """What a program prints, in a process of a user whose home is empty."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "HOME": str(home)}
        | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_local_ray_asks_for_a_token_of_its_own_and_writes_it_nowhere(tmp_path: Path) -> None:
    first, second = _run(STUBBED, tmp_path)
    assert first["asks"]
    assert first["mode"] == "token"
    assert len(bytes.fromhex(first["token"])) == 32
    # The driver sends what its servers, which inherit the environment, want.
    assert first["sends"] == f"Bearer {first['token']}"
    # Ray remembers a token that it has read: the next Ray of the process has the same.
    assert second == first
    assert not list(tmp_path.iterdir())
    (another, _) = _run(STUBBED, tmp_path)
    assert another["token"] != first["token"]


@pytest.mark.parametrize(
    ("environment", "mode", "sends"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "disabled", ""),
        ({"RAY_AUTH_TOKEN": "mine"}, "token", "Bearer mine"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "mine"}, "token", "Bearer mine"),
        ({"RAY_AUTH_TOKEN_PATH": "{file}"}, "token", "Bearer written"),
    ],
)
def test_what_the_user_chose_stays(
    tmp_path: Path, environment: Mapping[str, str], mode: str, sends: str
) -> None:
    file = tmp_path / "token"
    file.write_text("written")
    given = {name: value.format(file=file) for name, value in environment.items()}
    found, _ = _run(STUBBED, tmp_path, **given)
    assert (found["mode"], found["token"]) == (mode, given.get("RAY_AUTH_TOKEN"))
    if sends:
        assert found["sends"] == sends
    assert found["asks"] == (mode == "token")


@pytest.mark.slow
@pytest.mark.ray
def test_the_node_agent_takes_no_job_without_the_token(tmp_path: Path) -> None:
    assert _run(STARTED, tmp_path, RAY_USAGE_STATS_ENABLED="0") == [401, 403]
    assert not (tmp_path / ".ray").exists()
