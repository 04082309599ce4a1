"""The Ray of a job: one that runs already is left alone, and what does not fit is refused."""

import os
import socket
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import ray

from homnet.errors import ConfigError
from homnet_platform import runtime
from homnet_platform.runtime import _LONGEST_TMPDIR, local_or_cluster, require_workers
from homnet_platform.training import ScalingOptions

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_workers_that_no_node_can_hold_are_refused() -> None:
    """On three CPUs one worker of four never starts, nor does one that wants a GPU."""
    assert require_workers(4, "scoring", cpus=0.5) == 6
    with pytest.raises(ConfigError, match="needs 1 workers of 4 CPUs, and 0 fit"):
        require_workers(1, "scoring", cpus=4)
    with pytest.raises(ConfigError, match="of 1 CPUs and 1 GPUs, and 0 fit"):
        require_workers(1, "scoring", gpus=1)


def test_a_reader_needs_a_cpu_beside_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def nodes(*cpus: float) -> None:
        alive = [{"Alive": True, "Resources": {"CPU": count}} for count in cpus]
        monkeypatch.setattr(ray, "nodes", lambda: alive)

    assert require_workers(2, "training", reader_cpus=1) == 2
    with pytest.raises(ConfigError, match=r"needs 3 workers .* 2 fit .* beside 1 CPU for the rea"):
        require_workers(3, "training", reader_cpus=1)
    nodes(0, 4, 1)
    assert require_workers(4, "training", reader_cpus=1) == 4, "the reader runs on the last node"
    nodes(0, 4)
    assert require_workers(3, "training", reader_cpus=1) == 3
    nodes(0)
    with pytest.raises(ConfigError, match="and 0 fit"):
        require_workers(1, "training", cpus=0, reader_cpus=1)


