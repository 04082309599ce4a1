import resource
import subprocess
import sys

import pytest

FAULTS = """
import resource, numpy
from homnet.model.allocator import keep_freed_memory
told = {keep} and keep_freed_memory()
for _ in range(3):
    arrays = [numpy.ones(300_000) for _ in range(8)]
    del arrays
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    arrays = [numpy.ones(300_000) for _ in range(8)]
    del arrays
print(int(told), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True
    )
    told, number = done.stdout.split()
    return int(told), int(number)


def test_freed_arrays_are_used_again() -> None:
    told, kept = faults(keep=True)
    if not told:
        pytest.skip("the C library has no mallopt")
    # The arrays of one round have 19.2 MB.
    round_pages = 8 * 300_000 * 8 // resource.getpagesize()
    assert kept < round_pages < faults(keep=False)[1]
