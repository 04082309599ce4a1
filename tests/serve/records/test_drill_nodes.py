"""A cluster whose nodes can be killed: what is killed goes, and another takes its place."""

import os
from pathlib import Path

import pytest

from homnet.processes import command_of, descendants
from homnet_serve.records.drill_nodes import Nodes

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="only Linux tells")


def _raylets() -> set[int]:
    pids = descendants(os.getpid())
    return {pid for pid in pids if Path(command_of(pid).split(" ")[0]).name == "raylet"}


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_node_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    others = _raylets()
    with Nodes(1, back_s=60) as nodes:
        assert nodes.address
        before = _raylets() - others
        nodes.kill_one()
        after = _raylets() - others
        assert (len(before), len(after), len(before & after)) == (2, 2, 1)
    assert _raylets() == others
