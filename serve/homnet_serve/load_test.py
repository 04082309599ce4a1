"""How fast an endpoint is beside its bare models on the same cores, and whether it stays so."""

import base64
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import torch
from ray import serve

from homnet.assessment import FlatBags, assess
from homnet.checkpoint import Calibration, Checkpoint
from homnet.chromosomes import CHROMOSOMES
from homnet.errors import ConfigError
from homnet.joint import JointModel, score_jointly
from homnet.model import HomNet, best_form, paper_form
from homnet.pairs import MEASURED, pair_table
from homnet.predictor import Predictor
from homnet.registry import Registry
from homnet_serve.bodies import ARROW_TYPE, JSON_TYPE
from homnet_serve.deployment import app
from homnet_serve.keys import new_key, write_keys
from homnet_serve.load import Generator, Question

_TYPES: Final = 23
_PATIENTS_PER_PASS: Final = 8


@dataclass(frozen=True)
class LoadTestConfig:
    """What is measured, and how long."""

    form: Literal["best", "paper"] = "best"
    """Form of the model; weights are random, for speed does not depend on them."""
    num_hospitals: int = 4
    """Hospitals whose models share their frozen part; patients come from them in turns."""
    num_cells: int = 5
    """Cells of a patient: 23 types of so many pairs."""
    clients: tuple[int, ...] = (1, 4, 16, 64)
    """Numbers of clients at a time."""
    seconds: float = 20.0
    """Length of each measurement."""
    num_threads: int = 2
    """Threads of a pass."""
    soak_minutes: float = 0.0
    """Length of the soak at 80 % of the capacity that was just measured; 0 leaves it out."""
    seed: int = 0
    """Of weights and pairs."""

    def __post_init__(self) -> None:
        if self.num_hospitals < 1 or self.num_cells < 1 or not self.clients or self.seconds <= 0:
            raise ConfigError("num_hospitals, num_cells, clients and seconds must be above zero")


def measure(config: LoadTestConfig, memory_bytes: Callable[[], int]) -> dict[str, Any]:
    """Measures everything on the Ray that is running.

    Args:
        config: what.
        memory_bytes: memory of the server's processes now.

    Returns:
        Figures for a result of record.
    """
    torch.set_num_threads(config.num_threads)
    checkpoints = _checkpoints(config)
    tables = [_patient(config, number) for number in range(4 * config.num_hospitals)]
    figures: dict[str, Any] = {"bare": _bare(config, checkpoints, tables)}
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        secret = _prepare(work, checkpoints)
        bodies = {
            "arrow": [Question(_stream(table), ARROW_TYPE) for table in tables],
            "json": [Question(_json(table), JSON_TYPE) for table in tables],
        }
        with _serve() as url:
            _deploy(config, work)
            for form, questions in bodies.items():
                generator = Generator(url, secret, questions)
                figures[form] = {
                    str(number): _said(f"{form}, {number} clients", generator, number, config)
                    for number in config.clients
                }
            if config.soak_minutes:
                figures["soak"] = _soak(
                    config, Generator(url, secret, bodies["arrow"]), figures, memory_bytes
                )
            # A pass takes the bags of one patient: serving without batching across requests.
            _deploy(config, work, max_bags=_TYPES, batch_wait_s=0.0)
            generator = Generator(url, secret, bodies["arrow"])
            figures["one_at_a_time"] = {
                str(number): _said(f"one at a time, {number} clients", generator, number, config)
                for number in config.clients
            }
    return figures


def _bare(
    config: LoadTestConfig, checkpoints: Mapping[str, Checkpoint], tables: list[pa.Table]
) -> dict[str, Any]:
    """Patients per second of the models without any server, by patients of a pass."""
    models = [
        JointModel(Predictor(c.build(), c.calibration, version=c.version))
        for c in checkpoints.values()
    ]
    for model in models[1:]:
        model.share(models[0])
    own = [assess(table).bags for table in tables]
    numbers = [n % len(models) for n in range(len(own))]

    def jointly(size: int) -> None:
        model_B = np.repeat(numbers[:size], [len(bags) for bags in own[:size]])
        score_jointly(models, FlatBags.concatenate(own[:size]), model_B)

    def separately(size: int) -> None:
        for number, model in enumerate(models):
            part = [bags for bags, n in zip(own[:size], numbers[:size], strict=True) if n == number]
            if part:
                bags = FlatBags.concatenate(part)
                score_jointly([model], bags, np.zeros(len(bags), np.int64))

    eight = min(_PATIENTS_PER_PASS, len(own))
    tasks: dict[str, tuple[Callable[[int], None], int]] = {
        "1 patient": (jointly, 1),
        f"{eight} patients, jointly": (jointly, eight),
        f"{eight} patients, a pass per hospital": (separately, eight),
    }
    rates: dict[str, list[float]] = {name: [] for name in tasks}
    deadline = time.perf_counter() + config.seconds
    for round_number in range(1_000_000):
        # In turns, so that noise of the machine hits all alike; the first round warms up.
        for name, (task, size) in tasks.items():
            begin_s = time.perf_counter()
            task(size)
            if round_number:
                rates[name].append(size / (time.perf_counter() - begin_s))
        if round_number > 2 and time.perf_counter() > deadline:
            break
    return {name: round(float(np.median(values)), 2) for name, values in rates.items()}


