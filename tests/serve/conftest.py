"""Makers of bodies for the tests of the endpoint."""

import asyncio
import base64
import copy
import io
import threading
import time
import zipfile
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch
import uvicorn
from PIL import Image
from ray.serve.metrics import Counter, Gauge, Histogram

from homnet.calibration.bags import Calibration
from homnet.calibration.patients import PatientCalibration
from homnet.cohorts.pairs import MEASURED, pairs_of
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, HomNetConfig, best_form
from homnet.model.registry import Registry
from homnet.reader.network import ReaderConfig
from homnet.simulator.cohort import simulate_person
from homnet.simulator.karyograms import KaryogramStyle, draw_karyogram
from homnet.simulator.laboratory import HospitalConfig, Laboratory
from homnet_serve.app import create_app
from homnet_serve.bodies import ARROW_TYPE
from homnet_serve.config import ServiceConfig
from homnet_serve.keys import new_key, write_keys
from homnet_serve.service import Service


@pytest.fixture(scope="session")
def stream_of() -> Callable[..., bytes]:
    """The maker of Arrow streams."""

    def make(table: pa.Table, compression: str | None = None) -> bytes:
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        content: bytes = sink.getvalue().to_pybytes()
        return content

    return make


@pytest.fixture(scope="session")
def json_of() -> Callable[..., dict[str, Any]]:
    """The maker of JSON bodies, with pairs as base64 or as lists."""

    def make(table: pa.Table, *, lists: bool = False) -> dict[str, Any]:
        patients: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row, pair in zip(table.to_pylist(), pairs_of(table), strict=True):
            patients.setdefault((row["hospital"], row["patient_id"]), []).append(
                {
                    "cell_id": row["cell_id"],
                    "chromosome": row["chromosome"],
                    "band_level": row["band_level"],
                    "pair": pair.tolist() if lists else base64.b64encode(row["pair"]).decode(),
                    **({"num_copies": row["num_copies"]} if "num_copies" in row else {}),
                }
            )
        return {
            "patients": [
                {"hospital": hospital, "patient_id": patient, "pairs": pairs}
                for (hospital, patient), pairs in patients.items()
            ]
        }

    return make


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """The maker of upright banded chromosomes on white."""

    def make(length: int = 60, *, seed: int = 0, size: tuple[int, int] | None = None) -> bytes:
        height, width = size or (length + 20, 36)
        image = np.full((height, width), 255, np.uint8)
        bands = 90 + 70 * np.sin(np.arange(length) / 4 + seed)
        image[10 : 10 + length, 10:26] = bands[:, None].astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(image).save(out, "PNG")
        return out.getvalue()

    return make


