"""What is answered, and what is refused when there is no room or no audit log."""

import asyncio
import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import Mock

import httpx
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from homnet.cohorts.pairs import MEASURED
from homnet.errors import ConfigError, DataError
from homnet.model.checkpoint import Checkpoint
from homnet.patients.verdict import VerdictConfig
from homnet_serve.archives import ZIP_TYPE
from homnet_serve.audit import AuditFile, verify_audit
from homnet_serve.bodies import ARROW_TYPE, read_pairs_of_body
from homnet_serve.config import Limits, ServiceConfig
from homnet_serve.errors import RequestError
from homnet_serve.schemas import PictureRead
from homnet_serve.service import Service

StreamOf = Callable[..., bytes]


@pytest.mark.parametrize("device", ["cuda:99", "quantum"])
def test_a_device_that_cannot_be_used_is_said_before_anything_is_opened(
    tmp_path: Path, device: str
) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}' cannot be used"):
        Service(ServiceConfig(device=device, audit=str(tmp_path / "audit")))
    assert not (tmp_path / "audit").exists()


def test_readers_compute_in_float32_on_a_gpu(
    start_endpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    start_endpoint(tmp_path, run=False)
    assert not torch.backends.cudnn.allow_tf32


def test_a_process_whose_passes_fail_is_not_alive(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = start_endpoint(tmp_path)

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with monkeypatch.context() as patch:
        patch.setattr("homnet_serve.batching.score_bags", fail)
        answers = [endpoint.arrow(stream_of(pairs)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [500, 500, 503, 503]
    assert answers[-1].json()["code"] == "failing"
    for route in ("/healthz", "/readyz"):
        assert endpoint.request("GET", route).status_code == 503
    assert endpoint.arrow(stream_of(pairs)).status_code == 200
    assert endpoint.request("GET", "/readyz").status_code == 200


def test_a_full_queue_is_said(
    start_endpoint: Any, tmp_path: Path, pairs: pa.Table, stream_of: StreamOf
) -> None:
    endpoint = start_endpoint(tmp_path, max_waiting_bags=5, max_bags=1)
    headers = {"Authorization": f"Bearer {endpoint.keys['both']}", "Content-Type": ARROW_TYPE}

    async def flood() -> list[httpx.Response]:
        body = stream_of(pairs)
        post = endpoint.client.post
        return await asyncio.gather(
            *(post("/v1/diagnose", content=body, headers=headers) for _ in range(20))
        )

    responses = endpoint.run(flood())
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {200, 429}
    assert len({json.dumps(r.json()["patients"]) for r in responses if r.status_code == 200}) == 1
    refused = next(r for r in responses if r.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1


def test_images_and_sequences_have_the_models_scale(
    start_endpoint: Any,
    tmp_path: Path,
    family: Callable[..., list[Checkpoint]],
    images_zip: Callable[..., bytes],
    table_of: Callable[..., pa.Table],
    stream_of: StreamOf,
) -> None:
    (plain,) = family(1)
    scaled = replace(plain, provenance={"samples_per_px": {"h1": 1.5}})
    endpoint = start_endpoint(tmp_path, checkpoints={"h1": scaled})
    options = {"headers": {"Content-Type": "application/zip"}, "content": images_zip()}
    route = "/v1/diagnose/images?sequences=all"
    own = endpoint.request("POST", route, **options)
    assert own.json()["models"][0]["samples_per_px"] == 1.5
    (patient,) = own.json()["patients"]
    first = base64.b64decode(patient["evidence"][0]["pairs"][0]["sequence"])
    assert sum(byte > 0 for byte in first[:512]) == pytest.approx(70 * 1.5, abs=3)
    same = endpoint.request("POST", f"{route}&samples_per_px=1.5", **options)
    assert same.json()["patients"] == own.json()["patients"]
    body = stream_of(table_of("h1", num_patients=1).select(MEASURED.names))
    for refused in (
        endpoint.request("POST", f"{route}&samples_per_px=3", **options),
        endpoint.arrow(body, params={"samples_per_px": 3.0}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (422, "other_scale")
        assert "3 is given" in refused.json()["message"]
        assert "for 1.5 samples" in refused.json()["message"]
    assert endpoint.arrow(body).status_code == 200


def test_what_is_given_up_stops_and_leaves_no_line_in_the_audit_log(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = start_endpoint(tmp_path, deadline_s=0.5)
    drawn: list[float] = []

    def slow_page(*_: object, **__: object) -> str:
        time.sleep(0.4)
        drawn.append(time.monotonic())
        return "<html>"

    monkeypatch.setattr("homnet_serve.answers.render_patient", slow_page)
    log = tmp_path / "audit" / endpoint.service.audit.name
    before = log.read_text().count("answered")
    response = endpoint.request(
        "POST",
        "/v1/diagnose?pages=all",
        content=stream_of(pairs),
        headers={"Content-Type": ARROW_TYPE},
    )
    assert response.status_code == 504
    given_up = time.monotonic()
    endpoint.run(asyncio.sleep(1.2))
    assert len(drawn) < 3
    assert max(drawn) < given_up + 1
    assert log.read_text().count("answered") == before


def test_what_is_given_up_while_another_line_is_written_has_none(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = start_endpoint(tmp_path, deadline_s=2.0)
    audit = endpoint.service.audit
    log = tmp_path / "audit" / audit.name
    append = Mock(side_effect=audit.append)
    monkeypatch.setattr(audit, "append", append)
    with audit._lock:  # as a slow disk holds it
        assert endpoint.arrow(stream_of(pairs)).status_code == 504
        assert append.call_count, "it had come as far as the log"
    endpoint.run(asyncio.sleep(0.2))
    assert log.read_text().count("answered") == 0


def test_a_key_that_occupies_its_threads_holds_up_no_other(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = start_endpoint(tmp_path)
    own = {name: stream_of(pairs.filter(pc.field("hospital") == name)) for name in ("h1", "h2")}
    release = threading.Event()

    def slow(body: bytes, *others: Any) -> pa.Table:
        if body == own["h1"]:
            release.wait(20)
        return read_pairs_of_body(body, *others)

    monkeypatch.setattr("homnet_serve.service.read_pairs_of_body", slow)

    def ask(name: str) -> Any:
        return endpoint.post(name, own[name])

    async def both() -> tuple[httpx.Response, list[httpx.Response]]:
        many = [asyncio.create_task(ask("h1")) for _ in range(12)]
        await asyncio.sleep(0.1)
        other = await asyncio.wait_for(ask("h2"), 5)
        release.set()
        return other, await asyncio.gather(*many)

    other, many = endpoint.run(both())
    assert other.status_code == 200
    assert {response.status_code for response in many} == {200}


def test_who_waits_for_a_model_keeps_no_body_unread(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = start_endpoint(tmp_path)
    store, release = endpoint.service.store, threading.Event()
    own = {name: stream_of(pairs.filter(pc.field("hospital") == name)) for name in ("h1", "h2")}
    cached = store.cached

    def slow(hospital: str) -> Any:
        release.wait(20)
        return cached(hospital)

    monkeypatch.setattr(store, "cached", lambda name: None if name == "h1" else cached(name))
    monkeypatch.setattr(store, "load", slow)

    async def all_of_them() -> tuple[httpx.Response, list[httpx.Response]]:
        asked = [endpoint.post(key, own["h1"]) for key in ("h1", "both") for _ in range(4)]
        many = [asyncio.create_task(one) for one in asked]
        await asyncio.sleep(0.3)
        try:
            other = await asyncio.wait_for(endpoint.post("h2", own["h2"]), 5)
        finally:
            release.set()
        return other, await asyncio.gather(*many)

    other, many = endpoint.run(all_of_them())
    assert {response.status_code for response in (other, *many)} == {200}


def test_an_audit_line_proves_what_was_asked_what_was_answered_and_by_which_models(
    start_endpoint: Any, tmp_path: Path, pairs: pa.Table, stream_of: StreamOf
) -> None:
    key, body = b"0123456789abcdef", stream_of(pairs)
    (tmp_path / "audit-key").write_bytes(key)
    kept = {"audit_key": str(tmp_path / "audit-key"), "audit_anchor": str(tmp_path / "anchor")}
    endpoint = start_endpoint(tmp_path, **kept)
    response = endpoint.arrow(body)
    answer = response.json()
    name = endpoint.service.audit.name
    line = json.loads((tmp_path / "audit" / name).read_text().splitlines()[-1])
    assert line["event"] == "answered"
    assert line["route"] == "/v1/diagnose"
    assert line["request_sha256"] == hashlib.sha256(body).hexdigest()
    assert line["result_sha256"] == hashlib.sha256(response.content).hexdigest()
    promoted = {one: endpoint.registry.promoted(one).version for one in ("h1", "h2")}
    assert promoted["h1"] != promoted["h2"]
    assert line["models"] == promoted
    for field, described in (("readers", "reader"), ("calibrations", "calibration")):
        assert line[field] == {one["hospital"]: one[described] for one in answer["models"]}
    decisions = [one["verdict"]["decision"] for one in answer["patients"]]
    assert line["num_patients"] == len(decisions) == 3
    assert line["num_abnormal"] == decisions.count("abnormal")
    anchored = json.loads((tmp_path / "anchor" / f"{name}.json").read_text())
    assert anchored["digest"] == line["digest"]
    whole = {name: AuditFile(2, 0, False)}
    assert verify_audit(tmp_path / "audit", key=key, anchor=tmp_path / "anchor") == whole
    with pytest.raises(DataError, match="was written with a key"):
        verify_audit(tmp_path / "audit")


def test_verdicts_follow_the_settings_of_the_endpoint(
    start_endpoint: Any, tmp_path: Path, pairs: pa.Table, stream_of: StreamOf, endpoint: Any
) -> None:
    rare = start_endpoint(tmp_path, verdict=VerdictConfig(prevalence=0.01, min_types=1))
    usual, answer = (one.arrow(stream_of(pairs)).json() for one in (endpoint, rare))
    assert {one["prevalence"] for one in answer["models"]} == {0.01}
    for before, after in zip(usual["patients"], answer["patients"], strict=True):
        assert before["verdict"]["score"] == pytest.approx(after["verdict"]["score"], abs=1e-5)
        assert before["verdict"]["prevalence"] == 0.2
        assert after["verdict"]["prevalence"] == 0.01
        assert after["verdict"]["probability"] < before["verdict"]["probability"]
        codes = [[c["code"] for c in one["verdict"]["abstentions"]] for one in (before, after)]
        assert "too_few_cells" in codes[0]
        assert "too_few_cells" not in codes[1]


def test_an_answer_has_only_so_many_pages(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = start_endpoint(tmp_path, limits=Limits(max_pages=2))
    monkeypatch.setattr("homnet_serve.answers.render_patient", lambda *_, **__: "<html>")
    answer = endpoint.arrow(stream_of(pairs), params={"pages": "all"}).json()
    assert sorted(one["page"] is not None for one in answer["patients"]) == [False, True, True]


@pytest.mark.parametrize(
    ("route", "reading"),
    [
        ("/v1/diagnose/images", "read_manifest_of_body"),
        ("/v1/karyograms", "open_pictures"),
        ("/v1/diagnose/karyograms", "open_pictures"),
    ],
)
def test_zips_together_are_bounded(
    start_endpoint: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    route: str,
    reading: str,
) -> None:
    endpoint = start_endpoint(tmp_path, max_waiting_images=1)
    begun, release = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> NoReturn:
        begun.set()
        release.wait(5)
        raise RequestError(422, "read", "it was read")

    monkeypatch.setattr(f"homnet_serve.service.{reading}", slow)

    def ask(key: str) -> Any:
        return endpoint.post(key, b"", ZIP_TYPE, route)

    async def one_after_the_other() -> list[httpx.Response]:
        first = asyncio.create_task(ask("h1"))
        await asyncio.to_thread(begun.wait, 20)
        others = [await ask(key) for key in ("h1", "h2")]
        release.set()
        return [await first, *others, await ask("h2")]

    answers = endpoint.run(one_after_the_other())
    assert [one.status_code for one in answers] == [422, 429, 503, 422]
    for refused in answers[1:3]:
        assert "zips" in refused.json()["message"]
        assert refused.headers["retry-after"] == "5"


def test_without_an_audit_log_nothing_is_answered(
    start_endpoint: Any,
    tmp_path: Path,
    pairs: pa.Table,
    stream_of: StreamOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = start_endpoint(tmp_path)

    def full(*_: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(endpoint.service.audit, "append", full)
    response = endpoint.arrow(stream_of(pairs))
    assert response.status_code == 503
    assert response.json()["code"] == "audit"


def test_a_key_that_is_used_for_another_hospital_leaves_a_line_without_a_patient(
    start_endpoint: Any,
    tmp_path: Path,
    table_of: Callable[..., pa.Table],
    stream_of: StreamOf,
    images_zip: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = start_endpoint(tmp_path)
    log = tmp_path / "audit" / endpoint.service.audit.name
    tables = [table_of(name, num_patients=1, num_cells=1) for name in ("h2", "h1", "h3")]
    body = stream_of(pa.concat_tables(tables).select(MEASURED.names))
    images = {"headers": {"Content-Type": ZIP_TYPE}, "content": images_zip(hospital="h2")}
    assert endpoint.arrow(body, key="h1").status_code == 403
    assert endpoint.request("POST", "/v1/diagnose/images", key="h1", **images).status_code == 403
    _, first, second = (json.loads(line) for line in log.read_text().splitlines())
    assert (first["event"], first["key"], first["route"]) == ("refused", "one", "/v1/diagnose")
    assert (first["hospitals"], first["num_hospitals"]) == (["h2", "h3"], 2)
    assert (second["route"], second["hospitals"]) == ("/v1/diagnose/images", ["h2"])
    assert not any(name in log.read_text() for name in ("h2-p0", "h3-p0", "p1", "result_sha256"))
    assert [file.num_lines for file in verify_audit(tmp_path / "audit").values()] == [3]
    # However many hospitals a caller makes up, a line stays short.
    many = [table_of(f"x{n}" * 40, num_patients=1, num_cells=1) for n in range(20)]
    many_body = stream_of(pa.concat_tables(many).select(MEASURED.names))
    assert endpoint.arrow(many_body, key="h1").status_code == 403
    last = json.loads(log.read_text().splitlines()[-1])
    assert (len(last["hospitals"]), last["num_hospitals"]) == (8, 20)

    def full(*_: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(endpoint.service.audit, "append", full)
    assert endpoint.arrow(body, key="h1").status_code == 503


@pytest.mark.parametrize(("keys", "most"), [(("h1", "h1", "h1"), 1), (("h1", "h2", "both"), 2)])
def test_few_pictures_are_read_at_once(
    start_endpoint: Any,
    tmp_path: Path,
    zip_of: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
    keys: tuple[str, ...],
    most: int,
) -> None:
    endpoint = start_endpoint(tmp_path)
    lock, now, seen = threading.Lock(), [0], [0]

    def read(_: object, name: str, **__: object) -> PictureRead:
        with lock:
            now[0] += 1
            seen[0] = max(seen[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return PictureRead(picture=name, reason="none")

    monkeypatch.setattr("homnet_serve.service.describe_picture", read)
    body = zip_of({f"{number}.png": b"" for number in range(4)})

    async def all_of_them() -> list[httpx.Response]:
        asked = (endpoint.post(key, body, ZIP_TYPE, "/v1/karyograms") for key in keys)
        return await asyncio.gather(*asked)

    assert {answer.status_code for answer in endpoint.run(all_of_them())} == {200}
    assert seen == [most]


def test_reading_that_is_given_up_stops_before_the_next_picture(
    start_endpoint: Any,
    tmp_path: Path,
    zip_of: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = start_endpoint(tmp_path, deadline_s=0.3)
    read: list[str] = []

    def slow(_: object, name: str, **__: object) -> PictureRead:
        read.append(name)
        time.sleep(0.2)
        return PictureRead(picture=name, reason="none")

    monkeypatch.setattr("homnet_serve.service.describe_picture", slow)
    body = zip_of({f"{number}.png": b"" for number in range(9)})
    response = endpoint.request(
        "POST", "/v1/karyograms", content=body, headers={"Content-Type": ZIP_TYPE}
    )
    assert response.status_code == 504
    endpoint.run(asyncio.sleep(0.6))
    assert 1 <= len(read) <= 3
