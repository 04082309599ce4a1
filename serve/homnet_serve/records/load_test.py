"""Throughput and latency of an endpoint beside the bare models and readers on the same cores.

Each part measures the endpoint together with its comparison; the soak tests a steady load for long.
Parts can be measured separately: each leaves its figures in the work directory, and the result
contains all of them.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np

from homnet.errors import ConfigError, DataError
from homnet.results import Record, describe_machine, read_json, write_json
from homnet_serve.records.bare import SCORES, VERDICTS, bare_rates
from homnet_serve.records.generator import Generator
from homnet_serve.records.local_server import PROXIES, LocalServer
from homnet_serve.records.material import (
    NUM_TYPES,
    Material,
    MaterialConfig,
    make_material,
)

Part = Literal["endpoint", "one_at_a_time", "replicas", "proxies", "soak"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)
_MANY: Final = 16
"""Number of clients in comparisons."""


@dataclass(frozen=True)
class LoadTestConfig:
    """Parts of a load test, and their settings."""

    material: MaterialConfig = MaterialConfig()
    """Models and patients."""
    parts: tuple[Part, ...] = ("endpoint", "one_at_a_time", "replicas", "proxies")
    """Parts to measure; the soak runs only if it is named."""
    work: Path = Path("runs/load")
    """Directory of the logs and of the figures of each part."""
    clients: tuple[int, ...] = (1, 4, 16, 64)
    """Numbers of concurrent clients."""
    seconds: float = 12.0
    """Duration of each measurement."""
    num_replicas: int = 2
    """Number of replicas of the endpoint; with the threads of each they should fill the cores."""
    num_threads: int = 1
    """Number of threads of a replica's forward passes."""
    patients_per_pass: int = 8
    """Maximum number of patients per forward pass."""
    proxy: str = "haproxy"
    """Proxy except in the part ``proxies``: python, throughput, haproxy or "haproxy,
    throughput"."""
    soak_minutes: float = 15.0
    """Duration of the soak."""
    soak_share: float = 0.8
    """Request rate of the soak, as a share of the capacity measured by the part ``endpoint``."""
    record: Record = Record()
    """The result of record, for example results/load.json."""

    def __post_init__(self) -> None:
        if not self.clients or self.seconds <= 0 or self.soak_minutes <= 0:
            raise ConfigError("clients, seconds and soak_minutes must be above zero")
        if self.num_replicas < 1 or self.num_threads < 1:
            raise ConfigError("num_replicas and num_threads must be at least 1")
        if self.proxy not in PROXIES:
            raise ConfigError(f"proxy is {self.proxy!r}, expected one of {', '.join(PROXIES)}")


def measure(config: LoadTestConfig) -> dict[str, Any]:
    """Measures the requested parts, and writes the result of record if one is requested.

    Returns:
        The figures of all parts in the work directory, including the new ones.

    Raises:
        DataError: a server did not start, or the capacity for the soak is unknown.
    """
    material = make_material(config.material)
    run: dict[Part, Callable[[LoadTestConfig, Material], dict[str, Any]]] = {
        "endpoint": _endpoint,
        "one_at_a_time": _one_at_a_time,
        "replicas": _replicas,
        "proxies": _proxies,
        "soak": _soak,
    }
    for part in config.parts:
        begin_s = time.monotonic()
        figures = run[part](config, material)
        figures["seconds_in_all"] = round(time.monotonic() - begin_s)
        figures["machine"] = describe_machine()
        figures["settings"] = _settings(config)
        write_json(_file(config, part), figures)
        print(f"{part}: {figures['seconds_in_all']} s, kept in {_file(config, part)}", flush=True)
    kept: dict[str, Any] = {}
    for part in PARTS:
        if _file(config, part).is_file():
            kept[part] = read_json(_file(config, part))
            _require_same(config, part, kept[part])
    config.record.write({"load": kept}, recipe=config.material.recipe, seed=config.material.seed)
    return kept


_SHARED: Final = ("material", "num_replicas", "num_threads", "patients_per_pass", "proxy")
"""Settings that all parts of one result must share."""


def _require_same(config: LoadTestConfig, part: Part, figures: Mapping[str, Any]) -> None:
    """Refuses parts that were measured with other models or settings.

    Raises:
        DataError: a setting differs.
    """
    wanted = json.loads(json.dumps(_settings(config), default=str))
    for name in _SHARED:
        if figures["settings"][name] != wanted[name]:
            raise DataError(
                f"{_file(config, part)}: was measured with other settings ({name}); choose another "
                "--work, or measure this part again"
            )


