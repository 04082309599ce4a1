import os
import subprocess
import sys
from pathlib import Path

import pytest

from homnet_platform.memory import PeakMemory, tree_bytes

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").is_file(), reason="only Linux tells"
)


def test_memory_of_a_child_counts():
    before = tree_bytes(os.getpid())
    script = "held = b'x' * 200_000_000; print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"held\n"
        grown = tree_bytes(os.getpid()) - before
        child.communicate(b"\n")
    assert 180e6 < grown < 400e6


def test_the_peak_is_seen_even_of_a_short_run():
    with PeakMemory() as memory:
        pass
    assert memory.peak_bytes > 1e6
