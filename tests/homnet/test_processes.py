"""Who holds which connections."""

import os
import socket
from pathlib import Path

import pytest

from homnet.processes import num_connections

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="only Linux tells")


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
