"""Clients of a drill: they send patients with known answers and count right and wrong answers."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeGuard

import httpx
import pyarrow as pa

from homnet_serve.client import Client, EndpointError, Retries
from homnet_serve.schemas import DiagnoseResponse

TOLERANCE: Final = 1e-5
"""Maximum difference of a number from batch evaluation, as in :func:`difference`."""
_PLACES: Final = ("mb", "low_mb", "high_mb")
PATIENT: Final = Retries(max_attempts=12, first_wait_s=0.1, max_wait_s=5.0)
"""Twelve attempts in about forty seconds: a replica or a node may be down for half of that."""


@dataclass(frozen=True)
class Known:
    """A patient and the expected answers."""

    pairs: pa.Table
    """Pairs of one patient, with the columns of :data:`homnet.cohorts.pairs.MEASURED`."""
    verdicts: Mapping[str, Mapping[str, Any]]
    """JSON of the verdict of batch evaluation, by registry version that may answer."""


@dataclass
class Tally:
    """Counts of answers over a period."""

    right: int = 0
    """Number of right answers."""
    wrong: int = 0
    """Number of wrong answers."""
    lost: int = 0
    """Number of requests without an answer after the last attempt."""
    absorbed: Counter[str] = field(default_factory=Counter)
    """Attempts without an answer, by status or error; includes last attempts of lost requests."""
    versions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Number of right answers by hospital and version; hospitals may share a version."""
    answered_s: list[float] = field(default_factory=list)
    """Time of each answer, right or wrong."""
    seconds: list[float] = field(default_factory=list)
    """Duration of each request, including all attempts."""
    reasons: list[str] = field(default_factory=list)
    """Reasons for lost requests and wrong answers."""

    def longest_gap(self, begin_s: float, end_s: float) -> float:
        """Longest period in seconds without an answer."""
        inside = sorted(at for at in self.answered_s if begin_s <= at <= end_s)
        times = [begin_s, *inside, end_s]
        return max(after - before for before, after in itertools.pairwise(times))


class _Counting(httpx.HTTPTransport):
    """Counts the outcome of every attempt."""

    def __init__(self, outcomes: list[str]) -> None:
        super().__init__()
        self._outcomes = outcomes

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        try:
            response = super().handle_request(request)
        except httpx.TransportError as error:
            self._outcomes.append(type(error).__name__)
            raise
        self._outcomes.append(str(response.status_code))
        return response


class SteadyClients:
    """Threads that send one request after the other until the context is left."""

    def __init__(self, url: str, key: str, known: Sequence[Known], num_clients: int) -> None:
        """Sets up clients, each with its own connection and the retries of the package.

        Args:
            url: URL of the endpoint.
            key: the API key.
            known: patients; each client cycles through all, starting at a different one.
            num_clients: number of threads.
        """
        self._url = url
        self._key = key
        self._known = known
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._tally = Tally()
        self._threads = [
            threading.Thread(target=self._work, args=(number,)) for number in range(num_clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def take(self) -> Tally:
        """Returns the counts since the last call."""
        with self._lock:
            tally, self._tally = self._tally, Tally()
        return tally

    def answered_by(self, hospital: str, version: str) -> int:
        """Number of right answers of a hospital's version since the last :meth:`take`."""
        with self._lock:
            return self._tally.versions[hospital, version]

    def _work(self, number: int) -> None:
        place = number
        outcomes: list[str] = []
        with Client(self._url, self._key, retries=PATIENT, transport=_Counting(outcomes)) as client:
            while True:
                known = self._known[place % len(self._known)]
                place += 1
                begin_s = time.monotonic()
                try:
                    answer = client.diagnose(known.pairs)
                except EndpointError as error:
                    with self._lock:
                        self._tally.lost += 1
                        self._tally.reasons.append(f"{error.status}: {error}")
                        self._tally.absorbed.update(outcomes)
                except Exception as error:  # an unreadable answer is wrong
                    self._count(type(error).__name__, ("", ""), outcomes, begin_s)
                else:
                    try:
                        model, fault = answer.models[0], _fault_of(answer, known)
                        by = (model.hospital, model.version)
                    except LookupError as error:
                        by, fault = ("", ""), f"an answer without what it must have: {error}"
                    self._count(fault, by, outcomes, begin_s)
                outcomes.clear()
                # Checked last: every client sends at least one request.
                if self._stop.is_set():
                    return

    def _count(
        self, fault: str, by: tuple[str, str], outcomes: Sequence[str], begin_s: float
    ) -> None:
        now = time.monotonic()
        with self._lock:
            if fault:
                self._tally.wrong += 1
                self._tally.reasons.append(fault)
            else:
                self._tally.right += 1
                self._tally.versions[by] += 1
            self._tally.answered_s.append(now)
            self._tally.seconds.append(now - begin_s)
            self._tally.absorbed.update(outcomes[:-1])


def _fault_of(answer: DiagnoseResponse, known: Known) -> str:
    """Describes the error in an answer; empty if the answer is right."""
    verdicts = [patient.verdict for patient in answer.patients]
    who = [(verdict.hospital, verdict.patient_id) for verdict in verdicts]
    if who != [(known.pairs["hospital"][0].as_py(), known.pairs["patient_id"][0].as_py())]:
        return f"asked about one patient, answered about {who}"
    version = answer.models[0].version
    expected = known.verdicts.get(version)
    if expected is None:
        return f"answered by a version that may not answer: {version[:12]}"
    found = difference(expected, verdicts[0].model_dump(), TOLERANCE)
    return f"the verdict differs from that of batch evaluation: {found}" if found else ""


def difference(expected: object, found: object, tolerance: float) -> str:
    """Describes where two JSON values differ.

    Args:
        expected: mappings, lists or tuples, strings, numbers, booleans, None.
        found: the same.
        tolerance: maximum difference of two numbers, absolute up to 1, relative above. Places of
            breakpoints may differ by a hundred times as much: they are quantiles, which move far
            with the last digit of a probability where the distribution is flat.

    Returns:
        Path of the first difference and both values, such as
        ``.types[2].evidence: 0.5, expected 0.4``; empty without a difference.
    """
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys([*expected, *found]):
            if key not in found:
                return f".{key}: missing"
            if key not in expected:
                return f".{key}: not expected"
            allowed = tolerance * (100 if key in _PLACES else 1)
            inside = difference(expected[key], found[key], allowed)
            if inside:
                return f".{key}{inside}"
        return ""
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        if len(expected) != len(found):
            return f": {len(found)} items, expected {len(expected)}"
        for number, pair in enumerate(zip(expected, found, strict=True)):
            inside = difference(*pair, tolerance)
            if inside:
                return f"[{number}]{inside}"
        return ""
    if _is_number(expected) and _is_number(found):
        equal = abs(expected - found) <= tolerance * max(1.0, abs(expected))
    else:
        equal = isinstance(expected, bool) == isinstance(found, bool) and expected == found
    return "" if equal else f": {found!r}, expected {expected!r}"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
