"""Serves the models of the demonstration on this machine; makes them first if there are none.

python jobs/serve_demo.py

Prints the address of the web page, a key for it, and a file to drop there. Ends with Ctrl-C.
"""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from ray import serve

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import MEASURED
from homnet.errors import DataError
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import reference_bags
from homnet.model.registry import Registry
from homnet_platform.job import run_job
from homnet_platform.runtime import local_or_cluster
from homnet_serve.deployment import app
from homnet_serve.keys import new_key, write_keys


@dataclass(frozen=True)
class ServeDemoConfig:
    """An endpoint on this machine."""

    work: Path = Path("runs/demo")
    """Directory of the demonstration (jobs/demo.py), which is run if it is not there."""
    port: int = 8000
    """Port on 127.0.0.1."""
    num_threads: int = 2
    """Threads of the model."""
    findings: str = ""
    """Checkpoint of a reader of findings (jobs/learn_reader.py), if one is to be used."""


def main(config: ServeDemoConfig) -> None:
    """Publishes the models, makes a key and an example, and serves until it is interrupted."""
    work = config.work
    if not (work / "fine_tune").is_dir():
        print("There is no demonstration yet: training one takes some minutes.", flush=True)
        job = Path(__file__).with_name("demo.py")
        done = subprocess.run([sys.executable, str(job), "--work", str(work)], check=False)
        if done.returncode:
            raise DataError(f"{work}: the demonstration failed; see above")
    cohort = Cohort.open(work / "cohort")
    hospitals = sorted(path.parent.name for path in work.glob("fine_tune/*/checkpoint"))
    for hospital in hospitals:
        _promote(Registry(work / "registry"), work / "fine_tune" / hospital, cohort, hospital)
    secret, key = new_key("demo", hospitals)
    write_keys(work / "keys.json", [key])
    example = work / "example.arrow"
    _write_example(example, cohort.of_hospitals(hospitals[:1]).read())
    settings = {
        "registry": str((work / "registry").resolve()),
        "keys": str((work / "keys.json").resolve()),
        "audit": str((work / "audit").resolve()),
        "num_threads": config.num_threads,
        "findings": str(Path(config.findings).resolve()) if config.findings else "",
    }
    with local_or_cluster():
        serve.start(http_options={"host": "127.0.0.1", "port": config.port})
        serve.run(app(settings), name="homnet", route_prefix="/")
        print(f"\npage:    http://127.0.0.1:{config.port}/")
        print(f"key:     {secret}")
        print(f"example: {example}\nCtrl-C ends it.", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print("ending")
        finally:
            serve.shutdown()


def _promote(registry: Registry, run: Path, cohort: Cohort, hospital: str) -> None:
    """Publishes a checkpoint with reference bags and lets it answer, if it does not already."""
    checkpoint = Checkpoint.load(run / "checkpoint")
    promoted = registry.promoted(hospital)
    if promoted is not None and promoted.version == checkpoint.digest:
        return
    version = registry.publish(checkpoint, hospital)
    people = cohort.of_hospitals([hospital]).read(columns=MEASURED.names)
    bags = reference_bags(Predictor.of_checkpoint(checkpoint), people)
    registry.keep_reference_bags(version, bags)
    registry.promote(hospital, version)


def _write_example(path: Path, table: pa.Table) -> None:
    """The pairs of the first patient with an abnormality."""
    patient = table.filter(table["abnormal"])["patient_id"][0]
    rows = table.filter(pa.compute.equal(table["patient_id"], patient)).select(MEASURED.names)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, MEASURED) as writer:
        writer.write_table(rows.cast(MEASURED))


if __name__ == "__main__":
    run_job(ServeDemoConfig, main, description=__doc__)
