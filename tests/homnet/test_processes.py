"""Who holds which connections."""

import os
import socket
import time
from pathlib import Path

import pytest

from homnet.processes import cpu_seconds, num_connections

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="only Linux tells")


def test_computing_counts_and_waiting_does_not() -> None:
    own, before = os.getpid(), time.process_time()
    assert cpu_seconds([own]) == pytest.approx(before, abs=0.1)
    time.sleep(0.3)
    while time.process_time() < before + 0.3:
        pass
    assert cpu_seconds([own, 2**22 + 1]) == pytest.approx(time.process_time(), abs=0.1)


def test_connections_are_counted_at_the_end_that_was_called() -> None:
    own = os.getpid()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert num_connections(own, port) == 0  # it listens, nobody has called
        with socket.create_connection(("127.0.0.1", port)) as caller, server.accept()[0]:
            assert num_connections(own, port) == 1
            assert num_connections(own, caller.getsockname()[1]) == 1
            assert num_connections(os.getppid(), port) == 0
        assert num_connections(own, port) == 0
    assert num_connections(2**22 + 1, port) == 0
