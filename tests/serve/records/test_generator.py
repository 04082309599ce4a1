"""Load on an endpoint: what it counts."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from homnet_serve.bodies import ARROW_TYPE, JSON_TYPE
from homnet_serve.records.generator import Generator, Question


class _Slow(BaseHTTPRequestHandler):
    """Takes 50 ms for every answer."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.05)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def slow() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_clients_ask_one_request_after_the_other(slow: str) -> None:
    load = Generator(slow, "k", [Question(b"x", ARROW_TYPE)]).closed(4, 0.5, warm_up_s=0.1)
    # Each of four clients waits 50 ms for every answer: ten in half a second, and one begun before.
    assert 4 <= len(load.latency_s) <= 44
    assert load.seconds >= 0.5
    assert load.statuses == {"200": len(load.latency_s)}
    assert load.figures()["p50_ms"] > 50


def test_a_steady_rate_counts_the_time_in_the_queue(slow: str) -> None:
    looks: list[float] = []
    generator = Generator(slow, "k", [Question(b"x", ARROW_TYPE)])
    # One connection answers 20 a second; 40 a second are due, so the last waits half a second.
    load = generator.steady(40, 0.5, lambda: looks.append(time.time()), num_connections=1)
    assert len(load.latency_s) == 20
    assert max(load.latency_s) > 0.4
    assert len(looks) == 1


def test_refusals_and_dead_servers_are_counted(address: tuple[str, dict[str, str]]) -> None:
    url, _ = address
    load = Generator(url, "no key", [Question(b"{}", JSON_TYPE)]).closed(2, 0.2, warm_up_s=0)
    assert set(load.statuses) == {"401"}
    assert load.latency_s == []
    assert load.figures()["p50_ms"] is None
    dead = Generator("http://127.0.0.1:9", "k", [Question(b"{}", JSON_TYPE)]).closed(1, 0.05, 0)
    assert set(dead.statuses) == {"ConnectionRefusedError"}
