import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from homnet.processes import tree_bytes
from homnet_platform.memory import peak_memory, peak_object_store

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
    with peak_memory() as memory:
        pass
    assert memory.peak_bytes > 1e6


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_object_store_is_watched():
    import ray

    with peak_object_store() as store:
        held = ray.put(np.zeros(50_000_000, np.uint8))
        time.sleep(2.0)  # nodes report once in a while
        del held
    assert 50e6 <= store.peak_bytes < 150e6
