"""The endpoint under Ray Serve: same scores, a killed replica, a promotion under load."""

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from homnet.bags.assessment import assess
from homnet.cohorts.pairs import MEASURED
from homnet.errors import ConfigError
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.registry import Registry
from homnet_serve.audit import verify_audit
from homnet_serve.bodies import ARROW_TYPE
from homnet_serve.client import Client, EndpointError, Retries
from homnet_serve.config import ServiceConfig, config_from
from homnet_serve.deployment import NAME, Replica, app, check_config, endpoint
from homnet_serve.keys import new_key, write_keys

TableOf = Callable[..., pa.Table]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["config.yaml", "config-gpu.yaml"])
def test_the_configs_are_valid(name: str) -> None:
    from ray.serve.schema import ServeDeploySchema

    check_config(ROOT / "serve" / name)
    content = yaml.safe_load((ROOT / "serve" / name).read_text())
    schema = ServeDeploySchema.model_validate(content)
    assert schema.http_options.host == "127.0.0.1"
    (application,) = schema.applications
    config = config_from(ServiceConfig, application.args)
    assert config.keys, "keys of HOMNET_API_KEYS cannot be revoked while the endpoint runs"
    assert application.import_path == "homnet_serve.deployment:app"
    (deployment,) = application.deployments
    assert deployment.name == NAME
    assert deployment.max_ongoing_requests >= config.max_bags // 23
    longest_s = config.body_timeout_s + config.deadline_s
    assert schema.http_options.request_timeout_s > longest_s
    assert deployment.graceful_shutdown_timeout_s > longest_s


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("  host:", "  hosst:", "does not know http_options.hosst"),
        ("http_options:", "http_option:", "does not know http_option "),
        ("min_replicas", "least", r"applications.0.deployments.0.autoscaling_config.least"),
        ("num_cpus:", "cpus:", r"applications.0.deployments.0.ray_actor_options.cpus"),
        ("enable_access_log", "access_log", "does not know logging_config.access_log"),
        ("port: 8000", "port: some", "http_options.port: "),
        ("registry: registry", "registri: registry", "no setting 'registri'"),
        ("http_options:", "{", "cannot be read"),
        (
            "http_options:",
            "http_options: {host: 0.0.0.0}\nhttp_options:",
            "http_options given twice",
        ),
        ("import_path: homnet_serve", "import_path: homnet_serv", "no application has"),
        (
            "deployment:app\n    args:\n      registry:",
            "deployment.app\n    args:\n      registri:",
            "no setting 'registri'",
        ),
        ("registry: registry", "registry: registry\n      forms: nonsense", "nonsense"),
    ],
)
def test_a_misspelt_name_in_a_config_is_named(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    text = (ROOT / "serve" / "config.yaml").read_text()
    assert before in text
    (tmp_path / "config.yaml").write_text(text.replace(before, after))
    with pytest.raises(ConfigError, match=message):
        check_config(tmp_path / "config.yaml")


def test_a_wrong_setting_is_found_before_a_replica_starts() -> None:
    with pytest.raises(ConfigError, match="no setting 'registri'"):
        app({"registri": "x"})


def test_a_replica_without_any_of_its_models_fails_its_first_health_check(
    family: Callable[..., list[Checkpoint]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By which Ray Serve says whether it has started, so nothing is taken over from others."""
    registry = Registry(tmp_path / "registry")
    version = registry.publish(family(1)[0], "h1")
    registry.promote("h1", version)
    weights = tmp_path / "registry" / "models" / version / "model.safetensors"
    whole = weights.read_bytes()
    monkeypatch.setattr("homnet_serve.deployment.log_to_stderr", lambda: None)
    write_keys(tmp_path / "keys.json", [new_key("lab", ["h1"])[1]])
    settings = {name: str(tmp_path / name) for name in ("registry", "audit")}

    async def check(*, passes_fail: bool = False) -> None:
        replica = Replica({**settings, "keys": str(tmp_path / "keys.json")})
        async with replica.__serve_build_asgi_app__().router.lifespan_context(None):
            if passes_fail:
                replica._service.queue._num_failed = 3
            await replica.check_health()

    asyncio.run(check())
    weights.write_bytes(b"")
    with pytest.raises(RuntimeError, match="none of its promoted models can be loaded"):
        asyncio.run(check())
    weights.write_bytes(whole)
    with pytest.raises(RuntimeError, match="one pass after the other fails"):
        asyncio.run(check(passes_fail=True))


@pytest.fixture(scope="module")
def served(
    ray_cluster: None, tmp_path_factory: pytest.TempPathFactory, family: Callable[..., Any]
) -> Iterator[tuple[httpx.Client, Registry, Path]]:
    """A deployed endpoint with one replica for two hospitals."""
    from ray import serve

    work = tmp_path_factory.mktemp("served")
    registry = Registry(work / "registry")
    for hospital, checkpoint in zip(("h1", "h2"), family(2), strict=True):
        registry.promote(hospital, registry.publish(checkpoint, hospital))
    secret, key = new_key("lab", ["h1", "h2"])
    write_keys(work / "keys.json", [key])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    settings = {
        "registry": str(work / "registry"),
        "keys": str(work / "keys.json"),
        "audit": str(work / "audit"),
        "refresh_s": 0.2,
    }
    serve.run(app(settings), name="homnet", route_prefix="/")
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": ARROW_TYPE}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
        yield client, registry, work
    serve.shutdown()


def _logits(answer: dict[str, Any]) -> list[float]:
    return [kind["logit"] for patient in answer["patients"] for kind in patient["evidence"]]


def _expected(checkpoint: Checkpoint, table: pa.Table) -> Any:
    assessment = assess(table)
    predictor = Predictor.of_checkpoint(checkpoint)
    logits = assessment.of_types(predictor.flat_logits(assessment.bags))
    return pytest.approx(logits.tolist(), abs=1e-5)


@pytest.mark.slow
@pytest.mark.ray
def test_scores_are_those_of_batch_evaluation(
    served: tuple[httpx.Client, Registry, Path],
    table_of: TableOf,
    stream_of: Callable[..., bytes],
    family: Callable[..., list[Checkpoint]],
) -> None:
    client, _, _ = served
    checkpoints = family(2)
    tables = [
        table_of(f"h{n % 2 + 1}", num_patients=1, num_cells=1 + n % 4, seed=n).select(
            MEASURED.names
        )
        for n in range(12)
    ]

    def ask(table: pa.Table) -> httpx.Response:
        return client.post("/v1/diagnose", content=stream_of(table))

    with ThreadPoolExecutor(12) as pool:
        for n, response in enumerate(pool.map(ask, tables)):
            assert response.status_code == 200, response.text
            assert _logits(response.json()) == _expected(checkpoints[n % 2], tables[n])
    assert client.get("/readyz").json() == {"status": "ok"}
    assert client.get("/v1/models", headers={"Authorization": ""}).status_code == 401
    assert client.post("/v1/diagnose", content=b"no stream").status_code == 422


@pytest.mark.slow
@pytest.mark.ray
def test_a_promotion_and_a_killed_replica_give_no_wrong_answer(
    served: tuple[httpx.Client, Registry, Path],
    table_of: TableOf,
    family: Callable[..., list[Checkpoint]],
) -> None:
    client, registry, work = served
    table = table_of("h1", num_patients=1, num_cells=2).select(MEASURED.names)
    patient = Retries(max_attempts=12, first_wait_s=0.1, max_wait_s=5.0)
    asking = Client(str(client.base_url), client.headers["authorization"][7:], retries=patient)
    checkpoints = family(3)
    expected = {c.version: _expected(c, table) for c in checkpoints}
    stop = threading.Event()
    answers: list[tuple[str, list[float]]] = []
    failed: list[EndpointError] = []

    def load() -> None:
        while not stop.is_set():
            try:
                answer = asking.diagnose(table)
            except EndpointError as error:
                failed.append(error)
            else:
                answers.append((answer.models[0].weights, _logits(answer.model_dump())))

    def wait_for(version: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        seen = len(answers)
        while not any(weights == version for weights, _ in answers[seen:]):
            assert time.monotonic() < deadline, f"nobody was answered by {version[:12]}"
            time.sleep(0.05)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_for(checkpoints[0].version, 30)
        registry.promote("h1", registry.publish(checkpoints[2], "h1"))
        wait_for(checkpoints[2].version, 30)
        os.kill(_replica_pid(), signal.SIGKILL)
        time.sleep(1)
        wait_for(checkpoints[2].version, 60)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for weights, logits in answers:
        assert logits == expected[weights]
    assert failed == []
    # The killed replica's file ends where it was killed; the new one's begins by naming it.
    assert len(verify_audit(work / "audit")) == 2


@pytest.mark.slow
@pytest.mark.ray
def test_rays_exporter_has_the_metrics_of_every_replica(
    served: tuple[httpx.Client, Registry, Path],
    table_of: TableOf,
    stream_of: Callable[..., bytes],
) -> None:
    from ray import serve

    client, _, work = served
    names = {"registry": "registry", "audit": "audit", "keys": "keys.json"}
    settings = {name: str(work / place) for name, place in names.items()}
    two = endpoint(settings, num_replicas=2, ray_actor_options={"num_cpus": 0.5})
    serve.run(two, name="homnet", route_prefix="/")
    body = stream_of(table_of("h1", num_patients=1, num_cells=1).select(MEASURED.names))

    def ask(_: int) -> int:
        return client.post("/v1/diagnose", content=body).status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(ask, range(18))) == {200}
    deadline = time.monotonic() + 60
    answered: list[dict[str, Any]] = []
    while sum(one["value"] for one in answered) < 18:
        assert time.monotonic() < deadline, answered
        time.sleep(1)
        # Replicas that are gone are exported for a while, and so are services that other tests ran
        # without a replica.
        here = tuple(actor.name for actor in _replicas())
        answered = [
            one
            for one in _exported("ray_homnet_patients_total")
            if one.get("replica") and any(name.endswith(one["replica"]) for name in here)
        ]
    assert sum(one["value"] for one in answered) == 18
    assert len({one["replica"] for one in answered}) == 2
    for one in answered:
        assert (one["deployment"], one["application"]) == (NAME, "homnet")
        assert one["hospital"] == "h1"
        assert one["decision"]
    assert {one.get("route") for one in _exported("ray_homnet_request_seconds_count")} >= {
        "/v1/diagnose"
    }
    assert "score" in {one.get("step") for one in _exported("ray_homnet_waiting_items")}
    assert 1 in {one["value"] for one in _exported("ray_homnet_model_info")}


def _exported(name: str) -> list[dict[str, Any]]:
    """Tags and values of a metric, as Prometheus gets them from the node."""
    import ray

    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
    families = text_string_to_metric_families(httpx.get(url, timeout=10).text)
    return [
        {**sample.labels, "value": sample.value}
        for family in families
        for sample in family.samples
        if sample.name == name
    ]


def _replicas() -> list[Any]:
    """The replicas that are alive."""
    import ray
    from ray.util.state import list_actors

    # By its address: another Ray may run on this machine.
    address = ray.get_runtime_context().gcs_address
    return [
        actor
        for actor in list_actors(address, filters=[("state", "=", "ALIVE")])
        if actor.class_name and actor.class_name.startswith("ServeReplica")
    ]


def _replica_pid() -> int:
    (replica,) = _replicas()
    return int(replica.pid)
