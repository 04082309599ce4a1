"""The client: patient with what passes, at once with what does not, the same in both forms."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pyarrow as pa
import pytest

from homnet_serve.archives import ZIP_TYPE
from homnet_serve.client import AsyncClient, Client, EndpointError, Retries
from homnet_serve.config import Limits
from homnet_serve.karyogram_zips import open_pictures
from homnet_serve.schemas import Correction, DiagnoseResponse, KaryogramsResponse

TableOf = Callable[..., pa.Table]
QUICK = Retries(max_attempts=4, first_wait_s=0.001, max_wait_s=0.01)
ANSWER = DiagnoseResponse(request_id="r", models=[], patients=[]).model_dump_json()


class _Server:
    """Gives prepared answers one after the other, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _ask(server: _Server, form: str, pairs: pa.Table, retries: Retries = QUICK) -> Any:
    transport = httpx.MockTransport(server)
    if form == "sync":
        with Client("http://e", "secret", retries=retries, transport=transport) as client:
            return client.diagnose(pairs)

    async def ask() -> Any:
        async with AsyncClient("http://e", "secret", retries=retries, transport=transport) as c:
            return await c.diagnose(pairs)

    return asyncio.run(ask())


def _refusal(status: int, **headers: str) -> httpx.Response:
    body = {"request_id": "r", "code": "some", "message": "a sentence"}
    return httpx.Response(status, json=body, headers=headers)


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("busy", [429, 503])
def test_what_passes_is_waited_for(table_of: TableOf, form: str, busy: int) -> None:
    server = _Server(
        _refusal(busy),
        httpx.ConnectError("refused"),
        httpx.Response(500, text="Internal Server Error"),
        httpx.Response(200, text=ANSWER),
    )
    assert _ask(server, form, table_of()).request_id == "r"
    assert len({request.headers["x-request-id"] for request in server.asked}) == 1
    assert len({request.content for request in server.asked}) == 1
    assert server.asked[0].headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("status", [401, 403, 404, 413, 422, 500, 504])
def test_other_refusals_are_errors_at_once(table_of: TableOf, form: str, status: int) -> None:
    server = _Server(_refusal(status))
    with pytest.raises(EndpointError, match="a sentence") as error:
        _ask(server, form, table_of())
    assert (error.value.status, error.value.code) == (status, "some")
    assert error.value.request_id == "r"


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("kind", ["busy", "unreachable", "lost"])
def test_patience_ends(table_of: TableOf, form: str, kind: str) -> None:
    last: dict[str, Callable[[], httpx.Response | Exception]] = {
        "busy": lambda: _refusal(503),
        "unreachable": lambda: httpx.ConnectError("refused"),
        "lost": lambda: httpx.Response(500, text="Internal Server Error"),
    }
    server = _Server(*[last[kind]() for _ in range(9)])
    with pytest.raises(EndpointError):
        _ask(server, form, table_of())
    assert len(server.asked) == 4


def test_a_time_out_is_not_asked_again(table_of: TableOf) -> None:
    server = _Server(httpx.ReadTimeout("slow"), httpx.Response(200, text=ANSWER))
    with pytest.raises(EndpointError, match="ReadTimeout"):
        _ask(server, "sync", table_of())
    assert len(server.asked) == 1


def test_retry_after_is_heeded(table_of: TableOf, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    retries = Retries(max_attempts=4, first_wait_s=0.1, max_wait_s=5.0)
    server = _Server(
        _refusal(503, **{"Retry-After": "3"}),
        _refusal(503, **{"Retry-After": "60"}),
        _refusal(503),
        httpx.Response(200, text=ANSWER),
    )
    _ask(server, "sync", table_of(), retries)
    assert waits[:3] == [0.0, 3.0, 5.0]
    assert 0.2 <= waits[3] <= 0.4


def test_it_understands_the_endpoint(
    endpoint: Any, table_of: TableOf, images_zip: Callable[..., bytes]
) -> None:
    transport = endpoint.client._transport

    async def ask() -> Any:
        key = endpoint.keys["h1"]
        async with AsyncClient("http://e", key, transport=transport) as client:
            answer = await client.diagnose(table_of(num_patients=1), request_id="mine")
            images = await client.diagnose_images(images_zip(), band_level="400")
            with pytest.raises(EndpointError, match="not for every hospital") as error:
                await client.diagnose(table_of("h2"))
            return answer, images, await client.models(), error.value

    answer, images, models, error = endpoint.run(ask())
    assert answer.caller_request_id == "mine" != answer.request_id
    assert len(answer.patients[0].evidence) == 22
    assert [kind.chromosome for kind in images.patients[0].evidence] == ["1", "2"]
    assert [model.hospital for model in models] == ["h1"]
    assert error.status == 403


@pytest.mark.parametrize("form", ["sync", "async"])
def test_karyograms_are_zipped_with_their_corrections(form: str) -> None:
    read = KaryogramsResponse(request_id="r", pictures=[]).model_dump_json()
    server = _Server(httpx.Response(200, text=read), httpx.Response(200, text=ANSWER))
    transport = httpx.MockTransport(server)
    files = {"p_1.png": b"a", "cells.csv": b"b"}
    corrections = [Correction(picture="p_1.png", number=3, chromosome="X", before="8")]
    if form == "sync":
        with Client("http://e", "secret", transport=transport) as client:
            client.read_karyograms(files, preview="true")
            client.diagnose_karyograms(files, corrections, hospital="h1")
    else:

        async def ask() -> None:
            async with AsyncClient("http://e", "secret", transport=transport) as client:
                await client.read_karyograms(files, preview="true")
                await client.diagnose_karyograms(files, corrections, hospital="h1")

        asyncio.run(ask())
    paths = [request.url.raw_path for request in server.asked]
    assert paths == [b"/v1/karyograms?preview=true", b"/v1/diagnose/karyograms?hospital=h1"]
    pictures = open_pictures(server.asked[1].content, Limits())
    assert pictures.corrections == {"p_1.png": {3: corrections[0]}}
    assert pictures.archive.read("cells.csv", 9, "") == b"b"
    assert all(one.headers["content-type"] == ZIP_TYPE for one in server.asked)


def test_an_answer_that_is_no_answer_is_an_error(table_of: TableOf) -> None:
    server = _Server(httpx.Response(403, text="<html>a gateway</html>"))
    with pytest.raises(EndpointError, match="answered 403"):
        _ask(server, "sync", table_of())
