"""Load on an endpoint from one process: clients that ask one request after the other, or a rate."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np


@dataclass
class Load:
    """What came of some load."""

    seconds: float = 0.0
    """How long it took."""
    latency_s: list[float] = field(default_factory=list)
    """Of each answer with status 200."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Answers by status; what was no answer, by the name of its error."""
    patients: int = 0
    """Patients answered."""

    def figures(self) -> dict[str, Any]:
        """For a result of record; latencies in milliseconds."""
        p50, p99 = np.percentile(self.latency_s, [50, 99]) * 1e3 if self.latency_s else (None, None)
        return {
            "seconds": round(self.seconds, 2),
            "answers": len(self.latency_s),
            "p50_ms": None if p50 is None else round(float(p50), 2),
            "p99_ms": None if p99 is None else round(float(p99), 2),
            "patients_per_second": round(self.patients / self.seconds, 2),
            "statuses": dict(self.statuses),
        }


@dataclass(frozen=True)
class Question:
    """A body, and how many patients it asks about."""

    content: bytes
    media_type: str
    num_patients: int = 1


class Generator:
    """Asks the same endpoint again and again, without retries: every failure counts."""

    def __init__(self, url: str, key: str, questions: Sequence[Question]) -> None:
        """Sets up a generator.

        Args:
            url: of the endpoint.
            key: the API key.
            questions: asked in turns.
        """
        self._url = url
        self._key = key
        self._questions = questions
        self._number = 0

    def closed(self, num_clients: int, seconds: float, warm_up_s: float = 1.0) -> Load:
        """Clients that ask the next question as soon as they have an answer.

        Args:
            num_clients: how many at a time.
            seconds: how long; begun requests are finished.
            warm_up_s: load before that, which is not counted.
        """
        return asyncio.run(self._closed(num_clients, seconds, warm_up_s))

    def steady(
        self, requests_per_second: float, seconds: float, every_10_s: Callable[[], None]
    ) -> Load:
        """Requests at a fixed rate, whether or not earlier ones are answered.

        Args:
            requests_per_second: the rate.
            seconds: how long.
            every_10_s: called every ten seconds, for example to look at memory.
        """
        return asyncio.run(self._steady(requests_per_second, seconds, every_10_s))

    async def _closed(self, num_clients: int, seconds: float, warm_up_s: float) -> Load:
        async with self._client(num_clients) as client:

            async def ask_until(deadline: float, load: Load) -> None:
                while time.perf_counter() < deadline:
                    await self._ask(client, load)

            for length_s, load in ((warm_up_s, Load()), (seconds, Load())):
                begin_s = time.perf_counter()
                await asyncio.gather(
                    *(ask_until(begin_s + length_s, load) for _ in range(num_clients))
                )
                load.seconds = time.perf_counter() - begin_s
        return load

    async def _steady(
        self, requests_per_second: float, seconds: float, every_10_s: Callable[[], None]
    ) -> Load:
        load = Load()
        async with self._client(256) as client, asyncio.TaskGroup() as tasks:
            begin_s = time.perf_counter()
            next_look_s = 0.0
            for number in range(int(requests_per_second * seconds)):
                due_s = number / requests_per_second
                await asyncio.sleep(begin_s + due_s - time.perf_counter())
                if due_s >= next_look_s:
                    next_look_s += 10.0
                    await asyncio.to_thread(every_10_s)
                tasks.create_task(self._ask(client, load))
        load.seconds = time.perf_counter() - begin_s
        return load

    def _client(self, num_connections: int) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._url,
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=60.0,
            limits=httpx.Limits(max_connections=num_connections),
        )

    async def _ask(self, client: httpx.AsyncClient, load: Load) -> None:
        question = self._questions[self._number % len(self._questions)]
        self._number += 1
        begin_s = time.perf_counter()
        try:
            response = await client.post(
                "/v1/diagnose",
                content=question.content,
                headers={"Content-Type": question.media_type},
            )
        except httpx.TransportError as error:
            load.statuses[type(error).__name__] += 1
            return
        load.statuses[str(response.status_code)] += 1
        if response.status_code == 200:
            load.latency_s.append(time.perf_counter() - begin_s)
            load.patients += question.num_patients
