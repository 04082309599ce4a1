"""Python clients of an endpoint: a blocking one and one for asyncio.

Requests are idempotent, so the client may retry under the same request id. It does so on 429 and
503 (after the seconds of Retry-After), on connection failures, and on a 500 or 502 without the
endpoint's own error body, by which Ray's proxy reports a lost replica. Other errors are raised at
once.
"""

import asyncio
import io
import random
import time
import uuid
import zipfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import httpx
import pyarrow as pa

from homnet.cohorts.pairs import MEASURED
from homnet.errors import HomNetError
from homnet_serve.archives import ZIP_TYPE
from homnet_serve.arrow_stream import write_stream
from homnet_serve.bodies import ARROW_TYPE
from homnet_serve.karyogram_zips import CORRECTIONS
from homnet_serve.schemas import (
    Correction,
    Corrections,
    DiagnoseResponse,
    ErrorBody,
    KaryogramsResponse,
    ModelOfHospital,
    ModelsResponse,
)

_RETRIED: Final = (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class EndpointError(HomNetError):
    """The endpoint refused the request or could not be reached."""

    def __init__(self, status: int | None, code: str, message: str, request_id: str) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; None if there was no response."""
        self.code = code
        self.request_id = request_id
        """The endpoint's id of the request; the client's own if it gave none."""


@dataclass(frozen=True)
class Retries:
    """Maximum number of attempts and the waits between them."""

    max_attempts: int = 5
    """Total number of attempts."""
    first_wait_s: float = 0.2
    """Wait before the second attempt. It doubles with each attempt; half of it is random."""
    max_wait_s: float = 10.0
    """Maximum wait, even if Retry-After asks for more."""

    def waits(self) -> Iterator[float]:
        """Yields the seconds to wait before each further attempt."""
        for attempt in range(self.max_attempts - 1):
            wait_s = min(self.first_wait_s * 2**attempt, self.max_wait_s)
            yield wait_s * (0.5 + 0.5 * random.random())


@dataclass(frozen=True)
class _Request:
    """A request, and the function that parses its response."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None = None
    params: Mapping[str, str] | None = None

    @property
    def request_id(self) -> str:
        return self.headers["X-Request-Id"]

    def checked(self, response: httpx.Response) -> bytes:
        if response.is_success:
            return response.content
        body = _own_words(response)
        raise EndpointError(
            response.status_code,
            body.code if body else "unknown",
            body.message if body else f"the server answered {response.status_code}",
            body.request_id if body else self.request_id,
        )

    def unreachable(self, error: Exception) -> EndpointError:
        return EndpointError(
            None,
            "unreachable",
            f"the endpoint cannot be reached ({type(error).__name__}); is the address right?",
            self.request_id,
        )


def _asking(
    request: _Request, retries: Retries
) -> Generator[float, httpx.Response | httpx.TransportError, bytes]:
    """Yields the wait before each attempt, receives its outcome, and returns the content."""
    waits = retries.waits()
    wait_s = 0.0
    while True:
        outcome = yield wait_s
        next_wait_s = next(waits, None)
        if isinstance(outcome, httpx.TransportError):
            if next_wait_s is None or not isinstance(outcome, _RETRIED):
                raise request.unreachable(outcome)
            wait_s = next_wait_s
        elif next_wait_s is not None and _is_passing(outcome):
            asked = outcome.headers.get("retry-after", "")
            asked_s = float(asked) if asked.isdecimal() else 0.0
            wait_s = min(max(next_wait_s, asked_s), retries.max_wait_s)
        else:
            return request.checked(outcome)


def _pairs_request(pairs: pa.Table, request_id: str | None, options: Mapping[str, str]) -> _Request:
    content = write_stream(pairs.select(MEASURED.names).cast(MEASURED))
    headers = _headers(request_id, ARROW_TYPE)
    return _Request("POST", "/v1/diagnose", headers, content, options)


def _images_request(archive: bytes, request_id: str | None, options: Mapping[str, str]) -> _Request:
    return _Request("POST", "/v1/diagnose/images", _headers(request_id, ZIP_TYPE), archive, options)


def _read_request(
    files: Mapping[str, bytes], request_id: str | None, options: Mapping[str, str]
) -> _Request:
    headers = _headers(request_id, ZIP_TYPE)
    return _Request("POST", "/v1/karyograms", headers, _zipped(files), options)


def _karyograms_request(
    files: Mapping[str, bytes],
    corrections: Sequence[Correction],
    request_id: str | None,
    options: Mapping[str, str],
) -> _Request:
    content = _zipped(
        {**files, CORRECTIONS: Corrections(list(corrections)).model_dump_json().encode()}
    )
    headers = _headers(request_id, ZIP_TYPE)
    return _Request("POST", "/v1/diagnose/karyograms", headers, content, options)


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip of files that are packed already."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, file in files.items():
            archive.writestr(name, file)
    return content.getvalue()


def _models_request() -> _Request:
    return _Request("GET", "/v1/models", {"X-Request-Id": uuid.uuid4().hex})


def _headers(request_id: str | None, content_type: str) -> dict[str, str]:
    return {"X-Request-Id": request_id or uuid.uuid4().hex, "Content-Type": content_type}


def _is_passing(response: httpx.Response) -> bool:
    """Whether a later retry of the same request may succeed."""
    if response.status_code in (500, 502):
        return _own_words(response) is None
    return response.status_code in (429, 503)


def _own_words(response: httpx.Response) -> ErrorBody | None:
    """The error body of the endpoint; None if the response comes from a proxy."""
    try:
        return ErrorBody.model_validate_json(response.content)
    except ValueError:
        return None


class Client:
    """A blocking client, safe to use from several threads.

    Every request raises :class:`EndpointError` if the endpoint refuses it or cannot be reached.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        retries: Retries | None = None,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Sets up a client.

        Args:
            url: URL of the endpoint, for example ``https://homnet.example``.
            key: the API key.
            retries: retry policy.
            timeout_s: timeout of one attempt.
            transport: httpx transport, for tests and special networks.
        """
        self._retries = retries or Retries()
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_s,
            transport=transport,
        )

    def diagnose(
        self, pairs: pa.Table, *, request_id: str | None = None, **options: str
    ) -> DiagnoseResponse:
        """Sends the pairs of some patients and returns the verdicts on them.

        Args:
            pairs: a table with the columns of :data:`homnet.cohorts.pairs.MEASURED`; other
                columns are not sent.
            request_id: the caller's id of the request; a new one by default.
            options: ``sequences``, ``pages``, ``samples_per_px``.
        """
        content = self._send(_pairs_request(pairs, request_id, options))
        return DiagnoseResponse.model_validate_json(content)

    def diagnose_images(
        self,
        archive: bytes,
        *,
        request_id: str | None = None,
        **options: str,
    ) -> DiagnoseResponse:
        """Sends a zip of images with its manifest.csv and returns the verdicts on its patients.

        Args:
            archive: the zip.
            request_id: the caller's id of the request; a new one by default.
            options: ``hospital``, ``band_level``, ``sequences``, ``pages``, ``samples_per_px``.
        """
        content = self._send(_images_request(archive, request_id, options))
        return DiagnoseResponse.model_validate_json(content)

    def read_karyograms(
        self, files: Mapping[str, bytes], *, request_id: str | None = None, **options: str
    ) -> KaryogramsResponse:
        """Sends pictures of karyograms and returns what is found on them.

        Args:
            files: pictures by name, perhaps with ``layout.csv``.
            request_id: the caller's id of the request; a new one by default.
            options: ``preview``.
        """
        content = self._send(_read_request(files, request_id, options))
        return KaryogramsResponse.model_validate_json(content)

    def diagnose_karyograms(
        self,
        files: Mapping[str, bytes],
        corrections: Sequence[Correction] = (),
        *,
        request_id: str | None = None,
        **options: str,
    ) -> DiagnoseResponse:
        """Sends pictures of karyograms and returns the verdicts on their patients.

        Args:
            files: pictures by name, perhaps with ``cells.csv`` and ``layout.csv``.
            corrections: types that a person corrected.
            request_id: the caller's id of the request; a new one by default.
            options: ``hospital``, ``patient_id``, ``band_level``, ``px_per_um``, ``sequences``,
                ``pages``, ``samples_per_px``.
        """
        content = self._send(_karyograms_request(files, corrections, request_id, options))
        return DiagnoseResponse.model_validate_json(content)

    def models(self) -> list[ModelOfHospital]:
        """The models that serve the hospitals of the key."""
        content = self._send(_models_request())
        return ModelsResponse.model_validate_json(content).models

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, request: _Request) -> bytes:
        asking = _asking(request, self._retries)
        wait_s = next(asking)
        while True:
            time.sleep(wait_s)
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.request(**vars(request))
            except httpx.TransportError as error:
                outcome = error
            try:
                wait_s = asking.send(outcome)
            except StopIteration as done:
                return bytes(done.value)


