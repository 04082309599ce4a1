"""Serves the models of the demonstration on this machine; makes them first if there are none.

python jobs/serve_demo.py

Prints the address of the web page, a key for it, and a file to drop there. Ends with Ctrl-C.
"""

import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from ray import serve

from homnet.errors import DataError
from homnet_platform.demo import is_finished
from homnet_platform.job import run_job
from homnet_platform.runtime import local_or_cluster
from homnet_serve.demo import prepare
from homnet_serve.deployment import app


@dataclass(frozen=True)
class ServeDemoConfig:
    """An endpoint on this machine."""

    work: Path = Path("runs/demo")
    """Directory of the demonstration (jobs/demo.py), which is made anew if it is not finished."""
    port: int = 8000
    """Port on 127.0.0.1."""
    num_threads: int = 2
    """Threads of the model."""
    findings: str = ""
    """Checkpoint of a reader of findings (jobs/learn_reader.py), if one is to be used."""


def main(config: ServeDemoConfig) -> None:
    """Makes the demonstration if it is not finished, and serves it until it is interrupted."""
    if not is_finished(config.work):
        print("There is no finished demonstration: making one takes some minutes.", flush=True)
        job = Path(__file__).with_name("demo.py")
        done = subprocess.run([sys.executable, str(job), "--work", str(config.work)], check=False)
        if done.returncode:
            raise DataError(f"{config.work}: the demonstration failed; see above")
    secret, files, example = prepare(config.work)
    findings = str(Path(config.findings).resolve()) if config.findings else ""
    settings = {**files, "num_threads": config.num_threads, "findings": findings}
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


if __name__ == "__main__":
    run_job(ServeDemoConfig, main, description=__doc__)