def test_labels_and_resources_of_workers_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4, "rack": 1}, "Labels": {"zone": "a"}},
        {"Alive": True, "Resources": {"CPU": 2}, "Labels": {"zone": "b"}},
        {"Alive": False, "Resources": {"CPU": 8}, "Labels": {"zone": "b"}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert require_workers(1, "training") == 6
    assert require_workers(1, "training", labels={"zone": "b"}) == 2
    assert require_workers(2, "training", labels={"zone": "b"}, reader_cpus=1) == 2
    assert require_workers(1, "training", resources={"rack": 0.5}) == 2
    a100 = ScalingOptions(use_gpu=True, accelerator_type="A100").resources_per_worker
    with pytest.raises(ConfigError, match=r"0\.001 accelerator_type:A100, and 0 fit"):
        require_workers(1, "training", resources=a100)
    with pytest.raises(ConfigError, match=r"1 CPUs, 1 rack, on a node with zone=b, and 0 fit"):
        require_workers(1, "training", resources={"rack": 1}, labels={"zone": "b"})


def test_strict_placements_are_counted_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": count}} for count in (4, 4, 1)]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert require_workers(8, "training", reader_cpus=1) == 8
    assert require_workers(4, "training", placement="STRICT_PACK", reader_cpus=1) == 4
    assert require_workers(3, "training", placement="STRICT_SPREAD") == 3
    with pytest.raises(ConfigError, match="1 CPUs, all on one node, and 4 fit"):
        require_workers(8, "training", placement="STRICT_PACK", reader_cpus=1)
    with pytest.raises(ConfigError, match="2 CPUs, each on its own node, and 2 fit"):
        require_workers(3, "training", cpus=2, placement="STRICT_SPREAD")


def test_nodes_that_an_autoscaler_starts_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    labels: list[Any] = []

    def request(bundles: list[Any], bundle_label_selectors: list[Any] | None = None) -> None:
        asked.append(bundles)
        labels.append(bundle_label_selectors)

    few = [{"Alive": True, "Resources": {"CPU": 1}}]
    more = [*few, {"Alive": True, "Resources": {"CPU": 4, "GPU": 2}}]
    monkeypatch.setattr(runtime, "_POLL_S", 0.01)
    monkeypatch.setattr(runtime, "request_resources", request)
    looks = iter([few] * 5)
    monkeypatch.setattr(ray, "nodes", lambda: next(looks, more))
    wanted = {"cpus": 1.5, "gpus": 1.0, "reader_cpus": 1.0}
    assert require_workers(2, "training", **wanted, wait_s=30) == 2
    *wishes, last = asked
    assert last == []
    # Repeated at each look, because Ray Data replaces it by a wish of its own.
    assert wishes == [[{"CPU": 2, "GPU": 1}, {"CPU": 2, "GPU": 1}, {"CPU": 1}]] * 4
    with pytest.raises(ConfigError, match="and 2 fit"):
        require_workers(3, "training", **wanted, wait_s=0.05)
    assert (len(asked[-2]), asked[-1]) == (4, [])
    asked.clear()
    with pytest.raises(ConfigError, match="and 2 fit"):
        require_workers(3, "training", **wanted)
    assert not asked, "nobody is asked who is not waited for"
    zone = {**wanted, "labels": {"zone": "b"}}
    with pytest.raises(ConfigError, match="and 0 fit"):
        require_workers(1, "training", **zone, wait_s=0.05)
    assert labels[-2:] == [[{"zone": "b"}, {}], None]

    def interrupted(seconds: float) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(runtime.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        require_workers(9, "training", **wanted, wait_s=30)
    assert asked[-1] == [], "a stopped job keeps no nodes"


def test_a_ray_that_runs_is_joined_and_left_running() -> None:
    before = ray.get_runtime_context().get_node_id()
    with local_or_cluster():
        assert ray.get_runtime_context().get_node_id() == before
        assert ray.cluster_resources()["CPU"] == 3
    assert ray.is_initialized()


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """As in a process that has no Ray yet, and gets none; what it would export is undone."""
    before = dict(os.environ)

    def init(**options: object) -> None:
        raise RuntimeError("no memory\nand a trace")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr("homnet_platform.runtime._JOIN_TIMEOUT_S", 0.5)
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one.getsockname()[1]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RAY_ADDRESS", "http://head:8265", "submit --address http://head:8265"),
        ("RAY_ADDRESS", "https://head", "submit --address https://head"),
        (
            "RAY_ADDRESS",
            "127.0.0.1:1",
            "RAY_ADDRESS=127.0.0.1:1 cannot be joined .no answer within",
        ),
        ("RAY_ADDRESS", "nowhere.invalid:6379", "no answer within"),
        ("RAY_ADDRESS", "127.0.0.1:{silent}", "no answer within"),
        ("RAY_ADDRESS", "nonsense", "cannot be joined .*give the address"),
        ("RAY_ADDRESS", "ray://head:10001", r"cannot be joined \(no memory\)"),
        ("RAY_TMPDIR", "/tmp/" + "x" * 40, "RAY_TMPDIR .*, 45 bytes long, .*allow 39"),
        ("TMPDIR", "/tmp/" + "ü" * 18, "TMPDIR .*, 41 bytes long"),
        ("RAY_TMPDIR", "/tmp/" + "x" * 34, r"does not start here \(no memory\)"),
    ],
)
def test_a_ray_that_cannot_be_had_is_one_sentence(
    no_ray: pytest.MonkeyPatch, silent_port: int, name: str, value: str, message: str
) -> None:
    no_ray.setenv(name, value.format(silent=silent_port))
    with pytest.raises(ConfigError, match=message) as raised, local_or_cluster():
        pass
    assert "\n" not in str(raised.value)


def test_a_long_folder_that_ray_does_not_use_is_no_fault(no_ray: pytest.MonkeyPatch) -> None:
    """macOS has always a long TMPDIR, and Ray takes /tmp there."""
    no_ray.setattr(sys, "platform", "darwin")
    no_ray.setenv("TMPDIR", "/var/folders/zz/" + "x" * 33)
    with pytest.raises(ConfigError, match=r"does not start here \(no memory\)"), local_or_cluster():
        pass


def test_local_is_no_address(no_ray: pytest.MonkeyPatch) -> None:
    no_ray.setenv("RAY_ADDRESS", "local")
    started = list[int]()
    no_ray.setattr(runtime, "_start", started.append)
    no_ray.setattr(ray, "shutdown", lambda: None)  # there is one, of the session
    with local_or_cluster(spare_cpus=3):
        assert "RAY_ADDRESS" not in os.environ
    assert started == [3]


def test_sockets_fit_below_the_longest_folder() -> None:
    """Ray's own path, as this session has it, is not longer than what is kept free for it."""
    session = ray._private.worker.global_worker.node
    tail = session.plasma_store_socket_name.removeprefix(session.get_temp_dir_path())
    digits = len("4194304") - len(str(session.get_session_dir_path().rpartition("_")[2]))
    assert len("/ray" + tail) + digits <= 107 - _LONGEST_TMPDIR
