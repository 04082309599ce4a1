"""Ray on a laptop or a cluster: a job starts its own Ray or joins the one that it runs in."""

import logging
import math
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import grpc
import ray
from ray._common.utils import get_default_system_temp_dir
from ray._private.grpc_utils import init_grpc_channel
from ray._private.services import canonicalize_bootstrap_address
from ray._private.utils import get_num_cpus
from ray.autoscaler.sdk import request_resources
from ray.core.generated.gcs_service_pb2 import (  # type: ignore[attr-defined]  # made at run time
    GetClusterIdRequest,
)
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

from homnet.errors import ConfigError, first_line

ACCELERATOR: Final = "accelerator_type:"
"""Prefix of the resource of which Ray gives a node with a type of GPU one."""
LAPTOP_ENVIRONMENT = {
    # A report waits for the controller's next poll, two seconds by default (ray/train/v2).
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # A laptop has no cloud preemption and no metrics agent; both cost start-up time.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Ray 2.60 starts 32 footer readers per Parquet read, even on a small cluster.
    "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray Serve kills a proxy that is not ready in five seconds, and with it the start of the
    # endpoint; on a busy machine its imports alone take longer.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
}
"""Defaults of environment variables, so that small runs start and report in seconds."""
_AUTHENTICATION: Final = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
"""Variables by which a user chooses whether and with which token Ray is asked."""
_POLL_S: Final = 1.0
"""Between two looks at the nodes that an autoscaler starts."""
_JOIN_TIMEOUT_S: Final = 30.0
"""Ray itself tries a dead address for minutes."""
_LONGEST_SOCKET: Final = 103 if sys.platform == "darwin" else 107
_LONGEST_TMPDIR: Final = _LONGEST_SOCKET - len(
    "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
)
"""Bytes. Ray appends that much to its folder, and the path of a socket has a limit."""


@contextmanager
def local_or_cluster(*, spare_cpus: int = 1) -> Iterator[None]:
    """Joins the cluster of a submitted job, or starts and stops a local Ray.

    An already initialised Ray (in a test, a notebook or a calling job) is used as it is.

    Args:
        spare_cpus: CPUs that a local Ray counts beyond those of the machine: a reader of pairs
            needs one beside the workers, and mostly waits for them. 0 where work is timed.

    Raises:
        ConfigError: Ray cannot be joined or started.
    """
    configure_ray_data(quiet=os.environ.get("RAY_ADDRESS", "local") == "local")
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local"):  # Ray's own word for one that is started here
        os.environ.pop("RAY_ADDRESS", None)
        _start(spare_cpus)
    else:
        _join(address)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    if address.startswith(("http://", "https://")):
        raise ConfigError(
            f"RAY_ADDRESS is {address}, the address of a dashboard; submit the job with "
            f"'ray job submit --address {address} -- python ...', or unset RAY_ADDRESS to run here"
        )
    try:
        if not address.startswith("ray://") and (place := canonicalize_bootstrap_address(address)):
            # What Ray asks first, and for minutes where nobody answers or the token is wrong.
            with init_grpc_channel(place) as channel:
                NodeInfoGcsServiceStub(channel).GetClusterId(
                    GetClusterIdRequest(), timeout=_JOIN_TIMEOUT_S, wait_for_ready=True
                )
        ray.init()
    except Exception as error:
        reason = first_line(error)
        if isinstance(error, grpc.RpcError):
            reason = str(error.details())
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                reason = f"no answer within {_JOIN_TIMEOUT_S:g} s"
        raise ConfigError(
            f"the Ray at RAY_ADDRESS={address} cannot be joined ({reason}); give the address and "
            "token of one that runs, or unset RAY_ADDRESS to start one here"
        ) from error