@pytest.fixture(scope="session")
def zip_of() -> Callable[..., bytes]:
    """The maker of zips."""

    def make(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", compression) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return out.getvalue()

    return make


@pytest.fixture(scope="session")
def images_zip(png: Callable[..., bytes], zip_of: Callable[..., bytes]) -> Callable[..., bytes]:
    """The maker of zips of one patient: both homologs of some types in some cells."""

    def make(
        chromosomes: tuple[str, ...] = ("1", "2"), *, num_cells: int = 2, hospital: str = "h1"
    ) -> bytes:
        lines = ["path,hospital,patient_id,cell_id,chromosome,homolog"]
        files = {}
        for cell in range(num_cells):
            for number, chromosome in enumerate(chromosomes):
                for homolog in range(2):
                    name = f"images/{cell}-{chromosome}-{homolog}.png"
                    files[name] = png(70 - 10 * number, seed=homolog)
                    lines.append(f"{name},{hospital},p1,c{cell},{chromosome},{homolog}")
        return zip_of({"manifest.csv": "\n".join(lines).encode(), **files})

    return make


@pytest.fixture(scope="session")
def karyograms(images_of_cell: Callable[..., Any]) -> dict[str, bytes]:
    """Pictures of two cells of a simulated person; all chromosomes of the first are found."""
    laboratory = replace(Laboratory(), band_levels=(0.0, 0.0, 1.0, 0.0), bend=0.2)
    hospital = HospitalConfig("h", laboratory, abnormal_fraction=0.0)
    person = simulate_person(11, hospital, 0, 6.0)
    files = {}
    for number, cell in enumerate(person["cell_id"].unique().to_pylist()[:2]):
        images = images_of_cell(person, cell, seed=1)
        style = KaryogramStyle(width_px=900)
        drawn = draw_karyogram(images, style, np.random.default_rng(number))
        content = io.BytesIO()
        Image.fromarray(drawn.image).save(content, "PNG")
        files[f"p1_c{number + 1}.png"] = content.getvalue()
    return files


@pytest.fixture(scope="session")
def family(
    calibration_of: Callable[..., PatientCalibration],
) -> Callable[..., list[Checkpoint]]:
    """The maker of checkpoints that were fine-tuned from one pre-training: only heads differ."""

    def make(num: int, *, seed: int = 0, hospital: str = "h1") -> list[Checkpoint]:
        torch.manual_seed(seed)
        first = HomNet(HomNetConfig(width=8, pair_width=12, num_heads=2))
        models = [first]
        for _ in range(num - 1):
            model = copy.deepcopy(first)
            model.freeze_for_fine_tuning()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter.add_(torch.randn_like(parameter) * 0.05)
            models.append(model)
        return [
            Checkpoint(
                model.config,
                model.state_dict(),
                calibration={
                    name: Calibration(threshold=0.5, temperature=0.5) for name in ("h1", "h2")
                },
                patients={
                    # Everybody is called abnormal.
                    name: calibration_of(hospitals=(name,), threshold=-20.0, min_cells=1)
                    for name in ("h1", "h2")
                },
            )
            for model in models
        ]

    return make


@pytest.fixture(scope="session")
def pairs(table_of: Callable[..., pa.Table]) -> pa.Table:
    """Two hospitals, bags of one to four pairs."""
    tables = [
        table_of("h1", num_patients=2, num_cells=4, chromosomes=("1", "9", "22"), seed=1),
        table_of("h2", num_patients=1, num_cells=1, chromosomes=("5", "X"), seed=2),
    ]
    return pa.concat_tables(tables).select(MEASURED.names)


@dataclass
class Endpoint:
    """A running service with its application, the checkpoints behind it, and keys to it."""

    client: httpx.AsyncClient
    """Of the application, without a key."""
    service: Service
    """Behind the application."""
    registry: Registry
    """Of its models."""
    checkpoints: dict[str, Checkpoint]
    """The promoted model of each hospital."""
    keys: dict[str, str]
    """Secrets: ``h1``, ``h2``, ``both``, ``revoked``, ``none``."""
    work: Path
    """Where its files are."""
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    """Runs a coroutine in the loop of the service."""

    def request(self, method: str, url: str, *, key: str | None = "both", **options: Any) -> Any:
        """One request with one of the keys."""
        headers = dict(options.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {self.keys.get(key, key)}"
        return self.run(self.client.request(method, url, headers=headers, **options))

    async def post(
        self, key: str, content: Any, kind: str = ARROW_TYPE, route: str = "/v1/diagnose"
    ) -> httpx.Response:
        """A request beside others, for a coroutine that :attr:`run` takes."""
        headers = {"Authorization": f"Bearer {self.keys[key]}", "Content-Type": kind}
        return await self.client.post(route, content=content, headers=headers)

    def arrow(self, body: bytes, **options: Any) -> Any:
        """Asks with an Arrow body."""
        headers = {"Content-Type": ARROW_TYPE, **options.pop("headers", {})}
        return self.request("POST", "/v1/diagnose", content=body, headers=headers, **options)


@pytest.fixture(scope="session")
def start_endpoint(
    family: Callable[..., list[Checkpoint]],
) -> Iterator[Callable[..., Endpoint]]:
    """The starter of endpoints for two hospitals."""
    with ExitStack() as stack:

        def start(
            work: Path,
            *,
            run: bool = True,
            checkpoints: dict[str, Checkpoint] | None = None,
            **settings: Any,
        ) -> Endpoint:
            registry = Registry(work / "registry")
            if checkpoints is None:
                checkpoints = dict(zip(("h1", "h2"), family(2), strict=True))
            for hospital, checkpoint in checkpoints.items():
                registry.promote(hospital, registry.publish(checkpoint, hospital))
            made = {
                "h1": new_key("one", ["h1"]),
                "h2": new_key("two", ["h2"]),
                "both": new_key("both", ["h1", "h2", "h-none", *checkpoints]),
                "revoked": new_key("old", ["h1", "h2"]),
                "none": new_key("none", []),
            }
            secrets = {name: secret for name, (secret, _) in made.items()}
            kept = [replace(key, revoked=name == "revoked") for name, (_, key) in made.items()]
            write_keys(work / "keys.json", kept)
            config = ServiceConfig(
                **{
                    "registry": str(work / "registry"),
                    "keys": str(work / "keys.json"),
                    "audit": str(work / "audit"),
                    "refresh_s": 0.1,
                    **settings,
                }
            )
            runner = stack.enter_context(asyncio.Runner())
            service = Service(config)
            app = create_app(service)
            lifespan = app.router.lifespan_context(app)
            if run:
                runner.run(lifespan.__aenter__())
                stack.callback(lambda: runner.run(lifespan.__aexit__(None, None, None)))
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://endpoint"
            )
            return Endpoint(client, service, registry, checkpoints, secrets, work, runner.run)

        yield start


@pytest.fixture(scope="session")
def endpoint(
    start_endpoint: Callable[..., Endpoint], tmp_path_factory: pytest.TempPathFactory
) -> Endpoint:
    """One endpoint for all tests that change nothing."""
    return start_endpoint(tmp_path_factory.mktemp("endpoint"))


@pytest.fixture(scope="session")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a reader of findings that has learnt nothing."""
    form = replace(best_form(), width=16, pair_width=24, num_heads=2)
    config = ReaderConfig(model=form, width=16)
    torch.manual_seed(0)
    metrics = {"calibration": {"kind": 1.0, "segment": 1.0, "cell": 1.0}}
    checkpoint = Checkpoint(config, config.build().state_dict(), metrics=metrics)
    return checkpoint.save(tmp_path_factory.mktemp("findings") / "checkpoint")


@pytest.fixture(scope="session")
def address(
    start_endpoint: Callable[..., Endpoint],
    tmp_path_factory: pytest.TempPathFactory,
    findings: Path,
) -> Iterator[tuple[str, dict[str, str]]]:
    """An endpoint with a reader of findings behind a real port: its address and its keys."""
    endpoint = start_endpoint(tmp_path_factory.mktemp("address"), run=False, findings=str(findings))
    app = create_app(endpoint.service)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}", endpoint.keys
    server.should_exit = True
    thread.join()


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Callable[..., float | None]:
    """What metrics have recorded since the test began: sums, of gauges the last value."""
    values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def spy(kind: type, method: str, combine: Callable[[float, float], float]) -> None:
        original = getattr(kind, method)

        def record(self: Any, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
            original(self, value, tags)
            name = self.info["name"], frozenset((tags or {}).items())
            values[name] = combine(values.get(name, 0.0), value)

        monkeypatch.setattr(kind, method, record)

    spy(Counter, "inc", lambda before, value: before + value)
    spy(Histogram, "observe", lambda before, value: before + value)
    spy(Gauge, "set", lambda _, value: value)

    def value(name: str, **tags: str) -> float | None:
        return values.get((name, frozenset(tags.items())))

    return value