def _settings(config: LoadTestConfig) -> dict[str, Any]:
    settings = dataclasses.asdict(config)
    return {
        name: value for name, value in settings.items() if name not in ("parts", "work", "record")
    }


def _file(config: LoadTestConfig, part: Part) -> Path:
    return config.work / f"{part}.json"


@contextmanager
def _server(
    config: LoadTestConfig, name: str, material: Material, proxy: str | None = None
) -> Iterator["_Served"]:
    """Starts a server with the models of the material in its registry."""
    work = config.work / name
    shutil.rmtree(work, ignore_errors=True)
    secret, settings = material.publish(work)
    with LocalServer(work / "server.log", proxy=proxy or config.proxy) as server:
        yield _Served(config, material, server, secret, settings)


@dataclass(frozen=True)
class _Served:
    config: LoadTestConfig
    material: Material
    server: LocalServer
    secret: str
    settings: dict[str, Any]

    def deploy(
        self,
        *,
        num_replicas: int | None = None,
        max_ongoing_requests: int = 256,
        **settings: Any,
    ) -> None:
        """Deploys replicas that use all cores, whatever Ray counts for them."""
        number = num_replicas or self.config.num_replicas
        self.server.deploy(
            {
                **self.settings,
                "num_threads": self.config.num_threads,
                "max_bags": NUM_TYPES * self.config.patients_per_pass,
                **settings,
            },
            num_replicas=number,
            max_ongoing_requests=max_ongoing_requests,
            ray_actor_options={"num_cpus": 1 / number},
        )

    def generator(self, form: Literal["arrow", "json"]) -> Generator:
        return Generator(self.server.url, self.secret, self.material.bodies(form))

    def ask(self, what: str, form: Literal["arrow", "json"], num_clients: int) -> dict[str, Any]:
        figures = self.generator(form).closed(num_clients, self.config.seconds).figures()
        print(
            f"{what}, {form}, {num_clients} clients: {figures['patients_per_second']} patients/s, "
            f"p50 {figures['p50_ms']} ms, p99 {figures['p99_ms']} ms, {figures['statuses']}",
            flush=True,
        )
        return figures


def _bare(config: LoadTestConfig, material: Material) -> dict[str, dict[str, float]]:
    """Rates of :func:`bare_rates` with as many threads as all replicas together."""
    rates = bare_rates(
        material,
        num_threads=config.num_replicas * config.num_threads,
        patients_per_pass=config.patients_per_pass,
        seconds=config.seconds / 2,
    )
    for path, by_size in rates.items():
        for name, rate in by_size.items():
            print(f"bare, {path}, {name}: {rate} patients/s", flush=True)
    return rates


def _endpoint(config: LoadTestConfig, material: Material) -> dict[str, Any]:
    """Rates by number of clients and form of body, with the bare rates before and after each.

    The machine's speed drifts within minutes, so each rate is compared with its neighbours, and
    with those of verdicts: the endpoint computes them, and HomNet's scores alone are less.
    """
    figures: dict[str, Any] = {}
    with _server(config, "endpoint", material) as served:
        served.deploy()
        bare = _bare(config, material)
        for form in ("arrow", "json"):
            figures[form] = {}
            for number in config.clients:
                before = bare
                asked = served.ask("endpoint", form, number)
                bare = _bare(config, material)
                beside = np.mean([max(rates[VERDICTS].values()) for rates in (before, bare)])
                figures[form][str(number)] = asked | {
                    "bare": {"before": before[VERDICTS], "after": bare[VERDICTS]},
                    "bare_scores": {"before": before[SCORES], "after": bare[SCORES]},
                    "share_of_bare": round(float(asked["patients_per_second"] / beside), 3),
                }
    return {
        **figures,
        "share_of_bare": max(one["share_of_bare"] for one in figures["arrow"].values()),
    }


