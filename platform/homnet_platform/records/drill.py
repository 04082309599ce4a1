"""Fault drill: the cost of a killed worker, node or driver in a pre-training, and its effect.

A local cluster of a head and two nodes with a worker each pre-trains a small model. At a random
time one of them is killed with SIGKILL. The run must finish by itself, or after the same command
is repeated if the driver was killed, and its metrics must equal those of an undisturbed run.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ray.cluster_utils import Cluster

from homnet.errors import ConfigError, DataError
from homnet.locations import to_location
from homnet.processes import command_of, descendants, free_port
from homnet.results import Record, read_json, write_json
from homnet.seeding import generator

_STAGE: Final = "pre-training"
_LABEL: Final = "for-workers"
"""Label of the nodes of workers."""
_NUM_WORKERS: Final = 2
_REPEATED: Final = re.compile(r"goes on from ([\d,]+)(?:; ([\d,]+) are repeated)?")

Victim = Literal["worker", "node", "driver"]


@dataclass(frozen=True)
class DrillConfig:
    """Victims of the drill and settings of its runs."""

    cohort: str = "cohorts/simulated"
    """Cohort directory; a few dozen healthy people are enough."""
    hospitals: tuple[str, ...] = ("healthy-1",)
    """Hospitals whose people are used for training."""
    output: Path = Path("runs/drill")
    """Directory of the runs; emptied first."""
    victims: tuple[Victim, ...] = (
        *("worker",) * 4,
        *("node",) * 3,
        *("driver",) * 3,
    )
    """The process that is killed in each run."""
    max_epochs: int = 4
    """Epochs per run."""
    batch_size: int = 128
    """Bags per step."""
    checkpoint_steps: int = 4
    """Steps between checkpoints."""
    window_pairs: int = 2000
    """Pairs per window; small, so that some kills fall into later windows."""
    pairs_gib: float = 4.0
    """Memory per worker for pairs; if less than they need, the bags are streamed."""
    seed: int = 0
    """Seed of the trainings and of the times of the kills."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if self.checkpoint_steps < 1:
            raise ConfigError("checkpoint_steps must be at least 1: else nothing limits a loss")


def drill(config: DrillConfig) -> dict[str, Any]:
    """Runs the drill and returns its figures.

    Raises:
        DataError: a run did not finish, or its metrics differ from the undisturbed run.
    """
    shutil.rmtree(config.output, ignore_errors=True)
    config.output.mkdir(parents=True)
    random = generator(config.seed, "drill")
    expected, num_checkpoints = _undisturbed(config)
    bags_per_epoch = _total_bags(config.output / "undisturbed.log") // config.max_epochs
    print(f"undisturbed: {len(expected)} epochs, {num_checkpoints} checkpoints", flush=True)
    runs = []
    for number, victim in enumerate(config.victims):
        after = int(random.integers(1, num_checkpoints))
        moment = float(random.random())
        run = _disturbed(config, number, victim, after, moment, bags_per_epoch)
        run["same_metrics"] = run.pop("history") == expected
        runs.append(run)
        print(json.dumps(run), flush=True)
        write_json(config.output / "drill.json", {"runs": runs})
    figures = {
        "drill": {
            "runs": runs,
            "checkpoint_interval_bags": config.checkpoint_steps * config.batch_size,
            "most_repeated_bags": max(run["repeated_bags"] for run in runs),
            "all_same_metrics": all(run["same_metrics"] for run in runs),
        }
    }
    config.record.write(
        figures,
        recipe="drill",
        seed=config.seed,
    )
    if not figures["drill"]["all_same_metrics"]:
        raise DataError(
            f"{config.output}: a disturbed run ended with other metrics; see drill.json"
        )
    return figures


def _undisturbed(config: DrillConfig) -> tuple[list[Any], int]:
    cluster = _Nodes()
    try:
        output = config.output / "undisturbed"
        driver = _start(config, output, cluster.address)
        seen: set[str] = set()
        while driver.poll() is None:
            seen |= {path.name for path in _checkpoints(output)}
            time.sleep(0.02)
        _finished(driver, output)
        return _history(output), len(seen)
    finally:
        cluster.stop()


class _Nodes:
    """A head with the driver and the reader of pairs, and two nodes for a worker each."""

    def __init__(self) -> None:
        head = {
            "num_cpus": 1,
            # Ray Train frees the resources of a killed worker through the dashboard's API.
            "include_dashboard": True,
            "dashboard_port": free_port(),
            "object_store_memory": 300_000_000,
        }
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes = [self._add() for _ in range(_NUM_WORKERS)]

    @property
    def address(self) -> str:
        address: str = self._cluster.address
        return address

    def _add(self) -> Any:
        return self._cluster.add_node(
            num_cpus=1, object_store_memory=200_000_000, labels={_LABEL: "yes"}
        )

    def kill_one(self, number: int) -> None:
        """Sends SIGKILL to all processes of a node; a new node replaces it, as in Kubernetes."""
        self._cluster.remove_node(self._nodes[number], allow_graceful=False)
        self._nodes[number] = self._add()

    def stop(self) -> None:
        self._cluster.shutdown()


