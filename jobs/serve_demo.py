"""Serves the model that comes with the package on this machine.

python jobs/serve_demo.py

Prints the address of the web page, a key for it, and a file to drop there. Ends with Ctrl-C. Models
of your own: ``jobs/registry.py promote`` them in the registry of --work, or see docs/endpoint.md.
"""

import signal
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path

from ray import serve

from homnet.errors import ConfigError
from homnet.patients.verdict import VerdictConfig
from homnet_platform.job import run_job
from homnet_platform.runtime import local_or_cluster
from homnet_serve.demo import prepare
from homnet_serve.deployment import app


@dataclass(frozen=True)
class ServeDemoConfig:
    """An endpoint on this machine."""

    work: Path = Path("runs/serve")
    """Directory of its registry, keys and audit log."""
    port: int = 8000
    """Port on 127.0.0.1."""
    num_threads: int = 2
    """Threads of the model."""
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    """Caution of the verdicts, and the laboratory's prevalence."""


def main(config: ServeDemoConfig) -> None:
    """Serves until it is interrupted.

    Raises:
        ConfigError: the port cannot be used.
    """
    _check_free(config.port)
    config.work.mkdir(parents=True, exist_ok=True)
    secret, files, example = prepare(config.work)
    settings = {**files, "num_threads": config.num_threads, "verdict": vars(config.verdict)}
    with local_or_cluster():
        # Ray's own handler of SIGTERM aborts the process; from here it ends it as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": config.port})
            serve.run(app(settings), name="homnet", route_prefix="/")
            print(f"\npage:    http://127.0.0.1:{config.port}/")
            print(f"key:     {secret}")
            print(f"example: {example}\nCtrl-C ends it.", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print("ending", flush=True)
        finally:
            serve.shutdown()


def _check_free(port: int) -> None:
    """Checks that nothing listens on a port.

    Ray's proxy would not notice: it binds with SO_REUSEPORT, so a second endpoint of the same user
    binds too, and the kernel divides the connections between the two.

    Raises:
        ConfigError: the port cannot be used.
    """
    with socket.socket() as probe:
        # Connections of an endpoint that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"port {port}: cannot be used ({getattr(error, 'strerror', error)}); choose "
                "another --port, or end what answers there"
            ) from None


if __name__ == "__main__":
    run_job(ServeDemoConfig, main, description=__doc__)
