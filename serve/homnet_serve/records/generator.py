"""Generates load on an endpoint from one process: closed-loop clients or a fixed request rate.

In a load test the clients share the cores with the server, so they do as little work as possible:
threads with plain persistent connections.
"""

import http.client
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import numpy as np


@dataclass
class Load:
    """Outcome of a load."""

    seconds: float = 0.0
    """Duration of the load."""
    latency_s: list[float] = field(default_factory=list)
    """Latency in seconds of each answer with status 200."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Number of answers by status; requests without an answer are counted by error name."""

    def add(self, other: "Load") -> None:
        """Adds the outcome of another load at the same time."""
        self.latency_s += other.latency_s
        self.statuses += other.statuses

    def figures(self) -> dict[str, Any]:
        """Figures for a result of record; latencies in milliseconds."""
        p50, p99 = np.percentile(self.latency_s, [50, 99]) * 1e3 if self.latency_s else (None, None)
        return {
            "seconds": round(self.seconds, 2),
            "answers": len(self.latency_s),
            "p50_ms": None if p50 is None else round(float(p50), 2),
            "p99_ms": None if p99 is None else round(float(p99), 2),
            "patients_per_second": round(len(self.latency_s) / self.seconds, 2),
            "statuses": dict(self.statuses),
        }


@dataclass(frozen=True)
class Question:
    """The body of a request with one patient."""

    content: bytes
    media_type: str


class _Asker:
    """One client with one connection, without retries: every failure counts."""

    def __init__(self, url: str, key: str, load: Load) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"Authorization": f"Bearer {key}"}
        self._connection = self._connect()
        self.load = load

    def ask(self, question: Question, asked_s: float | None = None) -> None:
        """Sends a request; its latency counts from the due time ``asked_s``, if given."""
        begin_s = time.perf_counter() if asked_s is None else asked_s
        headers = {**self._headers, "Content-Type": question.media_type}
        try:
            self._connection.request("POST", "/v1/diagnose", question.content, headers)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self.load.statuses[type(error).__name__] += 1
            self._connection.close()
            self._connection = self._connect()
            return
        self.load.statuses[str(response.status)] += 1
        if response.status == 200:
            self.load.latency_s.append(time.perf_counter() - begin_s)

    def close(self) -> None:
        self._connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._address, timeout=60)


class Generator:
    """Sends requests to one endpoint repeatedly."""

    def __init__(self, url: str, key: str, questions: Sequence[Question]) -> None:
        """Sets up a generator.

        Args:
            url: URL of the endpoint.
            key: the API key.
            questions: sent in turn.
        """
        self._url = url
        self._key = key
        self._questions = questions
        self._numbers = count()

    def closed(self, num_clients: int, seconds: float, warm_up_s: float = 1.0) -> Load:
        """Runs clients that send the next request as soon as they have an answer.

        Args:
            num_clients: number of clients.
            seconds: duration; pending requests are completed.
            warm_up_s: seconds of uncounted load before the measurement.
        """
        load = Load()
        for length_s in (warm_up_s, seconds):
            load = Load()
            begin_s = time.perf_counter()
            deadline = begin_s + length_s

            def work(asker: _Asker, deadline: float = deadline) -> None:
                # Every client sends at least one request, even in a short load on a slow machine.
                asker.ask(self._next())
                while time.perf_counter() < deadline:
                    asker.ask(self._next())

            self._together(work, num_clients, load)
            load.seconds = time.perf_counter() - begin_s
        return load

    def steady(
        self,
        requests_per_second: float,
        seconds: float,
        every_10_s: Callable[[], None],
        num_connections: int = 64,
    ) -> Load:
        """Sends requests at a fixed rate, whether or not earlier ones are answered.

        Latency counts from the due time of a request, so it includes the wait for a connection.

        Args:
            requests_per_second: the rate.
            seconds: duration.
            every_10_s: called every ten seconds, for example to measure memory.
            num_connections: maximum number of concurrent requests.
        """
        load = Load()
        due: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        begin_s = time.perf_counter()
        looks: list[Future[None]] = []

        def keep_time() -> None:
            next_look_s = begin_s
            for number in range(int(requests_per_second * seconds)):
                at_s = begin_s + number / requests_per_second
                time.sleep(max(at_s - time.perf_counter(), 0))
                due.put(at_s)
                if at_s >= next_look_s:
                    next_look_s += 10.0
                    # In another thread: measuring memory takes longer than a request.
                    looks.append(looking.submit(every_10_s))
            for _ in range(num_connections):
                due.put(None)

        def work(asker: _Asker) -> None:
            for at_s in iter(due.get, None):
                asker.ask(self._next(), at_s)

        with ThreadPoolExecutor(1) as looking:
            clock = threading.Thread(target=keep_time)
            clock.start()
            self._together(work, num_connections, load)
            clock.join()
            load.seconds = time.perf_counter() - begin_s
        for look in looks:
            look.result()
        return load

    def _together(self, work: Callable[[_Asker], None], num_clients: int, load: Load) -> None:
        askers = [_Asker(self._url, self._key, Load()) for _ in range(num_clients)]
        with ThreadPoolExecutor(num_clients) as pool:
            done: Iterable[None] = pool.map(work, askers)
            for _ in done:
                pass
        for asker in askers:
            load.add(asker.load)
            asker.close()

    def _next(self) -> Question:
        return self._questions[next(self._numbers) % len(self._questions)]