def _one_at_a_time(config: LoadTestConfig, material: Material) -> dict[str, Any]:
    """Batching beside one request at a time, each measured twice in turns.

    Measures the endpoint as configured; one replica with all cores, with batching, with one patient
    per pass and with one request at a time; and one request at a time in each replica.
    """
    cores = config.num_replicas * config.num_threads
    alone: dict[str, Any] = {"num_replicas": 1, "num_threads": cores}
    single: dict[str, Any] = {"max_bags": NUM_TYPES, "max_ongoing_requests": 1}
    kinds: dict[str, dict[str, Any]] = {
        "batching": {},
        "batching in one replica": alone,
        "one patient a pass in one replica": {**alone, "max_bags": NUM_TYPES},
        "one request at a time": {**alone, **single},
        "one request at a time in each replica": single,
    }
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in kinds}
    with _server(config, "one_at_a_time", material) as served:
        for _ in range(2):
            for name, settings in kinds.items():
                served.deploy(**settings)
                figures[name].append(served.ask(name, "arrow", _MANY))
    rate = {
        name: float(np.mean([one["patients_per_second"] for one in runs]))
        for name, runs in figures.items()
    }
    return {
        "clients": _MANY,
        **figures,
        "times_as_fast": {
            name: round(rate["batching"] / rate[name], 3) for name in rate if name != "batching"
        },
    }


def _replicas(config: LoadTestConfig, material: Material) -> dict[str, Any]:
    """All cores as one replica with many threads, beside single-thread replicas, in turns."""
    cores = config.num_replicas * config.num_threads
    layouts = {f"{cores} replicas of 1 thread": cores, f"1 replica of {cores} threads": 1}
    figures: dict[str, Any] = {name: [] for name in layouts}
    with _server(config, "replicas", material) as served:
        for _ in range(2):
            for name, number in layouts.items():
                served.deploy(num_replicas=number, num_threads=cores // number)
                figures[name].append(
                    {
                        str(clients): served.ask(name, "arrow", clients)
                        for clients in sorted({1, _MANY, max(config.clients)})
                    }
                )
    return figures


def _proxies(config: LoadTestConfig, material: Material) -> dict[str, Any]:
    """The same endpoint behind each proxy; Ray restarts for each, as the proxy is chosen at start.

    A proxy that does not start is recorded as a result, with the reason from its log.
    """
    figures: dict[str, Any] = {}
    for proxy in PROXIES:
        with _server(config, f"proxy-{proxy.replace(', ', '-')}", material, proxy) as served:
            try:
                served.deploy()
            except DataError as error:
                figures[proxy] = {"failed": str(error)}
                print(f"{proxy}: {error}", flush=True)
                continue
            figures[proxy] = {
                str(number): served.ask(proxy, "arrow", number)
                for number in sorted({1, _MANY, max(config.clients)})
            }
    return figures


def _soak(config: LoadTestConfig, material: Material) -> dict[str, Any]:
    """A long load at a steady rate, with the memory of Ray Serve's processes over time."""
    if not _file(config, "endpoint").is_file():
        raise DataError(
            f"{_file(config, 'endpoint')}: the soak needs the capacity; measure the part 'endpoint'"
        )
    endpoint = read_json(_file(config, "endpoint"))
    _require_same(config, "endpoint", endpoint)
    arrow: Mapping[str, Any] = endpoint["arrow"]
    rate = config.soak_share * max(one["patients_per_second"] for one in arrow.values())
    memory: list[dict[str, int]] = []
    with _server(config, "soak", material) as served:
        served.deploy()
        generator = served.generator("arrow")
        # Warm up until every thread has worked and every buffer has its largest size.
        generator.closed(max(config.clients), min(60.0, 6 * config.seconds))
        started = time.monotonic()

        def look() -> None:
            sizes = served.server.memory()
            memory.append(sizes)
            if len(memory) % 6 == 1:
                mib = {role: size >> 20 for role, size in sizes.items()}
                minutes = (time.monotonic() - started) / 60
                print(f"soak, minute {minutes:.0f}: MiB {mib}", flush=True)

        load = generator.steady(rate, 60 * config.soak_minutes, look)
    tenth = max(len(memory) // 10, 1)
    start, end = _mean_mib(memory[:tenth]), _mean_mib(memory[-tenth:])
    return {
        **load.figures(),
        "requests_per_second": round(rate, 2),
        "share_of_capacity": config.soak_share,
        "minutes": config.soak_minutes,
        "memory_mib": {"start": start, "end": end},
        "memory_growth": round(sum(end.values()) / sum(start.values()) - 1, 4),
    }


def _mean_mib(samples: list[dict[str, int]]) -> dict[str, float]:
    return {
        role: round(float(np.mean([sample[role] for sample in samples])) / 2**20, 1)
        for role in samples[0]
    }