def _said(
    what: str, generator: Generator, num_clients: int, config: LoadTestConfig
) -> dict[str, Any]:
    figures = generator.closed(num_clients, config.seconds).figures()
    print(
        f"{what}: {figures['patients_per_second']} patients/s, p50 {figures['p50_ms']} ms, "
        f"p99 {figures['p99_ms']} ms, {figures['statuses']}",
        flush=True,
    )
    return figures


def _soak(
    config: LoadTestConfig,
    generator: Generator,
    figures: Mapping[str, Any],
    memory_bytes: Callable[[], int],
) -> dict[str, Any]:
    capacity = max(one["patients_per_second"] for one in figures["arrow"].values())
    sizes: list[int] = []
    load = generator.steady(
        0.8 * capacity, 60 * config.soak_minutes, lambda: sizes.append(memory_bytes())
    )
    third = max(len(sizes) // 3, 1)
    first, last = float(np.median(sizes[:third])), float(np.median(sizes[-third:]))
    return {
        **load.figures(),
        "requests_per_second": round(0.8 * capacity, 2),
        "memory_mib_first_third": round(first / 2**20, 1),
        "memory_mib_last_third": round(last / 2**20, 1),
        "memory_growth": round(last / first - 1, 4) if first else None,
    }


@contextmanager
def _serve() -> Iterator[str]:
    """Ray Serve on a free port; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(
        http_options={"host": "127.0.0.1", "port": port},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()


def _deploy(config: LoadTestConfig, work: Path, **settings: Any) -> None:
    """Puts an endpoint with one replica in the place of the one before."""
    serve.delete("homnet")
    own = {name: str(work / name) for name in ("registry", "audit")}
    own |= {"keys": str(work / "keys.json")}
    endpoint = app({**own, "num_threads": config.num_threads, **settings})
    serve.run(endpoint, name="homnet", route_prefix="/")


def _checkpoints(config: LoadTestConfig) -> dict[str, Checkpoint]:
    """Random models that differ in what fine-tuning changes."""
    torch.manual_seed(config.seed)
    form = {"best": best_form, "paper": paper_form}[config.form]()
    model = HomNet(form)
    model.freeze_for_fine_tuning()
    checkpoints = {}
    for number in range(config.num_hospitals):
        name = f"hospital-{number + 1}"
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(1e-3 * torch.randn_like(parameter))
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        checkpoints[name] = Checkpoint(form, weights, calibration={name: Calibration(0.5)})
    return checkpoints


def _patient(config: LoadTestConfig, number: int) -> pa.Table:
    """All pairs of one patient: noise inside chromosomes of plausible lengths."""
    rng = np.random.default_rng([config.seed, number])
    keys = [(t, c) for t in range(_TYPES) for c in range(config.num_cells)]
    pair = rng.integers(1, 256, (len(keys), 2, 2, 512), np.uint8)
    for row, (kind, _) in enumerate(keys):
        pair[row, ..., 340 - 10 * kind :] = 0
    hospital = f"hospital-{number % config.num_hospitals + 1}"
    return pair_table(
        hospital=[hospital] * len(keys),
        patient_id=[f"patient-{number}"] * len(keys),
        cell_id=[f"cell-{c}" for _, c in keys],
        chromosome=[CHROMOSOMES[t] for t, _ in keys],
        band_level=[550] * len(keys),
        pair=pair,
        abnormal=[False] * len(keys),
    ).select(MEASURED.names)


def _prepare(work: Path, checkpoints: Mapping[str, Checkpoint]) -> str:
    registry = Registry(work / "registry")
    for hospital, checkpoint in checkpoints.items():
        registry.promote(hospital, registry.publish(checkpoint, hospital))
    secret, key = new_key("load", checkpoints)
    write_keys(work / "keys.json", [replace(key, operator=True)])
    return secret


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _json(table: pa.Table) -> bytes:
    rows = table.to_pylist()
    pairs = [
        {
            **{name: row[name] for name in ("cell_id", "chromosome", "band_level")},
            "pair": base64.b64encode(row["pair"]).decode(),
        }
        for row in rows
    ]
    who = {name: rows[0][name] for name in ("hospital", "patient_id")}
    return json.dumps({"patients": [{**who, "pairs": pairs}]}).encode()
