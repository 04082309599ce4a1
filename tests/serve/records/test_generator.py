"""Load and drills: what they count, and that what they compare is what it says."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from homnet.cohorts.pairs import MEASURED
from homnet.errors import ConfigError, DataError
from homnet.model.checkpoint import Checkpoint
from homnet.model.registry import Registry
from homnet_serve.bodies import ARROW_TYPE, JSON_TYPE, read_pairs_of_body
from homnet_serve.limits import Limits
from homnet_serve.records.bare import bare_rates
from homnet_serve.records.drill import _figures, _known
from homnet_serve.records.generator import Generator, Question
from homnet_serve.records.load_test import LoadTestConfig, measure
from homnet_serve.records.material import (
    Material,
    MaterialConfig,
    altered,
    logits_of,
    make_material,
)
from homnet_serve.records.steady_clients import Known, SteadyClients, Tally

TableOf = Callable[..., pa.Table]


@pytest.fixture(scope="module")
def material(family: Callable[..., list[Checkpoint]], table_of: TableOf) -> Material:
    tables = [
        table_of(hospital, num_patients=1, num_cells=2, chromosomes=("1", "21"), seed=seed)
        for seed, hospital in enumerate(("h1", "h2"))
    ]
    return Material(
        dict(zip(("h1", "h2"), family(2), strict=True)),
        [table.select(MEASURED.names) for table in tables],
    )


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
    load = Generator(slow, "k", [Question(b"x", ARROW_TYPE, 3)]).closed(4, 0.5, warm_up_s=0.1)
    # Each of four clients waits 50 ms for every answer: ten in half a second, and one begun before.
    assert 4 <= len(load.latency_s) <= 44
    assert load.seconds >= 0.5
    assert load.statuses == {"200": len(load.latency_s)}
    assert load.patients == 3 * len(load.latency_s)
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
    assert load.patients == 0
    assert load.figures()["p50_ms"] is None
    dead = Generator("http://127.0.0.1:9", "k", [Question(b"{}", JSON_TYPE)]).closed(1, 0.05, 0)
    assert set(dead.statuses) == {"ConnectionRefusedError"}


def test_bodies_say_the_same(material: Material) -> None:
    for form, media_type in (("arrow", ARROW_TYPE), ("json", JSON_TYPE)):
        for question, table in zip(material.bodies(form), material.tables, strict=True):  # type: ignore[arg-type]
            assert question.media_type == media_type
            assert read_pairs_of_body(question.content, media_type, Limits()) == table


def test_random_and_promoted_models(material: Material, tmp_path: Path) -> None:
    made = make_material(MaterialConfig(num_hospitals=3, num_patients=4, num_cells=1, seed=5))
    assert made.hospital_of == ["hospital-1", "hospital-2", "hospital-3", "hospital-1"]
    assert {len(table) for table in made.tables} == {23}
    assert len({c.digest for c in made.checkpoints.values()}) == 3
    _, settings = material.publish(tmp_path)
    again = make_material(MaterialConfig(registry=settings["registry"]))
    assert {h: c.digest for h, c in again.checkpoints.items()} == {
        h: c.digest for h, c in material.checkpoints.items()
    }
    with pytest.raises(ConfigError, match="no model is promoted"):
        make_material(MaterialConfig(registry=str(tmp_path / "none")))


def test_bare_rates_name_what_they_measured(material: Material) -> None:
    options = {"num_threads": 1, "patients_per_pass": 4, "seconds": 0.05}
    rates = bare_rates(material, **options)  # type: ignore[arg-type]
    assert list(rates) == ["1 patient a pass", "4 patients a pass"]


def test_a_soak_needs_the_capacity(tmp_path: Path) -> None:
    small = MaterialConfig(num_patients=1, num_cells=1, form="paper")
    with pytest.raises(DataError, match="measure the part 'endpoint'"):
        measure(LoadTestConfig(material=small, parts=("soak",), work=tmp_path))
    with pytest.raises(ConfigError, match="expected one of python"):
        LoadTestConfig(proxy="nginx")


def _known_of(material: Material, registry: Registry) -> list[Known]:
    known = []
    for hospital, table in zip(material.hospital_of, material.tables, strict=True):
        promoted = registry.promoted(hospital)
        assert promoted is not None
        logits = logits_of(registry.checkpoint(promoted.version), table)
        known.append(Known(table, {promoted.version: logits}))
    return known


def test_steady_clients_tell_right_from_wrong(
    material: Material,
    address: tuple[str, dict[str, str]],
    tmp_path: Path,
) -> None:
    url, keys = address
    _, settings = material.publish(tmp_path)
    known = _known_of(material, Registry(settings["registry"]))

    def asked(known: list[Known], key: str = "both") -> Tally:
        with SteadyClients(url, keys[key], known, 2) as clients:
            time.sleep(0.2)
        return clients.take()

    good = asked(known)
    assert good.right >= 2
    assert (good.wrong, good.lost, good.reasons) == (0, 0, [])
    assert sum(good.versions.values()) == good.right == len(good.seconds)

    (version, logits), *_ = known[0].logits.items()
    off = asked([Known(known[0].pairs, {version: logits + 2e-5})])
    assert off.right == 0
    assert set(off.reasons) == {"logits differ from those of batch evaluation"}
    unknown = asked([Known(known[0].pairs, {"other": logits})])
    assert unknown.wrong > 0
    assert "may not answer" in unknown.reasons[0]
    refused = asked(known, key="revoked")
    assert refused.lost > 0
    assert refused.right == 0


def test_a_drill_needs_models_that_differ(material: Material) -> None:
    version = altered(material.checkpoints["h1"], 1000).digest
    known = _known(material, {"h1": version})
    assert [set(one.logits) for one in known] == [
        {material.checkpoints["h1"].digest, version},
        {material.checkpoints["h2"].digest},
    ]
    same = replace(material, tables=[material.tables[0]] * 2)
    with pytest.raises(DataError, match="nothing would show"):
        _known(same, {})


def test_figures_of_a_fault() -> None:
    tally = Tally(right=3, answered_s=[10.5, 11.0, 15.0], seconds=[0.1, 0.2, 4.2])
    tally.absorbed.update(["503", "503", "ReadError"])
    figures = _figures(tally, Tally(lost=1, reasons=["x"], seconds=[0.3]), 10.0, 16.0)
    assert figures["seconds_without_answer"] == 4.0
    assert figures["slowest_answer_s"] == 4.2
    assert figures["slowest_calm_answer_s"] == 0.3
    assert figures["absorbed"] == {"503": 2, "ReadError": 1}
    assert (figures["lost"], figures["reasons"]) == (1, ["x"])
    assert np.isfinite(_figures(Tally(), Tally(), 0, 1)["seconds_without_answer"])