class AsyncClient:
    """Asynchronous client; see :class:`Client` for arguments and errors."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        retries: Retries | None = None,
        timeout_s: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retries = retries or Retries()
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=timeout_s,
            transport=transport,
        )

    async def diagnose(
        self, pairs: pa.Table, *, request_id: str | None = None, **options: str
    ) -> DiagnoseResponse:
        """As :meth:`Client.diagnose`."""
        content = await self._send(_pairs_request(pairs, request_id, options))
        return DiagnoseResponse.model_validate_json(content)

    async def diagnose_images(
        self,
        archive: bytes,
        *,
        request_id: str | None = None,
        **options: str,
    ) -> DiagnoseResponse:
        """As :meth:`Client.diagnose_images`."""
        content = await self._send(_images_request(archive, request_id, options))
        return DiagnoseResponse.model_validate_json(content)

    async def read_karyograms(
        self, files: Mapping[str, bytes], *, request_id: str | None = None, **options: str
    ) -> KaryogramsResponse:
        """As :meth:`Client.read_karyograms`."""
        content = await self._send(_read_request(files, request_id, options))
        return KaryogramsResponse.model_validate_json(content)

    async def diagnose_karyograms(
        self,
        files: Mapping[str, bytes],
        corrections: Sequence[Correction] = (),
        *,
        request_id: str | None = None,
        **options: str,
    ) -> DiagnoseResponse:
        """As :meth:`Client.diagnose_karyograms`."""
        content = await self._send(_karyograms_request(files, corrections, request_id, options))
        return DiagnoseResponse.model_validate_json(content)

    async def models(self) -> list[ModelOfHospital]:
        """As :meth:`Client.models`."""
        content = await self._send(_models_request())
        return ModelsResponse.model_validate_json(content).models

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, request: _Request) -> bytes:
        asking = _asking(request, self._retries)
        wait_s = next(asking)
        while True:
            await asyncio.sleep(wait_s)
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._http.request(**vars(request))
            except httpx.TransportError as error:
                outcome = error
            try:
                wait_s = asking.send(outcome)
            except StopIteration as done:
                return bytes(done.value)