def _start(config: DrillConfig, output: Path, address: str) -> "subprocess.Popen[bytes]":
    job = Path(sys.argv[0]).resolve().parents[1] / "pretrain.py"
    command = [
        sys.executable,
        str(job),
        "best",
        f"--cohort={to_location(config.cohort).resolve()}",
        "--hospitals",
        *config.hospitals,
        f"--output={output.resolve()}",
        f"--training.batch-size={config.batch_size}",
        f"--training.max-epochs={config.max_epochs}",
        f"--training.checkpoint-steps={config.checkpoint_steps}",
        f"--training.window-pairs={config.window_pairs}",
        f"--training.seed={config.seed}",
        f"--scaling.num-workers={_NUM_WORKERS}",
        f"--scaling.pairs-gib={config.pairs_gib}",
        "--scaling.label-selector",
        _LABEL,
        "yes",
        "--scaling.max-failures=5",
    ]
    environment = {
        **os.environ,
        "RAY_ADDRESS": address,
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        # A lost node counts as alive until its heartbeats are missed: retry soon.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    }
    with (output.parent / f"{output.name}.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def _disturbed(
    config: DrillConfig,
    number: int,
    victim: Victim,
    after: int,
    moment: float,
    bags_per_epoch: int,
) -> dict[str, Any]:
    """One run whose victim is killed within an interval after its ``after``-th checkpoint."""
    output = config.output / f"{number}-{victim}"
    cluster = _Nodes()
    started = time.monotonic()
    try:
        driver = _start(config, output, cluster.address)
        _await_checkpoints(output, after, driver)
        time.sleep(0.5 * moment)
        kept = _bags_kept(output, config, bags_per_epoch)
        if victim == "worker":
            os.kill(train_workers()[int(moment * _NUM_WORKERS)], signal.SIGKILL)
        elif victim == "node":
            cluster.kill_one(int(moment * _NUM_WORKERS))
        else:
            driver.kill()
            driver.wait()
            # The killed driver's own workers end with it; the second driver finds only the storage.
            driver = _start(config, output, cluster.address)
        killed = time.monotonic()
        driver.wait()
        _finished(driver, output)
    finally:
        cluster.stop()
    return {
        "victim": victim,
        "after_checkpoint": after,
        "seconds": round(time.monotonic() - started, 1),
        "seconds_after_kill": round(time.monotonic() - killed, 1),
        **_went_on(output, kept + config.checkpoint_steps * config.batch_size),
        "history": _history(output),
    }


def _await_checkpoints(output: Path, wanted: int, driver: "subprocess.Popen[bytes]") -> None:
    seen: set[str] = set()
    while len(seen) < wanted:
        if driver.poll() is not None:
            raise DataError(f"{output}: ended before its {wanted}. checkpoint; see its log")
        seen |= {path.name for path in _checkpoints(output)}
        time.sleep(0.02)


def _checkpoints(output: Path) -> Sequence[Path]:
    return sorted((output / "ray" / _STAGE).glob("checkpoint_*"))


def _bags_kept(output: Path, config: DrillConfig, bags_per_epoch: int) -> int:
    """Number of bags trained on at the newest complete checkpoint."""
    for path in reversed(_checkpoints(output)):
        with suppress(DataError):
            metrics = read_json(path / "metrics.json")
            step = int(metrics["position"]["step"])
            return len(metrics["history"]) * bags_per_epoch + step * config.batch_size
    return 0


def train_workers() -> list[int]:
    """Train workers of the clusters started by this process only."""
    mine = descendants(os.getpid())
    return sorted(pid for pid in mine if command_of(pid).startswith("ray::RayTrainWorker"))


def _went_on(output: Path, most: int) -> Mapping[str, int]:
    """Position at which the run resumed, according to its log, and the number of repeated bags.

    A killed driver leaves no record of its position; its next checkpoint, ``most``, is the limit.
    """
    log = (output.parent / f"{output.name}.log").read_text()
    found = _REPEATED.findall(log)
    if not found:
        raise DataError(f"{output}: the run never went on from a checkpoint; was anything killed?")
    place = int(found[-1][0].replace(",", ""))
    repeated = found[-1][1].replace(",", "")
    return {"went_on_from_bags": place, "repeated_bags": int(repeated or most - place)}


def _total_bags(log: Path) -> int:
    """Total number of bags of a run, according to its progress bar."""
    return int(re.findall(r"(\d+)/(\d+) ", log.read_text())[-1][1])


def _finished(driver: "subprocess.Popen[bytes]", output: Path) -> None:
    if driver.returncode != 0:
        log = output.parent / f"{output.name}.log"
        tail = log.read_text().strip().splitlines()[-1:]
        raise DataError(f"{log}: the run ended with code {driver.returncode}: {''.join(tail)}")


def _history(output: Path) -> list[Any]:
    history: list[Any] = read_json(output / "history.json")["history"]
    return history