def _start(spare_cpus: int) -> None:
    folder = get_default_system_temp_dir()
    if len(os.fsencode(folder)) > _LONGEST_TMPDIR:
        raise ConfigError(
            f"RAY_TMPDIR or TMPDIR, below which Ray has its sockets, is {folder}, "
            f"{len(os.fsencode(folder))} bytes long, and they allow {_LONGEST_TMPDIR}; set "
            "RAY_TMPDIR to a shorter path, for example /tmp"
        )
    for variable, value in LAPTOP_ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    _require_token()
    try:
        # address="local": never join a cluster that happens to run on this machine.
        ray.init(
            address="local",
            num_cpus=int(get_num_cpus()) + spare_cpus,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:
        raise ConfigError(
            f"Ray does not start here ({first_line(error)}); see its logs in "
            f"{folder}/ray/session_latest/logs, which must be writable and have room"
        ) from error


def _require_token() -> None:
    """Has a local Ray ask for a token, which only this process and its own know.

    Ray's node agent and its control store listen on the machine's network address, whatever that of
    the dashboard is, and who reaches them can run any code as this user. What the user has set
    stays.

    Ray turns tokens on by itself where nothing is said of RAY_AUTH_MODE. To set that variable here
    would be too late: Ray has read it when it was imported, and would start servers that want a
    token from a driver that sends none. Without a token in the environment Ray would write one to
    ~/.ray/auth_token, which then affects the user's own clusters.
    """
    if not any(name in os.environ for name in _AUTHENTICATION):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def require_workers(
    num_workers: int,
    what: str,
    *,
    cpus: float = 1.0,
    gpus: float = 0.0,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    placement: str = "PACK",
    reader_cpus: float = 0.0,
    wait_s: float = 0.0,
) -> int:
    """Raises if workers, or the readers of their data, would wait forever for CPUs or GPUs.

    Args:
        num_workers: processes that must run at the same time.
        what: name of the work in the error.
        cpus: of each worker.
        gpus: of each worker.
        resources: further resources of each worker.
        labels: labels of the nodes that the workers may run on.
        placement: Ray's strategy: STRICT_PACK is on one node, STRICT_SPREAD each on its own.
        reader_cpus: CPUs of one node to leave free for a task that reads for them.
        wait_s: seconds to wait for nodes, which an autoscaler is asked for, before refusing.

    Returns:
        The number of such workers that fit.

    Raises:
        ConfigError: fewer workers fit on the nodes of the cluster.
    """
    needs = {"CPU": cpus, "GPU": gpus, **(resources or {})}
    wanted = {name: need for name, need in needs.items() if need > 0}

    def fitting(node: Mapping[str, Any], taken: float) -> int:
        """Workers that fit on a node of which some CPUs are taken."""
        if not (labels or {}).items() <= node.get("Labels", {}).items():
            return 0
        free = {**node["Resources"], "CPU": node["Resources"].get("CPU", 0.0) - taken}
        return int(min(free.get(name, 0.0) / need for name, need in wanted.items()))

    def most() -> int:
        """Workers that fit beside a reader, which runs where it displaces fewest of them."""
        alive = [node for node in ray.nodes() if node["Alive"]]

        def beside(reader: int) -> int:
            """Workers that fit if the reader is on that node."""
            each = [fitting(node, reader_cpus * (n == reader)) for n, node in enumerate(alive)]
            if placement == "STRICT_PACK":
                return max(each)
            return sum(min(one, 1) for one in each) if placement == "STRICT_SPREAD" else sum(each)

        hosts = (
            n for n, node in enumerate(alive) if node["Resources"].get("CPU", 0.0) >= reader_cpus
        )
        return max(map(beside, hosts), default=0)

    deadline = time.monotonic() + wait_s
    if num_workers > most() and wait_s > 0:
        print(f"{what}: waiting up to {wait_s:g} s for nodes", flush=True)
        # Whole CPUs, as the autoscaler counts them.
        bundle = {
            name: need if name.startswith(ACCELERATOR) else math.ceil(need)
            for name, need in wanted.items()
        }
        readers = [{"CPU": math.ceil(reader_cpus)}] if reader_cpus else []
        try:
            while num_workers > most() and time.monotonic() < deadline:
                # Again and again: Ray Data replaces the wish by its own every 20 s, and nodes that
                # nobody wishes for go again.
                request_resources(
                    bundles=[bundle] * num_workers + readers,
                    bundle_label_selectors=[dict(labels or {})] * num_workers + [{}] * len(readers),
                )
                time.sleep(_POLL_S)
        finally:
            # The workers now keep their nodes; the wish alone would keep them for ever.
            request_resources(bundles=[])
    if num_workers > (number := most()):
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        each = f"{cpus:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        each += "".join(f", {need:g} {name}" for name, need in (resources or {}).items())
        each += "".join(
            f", on a node with {name}={value}" for name, value in (labels or {}).items()
        )
        each += {"STRICT_PACK": ", all on one node", "STRICT_SPREAD": ", each on its own node"}.get(
            placement, ""
        )
        there = ", ".join(
            f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes
        )
        beside = f" beside {reader_cpus:g} CPU for the reading of their data" if reader_cpus else ""
        raise ConfigError(
            f"{what} needs {num_workers} workers of {each}, and {number} fit on the nodes of the "
            f"Ray cluster ({there}){beside}; ask for fewer or smaller workers, or add nodes"
        )
    return number


def configure_ray_data(*, quiet: bool = True) -> None:
    """Stops Ray Data from wrapping our errors.

    ``quiet`` silences its progress and its log, which operators of a cluster want.
    """
    context = ray.data.DataContext.get_current()
    context.raise_original_map_exception = True
    context.use_datasource_v2 = False
    if quiet:
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
