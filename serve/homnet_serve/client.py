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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Self, TypeVar

import httpx
import pyarrow as pa
from pydantic import BaseModel

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

A = TypeVar("A", bound=BaseModel)
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


@dataclass
class _Request(Generic[A]):
    """A request, and the outcome of its last attempt."""

    answer: type[A]
    """Model of its answer."""
    sent: Mapping[str, Any]
    """Arguments of httpx's ``request``."""
    outcome: httpx.Response | httpx.TransportError | None = None

    def waits(self, retries: Retries) -> Iterator[float]:
        """Yields the wait before each attempt, as long as the last outcome may pass."""
        yield 0.0
        for wait_s in retries.waits():
            if isinstance(self.outcome, httpx.Response):
                if not _is_passing(self.outcome):
                    return
                asked = self.outcome.headers.get("retry-after", "")
                asked_s = float(asked) if asked.isdecimal() else 0.0
                wait_s = min(max(wait_s, asked_s), retries.max_wait_s)
            elif not isinstance(self.outcome, _RETRIED):
                return
            yield wait_s

    def answered(self) -> A:
        """The answer; raises EndpointError if the last attempt gave none."""
        request_id = self.sent["headers"]["X-Request-Id"]
        if not isinstance(self.outcome, httpx.Response):
            raise EndpointError(
                None,
                "unreachable",
                f"the endpoint cannot be reached ({type(self.outcome).__name__}); is the address "
                "right?",
                request_id,
            )
        if self.outcome.is_success:
            return self.answer.model_validate_json(self.outcome.content)
        status = self.outcome.status_code
        body = _own_words(self.outcome)
        if body is None:
            raise EndpointError(status, "unknown", f"the server answered {status}", request_id)
        raise EndpointError(status, body.code, body.message, body.request_id)


def _request(
    answer: type[A],
    route: str,
    media_type: str,
    content: bytes,
    request_id: str | None,
    options: Mapping[str, str],
) -> _Request[A]:
    headers = {"X-Request-Id": request_id or uuid.uuid4().hex, "Content-Type": media_type}
    sent = {"method": "POST", "url": route, "headers": headers, "content": content}
    return _Request(answer, {**sent, "params": options})


def _pairs_request(
    pairs: pa.Table, request_id: str | None, options: Mapping[str, str]
) -> _Request[DiagnoseResponse]:
    content = write_stream(pairs.select(MEASURED.names).cast(MEASURED))
    return _request(DiagnoseResponse, "/v1/diagnose", ARROW_TYPE, content, request_id, options)


def _images_request(
    archive: bytes, request_id: str | None, options: Mapping[str, str]
) -> _Request[DiagnoseResponse]:
    route = "/v1/diagnose/images"
    return _request(DiagnoseResponse, route, ZIP_TYPE, archive, request_id, options)


def _read_request(
    files: Mapping[str, bytes], request_id: str | None, options: Mapping[str, str]
) -> _Request[KaryogramsResponse]:
    route = "/v1/karyograms"
    return _request(KaryogramsResponse, route, ZIP_TYPE, _zipped(files), request_id, options)


def _karyograms_request(
    files: Mapping[str, bytes],
    corrections: Sequence[Correction],
    request_id: str | None,
    options: Mapping[str, str],
) -> _Request[DiagnoseResponse]:
    route = "/v1/diagnose/karyograms"
    said = Corrections(list(corrections)).model_dump_json().encode()
    content = _zipped({**files, CORRECTIONS: said})
    return _request(DiagnoseResponse, route, ZIP_TYPE, content, request_id, options)


def _models_request() -> _Request[ModelsResponse]:
    headers = {"X-Request-Id": uuid.uuid4().hex}
    return _Request(ModelsResponse, {"method": "GET", "url": "/v1/models", "headers": headers})


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip of files that are packed already."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, file in files.items():
            archive.writestr(name, file)
    return content.getvalue()


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
        return self._send(_pairs_request(pairs, request_id, options))

    def diagnose_images(
        self, archive: bytes, *, request_id: str | None = None, **options: str
    ) -> DiagnoseResponse:
        """Sends a zip of images with its manifest.csv and returns the verdicts on its patients.

        Args:
            archive: the zip.
            request_id: the caller's id of the request; a new one by default.
            options: ``hospital``, ``band_level``, ``sequences``, ``pages``, ``samples_per_px``.
        """
        return self._send(_images_request(archive, request_id, options))

    def read_karyograms(
        self, files: Mapping[str, bytes], *, request_id: str | None = None, **options: str
    ) -> KaryogramsResponse:
        """Sends pictures of karyograms and returns what is found on them.

        Args:
            files: pictures by name, perhaps with ``layout.csv``.
            request_id: the caller's id of the request; a new one by default.
            options: ``preview``.
        """
        return self._send(_read_request(files, request_id, options))

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
        return self._send(_karyograms_request(files, corrections, request_id, options))

    def models(self) -> list[ModelOfHospital]:
        """The models that serve the hospitals of the key."""
        return self._send(_models_request()).models

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, request: _Request[A]) -> A:
        for wait_s in request.waits(self._retries):
            time.sleep(wait_s)
            try:
                request.outcome = self._http.request(**request.sent)
            except httpx.TransportError as error:
                request.outcome = error
        return request.answered()


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
        return await self._send(_pairs_request(pairs, request_id, options))

    async def diagnose_images(
        self, archive: bytes, *, request_id: str | None = None, **options: str
    ) -> DiagnoseResponse:
        """As :meth:`Client.diagnose_images`."""
        return await self._send(_images_request(archive, request_id, options))

    async def read_karyograms(
        self, files: Mapping[str, bytes], *, request_id: str | None = None, **options: str
    ) -> KaryogramsResponse:
        """As :meth:`Client.read_karyograms`."""
        return await self._send(_read_request(files, request_id, options))

    async def diagnose_karyograms(
        self,
        files: Mapping[str, bytes],
        corrections: Sequence[Correction] = (),
        *,
        request_id: str | None = None,
        **options: str,
    ) -> DiagnoseResponse:
        """As :meth:`Client.diagnose_karyograms`."""
        return await self._send(_karyograms_request(files, corrections, request_id, options))

    async def models(self) -> list[ModelOfHospital]:
        """As :meth:`Client.models`."""
        return (await self._send(_models_request())).models

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(self, request: _Request[A]) -> A:
        for wait_s in request.waits(self._retries):
            await asyncio.sleep(wait_s)
            try:
                request.outcome = await self._http.request(**request.sent)
            except httpx.TransportError as error:
                request.outcome = error
        return request.answered()
