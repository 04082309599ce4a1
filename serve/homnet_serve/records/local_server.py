"""Ray Serve in a separate process on this machine, for load tests and drills.

The parent sends requests and measures, without Ray. The child (this module, run with ``-m``) starts
Ray or joins the cluster of RAY_ADDRESS. It deploys each JSON object that it reads from stdin, one
per line, and answers an empty one with the number of replicas that are ready. All its processes are
its descendants, so no other process on the machine is touched.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final, Self

from homnet.errors import DataError
from homnet.processes import command_of, descendants, free_port, held_bytes

ROLES: Final = {
    "controller": ("ray::ServeController",),
    "proxy": ("ray::ProxyActor", "ray::HAProxyManager", "haproxy"),
    "replica": ("ray::ServeReplica",),
}
"""Prefixes of the command lines of Ray Serve's processes, by role."""
PROXIES: Final[dict[str, dict[str, str]]] = {
    "python": {},
    "throughput": {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"},
    "haproxy": {"RAY_SERVE_ENABLE_HA_PROXY": "1"},
    "haproxy, throughput": {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    },
}
"""Kinds of proxy between clients and replicas, with the environment variables that select them."""
_READY: Final = "homnet endpoint is ready"
_BYTES_OF_CALL: Final = str(128 * 2**20)


class LocalServer:
    """A child process with Ray Serve; a context manager that ends all its processes."""

    def __init__(
        self,
        log: Path,
        *,
        proxy: str = "python",
        environment: Mapping[str, str] | None = None,
        proxy_everywhere: bool = False,
    ) -> None:
        """Configures a server; entering the context starts it.

        Args:
            log: path of its log.
            proxy: one of :data:`PROXIES`.
            environment: further variables of the child, for example RAY_ADDRESS.
            proxy_everywhere: one proxy per node with replicas, instead of one on the head.
        """
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._joined = "RAY_ADDRESS" in (environment or {})
        self._environment = {
            # Start a separate Ray, never join a running one, and leave no token behind.
            "RAY_ADDRESS": "local",
            "RAY_AUTH_MODE": "disabled",
            # Tests and drills have no load balancer that must notice the shutdown first.
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
            # In the throughput-optimised mode bodies are sent by gRPC, limited to 4 MB by default.
            "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": _BYTES_OF_CALL,
            # HAProxy's own ports may be taken by another instance on this machine.
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
            **PROXIES[proxy],
            **(environment or {}),
        }
        self._location = "EveryNode" if proxy_everywhere else "HeadOnly"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "homnet_serve.records.local_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **self._environment},
                text=True,
            )
        return self

    def deploy(self, settings: Mapping[str, Any], **options: Any) -> None:
        """Deploys an endpoint, replacing the previous one, and waits until it answers.

        Args:
            settings: fields of :class:`homnet_serve.config.ServiceConfig`.
            options: options of the deployment, for example ``num_replicas``.

        Raises:
            DataError: the endpoint did not start; its log says why.
        """
        order = {
            "settings": dict(settings),
            "options": options,
            "proxy_location": self._location,
            "http_options": {
                "host": "127.0.0.1",
                "port": self.port,
                "request_timeout_s": 65,
            },
        }
        for line in self._ask(order):
            if line.strip() == _READY:
                return
        raise DataError(f"{self._log}: the endpoint did not come up; the log says why")

    def num_ready(self) -> int:
        """Number of replicas that the controller knows as running.

        Raises:
            DataError: the server has ended.
        """
        for line in self._ask({}):
            if line.strip().isdecimal():
                return int(line)
        raise DataError(f"{self._log}: the server has ended; its log says why")

    def _ask(self, order: Mapping[str, Any]) -> IO[str]:
        assert self._process is not None
        assert self._process.stdin
        assert self._process.stdout
        try:
            print(json.dumps(order), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise DataError(f"{self._log}: the server has ended; its log says why") from None
        return self._process.stdout

    @property
    def pid(self) -> int:
        """Process id of the child, the ancestor of all processes that it starts."""
        assert self._process is not None
        return self._process.pid

    def processes(self) -> dict[str, list[int]]:
        """Process ids by role of :data:`ROLES`."""
        if self._joined:
            # The nodes of its cluster are children of this process, not of the child.
            return serve_processes(os.getpid())
        return serve_processes(self.pid)

    def memory(self) -> dict[str, int]:
        """Memory in bytes of the processes of each role."""
        return {role: held_bytes(pids) for role, pids in self.processes().items()}

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process is not None
        assert process.stdin
        # No waiting: Ray's processes end with their parent, or are killed here.
        mine = descendants(process.pid)
        try:
            process.stdin.close()
            process.wait(60)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()
        for pid in mine:
            if _name_of(pid).startswith(("ray::", "haproxy")):
                _end(pid)
        if process.stdout:
            process.stdout.close()


def serve_processes(root: int) -> dict[str, list[int]]:
    """Processes of Ray Serve that descend from a process, by role."""
    found: dict[str, list[int]] = {role: [] for role in ROLES}
    for pid in descendants(root):
        name = _name_of(pid)
        for role, starts in ROLES.items():
            if name.startswith(starts):
                found[role].append(pid)
    return found


def _name_of(pid: int) -> str:
    """The command line of a process, with the path of its program removed."""
    command = command_of(pid)
    return Path(command.split(" ")[0]).name if command.startswith("/") else command


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _num_running() -> int:
    from ray import serve
    from ray.exceptions import RayError

    from homnet_serve.deployment import NAME

    try:
        found = serve.status().applications["homnet"].deployments[NAME].replica_states
    except RayError:  # the controller is being restarted
        return 0
    return sum(number for state, number in found.items() if state == "RUNNING")


def main() -> None:
    """Entry point of the child: deploys what it reads from stdin until end of file."""
    import ray
    from ray import serve

    from homnet_serve.deployment import endpoint

    address = os.environ.pop("RAY_ADDRESS")
    ray.init(
        address=address,
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=False if address == "local" else None,
    )
    try:
        for number, line in enumerate(sys.stdin):
            order = json.loads(line)
            if not order:
                print(_num_running(), flush=True)
                continue
            if not number:
                serve.start(
                    proxy_location=order["proxy_location"],
                    http_options=order["http_options"],
                    logging_config={"enable_access_log": False, "log_level": "WARNING"},
                )
            application = endpoint(order["settings"], **order["options"])
            serve.run(application, name="homnet", route_prefix="/")
            print(_READY, flush=True)
        serve.shutdown()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
