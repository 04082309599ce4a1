"""Fault drill of the endpoint: the effect on clients when parts are killed, replaced or overloaded.

A local cluster has a head and two nodes, each with a replica and a proxy. Clients with retries
send patients with known answers. Only processes started by this drill are killed.
"""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

import pyarrow as pa

from homnet.errors import ConfigError, DataError
from homnet.model.registry import Registry
from homnet.processes import num_connections
from homnet.results import Record
from homnet_serve.audit import verify_audit
from homnet_serve.client import Client, EndpointError, Retries
from homnet_serve.records.drill_nodes import Nodes
from homnet_serve.records.local_server import LocalServer
from homnet_serve.records.material import (
    Material,
    MaterialConfig,
    altered,
    make_material,
    verdict_of,
)
from homnet_serve.records.steady_clients import Known, SteadyClients, Tally, difference

Fault = Literal["replica", "proxy", "controller", "node", "promotion", "deployment", "queue"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
_NUM_REPLICAS: Final = 2
_NUM_PROXIES: Final = _NUM_REPLICAS + 1
"""One proxy per node with a replica, and one on the head."""


@dataclass(frozen=True)
class DrillConfig:
    """Faults of the drill, and the load during them."""

    material: MaterialConfig = field(default_factory=MaterialConfig)
    """Models and patients."""
    work: Path = Path("runs/serve-drill")
    """Directory of the registry, audit log and server log; emptied first."""
    faults: tuple[Fault, ...] = FAULTS
    """Faults, in order."""
    num_clients: int = 4
    """Number of clients that send requests during the whole drill."""
    calm_s: float = 3.0
    """Seconds of undisturbed load before each fault and after recovery."""
    flood: int = 64
    """Simultaneous requests of four patients each that fill the queue, without retries."""
    back_s: float = 120.0
    """Timeout in seconds for recovery or for a decision to take effect."""
    record: Record = Record()
    """The result of record, for example results/serve-drill.json."""

    def __post_init__(self) -> None:
        if self.num_clients < 1 or self.flood < 1 or self.calm_s <= 0 or self.back_s <= 0:
            raise ConfigError("num_clients, flood, calm_s and back_s must be above zero")


def drill(config: DrillConfig) -> dict[str, Any]:
    """Runs the drill, records its figures and returns them.

    Raises:
        DataError: the endpoint did not recover, the audit log has a gap, an answer was wrong, or a
            request was lost.
    """
    registry = config.material.registry
    if registry and config.work.resolve() in (
        Path(registry).resolve(),
        *Path(registry).resolve().parents,
    ):
        raise ConfigError(f"{config.work} is emptied first, and holds the registry; choose another")
    material = make_material(config.material)
    shutil.rmtree(config.work, ignore_errors=True)
    secret, settings = material.publish(config.work)
    second = _second_versions(material, Registry(settings["registry"]))
    known = _known(material, second)
    runs: dict[str, Any] = {}
    with (
        Nodes(_NUM_REPLICAS, config.back_s) as nodes,
        LocalServer(
            config.work / "server.log",
            environment={"RAY_ADDRESS": nodes.address},
            proxy_everywhere=True,
        ) as server,
    ):
        scene = _Scene(config, material, second, server, nodes, secret, settings)
        scene.deploy()
        scene.wait_until_whole()
        with SteadyClients(server.url, secret, known, config.num_clients) as clients:
            for fault in config.faults:
                runs[fault] = _run(fault, scene, clients)
                print(f"{fault}: {runs[fault]}", flush=True)
        # Requests of the last seconds are complete when their clients stop.
        rest = clients.take()
        if rest.reasons:
            print(f"after the last fault: {sorted(set(rest.reasons))}", flush=True)
    figures = {
        "faults": runs,
        "clients": config.num_clients,
        "replicas": _NUM_REPLICAS,
        "wrong": rest.wrong + sum(run["wrong"] for run in runs.values()),
        "lost": rest.lost + sum(run["lost"] for run in runs.values()),
        "audit_lines": sum(
            file.num_lines for file in verify_audit(Path(settings["audit"])).values()
        ),
    }
    config.record.write(
        {"serve_drill": figures}, recipe=config.material.recipe, seed=config.material.seed
    )
    if figures["wrong"] or figures["lost"]:
        raise DataError(
            f"{config.work}: {figures['wrong']} wrong answers, {figures['lost']} requests lost; "
            "see the reasons above"
        )
    return figures


def _run(fault: Fault, scene: "_Scene", clients: SteadyClients) -> dict[str, Any]:
    """Runs one fault, with the undisturbed load before and after it."""
    acts: dict[Fault, Callable[[SteadyClients], dict[str, Any]]] = {
        "replica": lambda _: scene.kill("replica"),
        "proxy": lambda _: scene.kill("proxy"),
        "controller": lambda _: scene.kill("controller"),
        "node": lambda _: scene.kill_node(),
        "promotion": scene.promote_and_roll_back,
        "deployment": lambda _: scene.deploy_anew(),
        "queue": lambda _: scene.flood(),
    }
    time.sleep(scene.config.calm_s)
    calm = clients.take()
    begin_s = time.monotonic()
    more = acts[fault](clients)
    whole_s = scene.wait_until_whole() - begin_s
    time.sleep(scene.config.calm_s)
    end_s = time.monotonic()
    return _figures(clients.take(), calm, begin_s, end_s) | {
        "seconds_until_whole": round(whole_s, 1),
        **more,
    }


def _figures(tally: Tally, calm: Tally, begin_s: float, end_s: float) -> dict[str, Any]:
    return {
        "right": tally.right,
        "wrong": tally.wrong + calm.wrong,
        "lost": tally.lost + calm.lost,
        "absorbed": dict(tally.absorbed),
        "seconds_without_answer": round(tally.longest_gap(begin_s, end_s), 2),
        "slowest_answer_s": round(max(tally.seconds, default=0.0), 2),
        "slowest_calm_answer_s": round(max(calm.seconds, default=0.0), 2),
        "reasons": sorted(set(tally.reasons + calm.reasons)),
    }


@dataclass(frozen=True)
class _Scene:
    """The endpoint and the operations on it."""

    config: DrillConfig
    material: Material
    second: dict[str, str]
    server: LocalServer
    nodes: Nodes
    secret: str
    settings: dict[str, Any]

    def deploy(self, **settings: Any) -> None:
        self.server.deploy(
            {
                **self.settings,
                "num_threads": 1,
                "refresh_s": 1.0,
                "max_waiting_bags": 23 * 4 * self.config.num_clients,
                **settings,
            },
            num_replicas=_NUM_REPLICAS,
            max_replicas_per_node=1,
            max_ongoing_requests=256,
            max_queued_requests=256,
            ray_actor_options={"num_cpus": 1},
            health_check_period_s=2,
            graceful_shutdown_timeout_s=65,
        )

    def wait_until_whole(self) -> float:
        """Waits for both replicas, their proxies and the controller; returns the time in s."""
        deadline = time.monotonic() + self.config.back_s
        while not self._whole():
            if time.monotonic() > deadline:
                raise DataError(
                    f"{self.config.work}: not whole again after {self.config.back_s:g} s: "
                    f"{self.server.processes()}; server.log may say why"
                )
            time.sleep(0.1)
        return time.monotonic()

    def _whole(self) -> bool:
        now = {role: len(pids) for role, pids in self.server.processes().items()}
        return (
            now["replica"] >= _NUM_REPLICAS
            and now["proxy"] >= _NUM_PROXIES
            and now["controller"] >= 1
            and self.server.num_ready() >= _NUM_REPLICAS
        )

    def kill(self, role: str) -> dict[str, Any]:
        """Sends SIGKILL to one process of a role; of proxies, to the one with most clients."""
        victim = max(
            self.server.processes()[role], key=lambda pid: num_connections(pid, self.server.port)
        )
        os.kill(victim, signal.SIGKILL)
        while victim in self.server.processes()[role]:
            time.sleep(0.05)
        return {}

    def kill_node(self) -> dict[str, Any]:
        """Sends SIGKILL to a node with its replica and proxy; a new node replaces it."""
        self.nodes.kill_one()
        return {}

    def promote_and_roll_back(self, clients: SteadyClients) -> dict[str, Any]:
        """Promotes another version at the first hospital and rolls back; times both in s."""
        registry = Registry(self.settings["registry"])
        hospital, second = next(iter(self.second.items()))
        first = self.material.checkpoints[hospital].digest
        registry.promote(hospital, second)
        promoted_s = self._seconds_of_change(clients, hospital, first, second)
        registry.roll_back(hospital)
        rolled_back_s = self._seconds_of_change(clients, hospital, second, first)
        return {"seconds_to_promote": promoted_s, "seconds_to_roll_back": rolled_back_s}

    def _seconds_of_change(
        self, clients: SteadyClients, hospital: str, replaced: str, expected: str
    ) -> float:
        """Seconds until the replaced version's last answer before many by the expected one."""
        begin_s = last_s = time.monotonic()
        answers = clients.answered_by(hospital, replaced)
        first_new = clients.answered_by(hospital, expected)
        while clients.answered_by(hospital, expected) < first_new + 4 * _NUM_REPLICAS:
            now_s = time.monotonic()
            if now_s > begin_s + self.config.back_s:
                raise DataError(f"{self.config.work}: {expected[:12]} does not take over")
            if clients.answered_by(hospital, replaced) != answers:
                answers, last_s = clients.answered_by(hospital, replaced), now_s
                first_new = clients.answered_by(hospital, expected)
            time.sleep(0.02)
        return round(last_s - begin_s, 1)

    def deploy_anew(self) -> dict[str, Any]:
        """Rolling update to other settings: new replicas start, the old ones finish and stop."""
        self.deploy(batch_wait_s=0.001)
        return {}

    def flood(self) -> dict[str, Any]:
        """Sends more patients than the queue holds; the surplus must get a reason."""
        table = pa.concat_tables(self.material.tables[:4])
        return {"flood": dict(_flood(self.server.url, self.secret, table, self.config.flood))}


def _flood(url: str, secret: str, table: pa.Table, num_requests: int) -> Counter[str]:
    """Sends requests at the same time; returns the number of requests by outcome."""

    def ask(_: int) -> str:
        with Client(url, secret, retries=Retries(max_attempts=1)) as client:
            try:
                client.diagnose(table)
            except EndpointError as error:
                return f"{error.status} {error.code}"
            return "answered"

    # Count in this thread: concurrent increments of one counter lose counts.
    with ThreadPoolExecutor(num_requests) as pool:
        return Counter(pool.map(ask, range(num_requests)))


def _second_versions(material: Material, registry: Registry) -> dict[str, str]:
    """Publishes another fine-tuned model for the first hospital without promoting it."""
    hospital, checkpoint = next(iter(material.checkpoints.items()))
    return {hospital: registry.publish(altered(checkpoint, 1000), hospital)}


def _known(material: Material, second: dict[str, str]) -> list[Known]:
    """Patients with the answers of every version that may serve them."""
    known = []
    for hospital, table in zip(material.hospital_of, material.tables, strict=True):
        checkpoint = material.checkpoints[hospital]
        versions = {checkpoint.digest: checkpoint}
        if hospital in second:
            versions[second[hospital]] = altered(checkpoint, 1000)
        verdicts = {
            version: verdict_of(one, material.reader_of(one), table)
            for version, one in versions.items()
        }
        known.append(Known(table, verdicts))
    scores = [
        [verdict["score"], *(one["evidence"] for one in verdict["types"])]
        for one in known
        for verdict in one.verdicts.values()
    ]
    for number, score in enumerate(scores):
        if not all(difference(score, other, 1e-3) for other in scores[:number]):
            raise DataError("two models or patients give the same scores: nothing would show")
    return known
