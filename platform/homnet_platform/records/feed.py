"""Rates of drawing, of assembling and of training on streamed and on resident bags."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from homnet.bags.draw import BagConfig, PairBank, rows_of_file
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.model.network import HomNetConfig, best_form
from homnet.results import Record, write_json
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet.training.supply import Plans
from homnet_platform.bag_stream import READER_CPUS, assemble, plans_of, window_items
from homnet_platform.records.timed_training import Measured, timed_training
from homnet_platform.runtime import local_or_cluster, require_workers


@dataclass(frozen=True)
class FeedConfig:
    """People to feed, and how often to measure."""

    cohort: str = "cohorts/simulated"
    """Cohort directory."""
    hospitals: tuple[str, ...] = ("healthy-1",)
    """Hospitals whose people are used."""
    output: Path = Path("runs/feed")
    """Directory for feed.json and Ray's own files."""
    model: HomNetConfig = best_form()
    """Form of the model that is trained."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of workers."""
    batch_size: int = 128
    """Bags per step."""
    window_pairs: int = 20_000
    """Pairs per window."""
    warm_up: int = 5
    """Untimed steps of each run; the first window is read meanwhile."""
    max_steps: int = 60
    """Approximate number of steps of each run; fewer patients are trained on to keep to it."""
    repeats: int = 3
    """Runs of each kind, in turns, so that noise of the machine affects all alike."""
    use_gpu: bool = False
    """Whether each worker gets a GPU."""
    gpu_bags_per_s: float = 0.0
    """Bags per second of one GPU in training, to state how many CPUs feed it; 0 states nothing."""
    seed: int = 0
    """Seed of the bags and the weights."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if min(self.repeats, self.max_steps - self.warm_up, *self.workers) < 1:
            raise ConfigError("workers and repeats must be at least 1, and max_steps above warm_up")


def feed(config: FeedConfig) -> dict[str, Any]:
    """Measures everything and writes ``feed.json``.

    Raises:
        CohortError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort).of_hospitals(config.hospitals)
    stage = _stage(cohort, config)
    runs: dict[str, list[Measured]] = {}
    with local_or_cluster():
        require_workers(
            max(config.workers),
            "the measurement",
            gpus=float(config.use_gpu),
            reader_cpus=READER_CPUS,
        )
        plans = plans_of(cohort, stage)
        everybody = _stage(cohort, replace(config, max_steps=sys.maxsize))
        assembled = _assembling(cohort, everybody, plans_of(cohort, everybody), config.repeats)
        for repeat in range(config.repeats):
            for workers in config.workers:
                for kind in ("resident", "streamed"):
                    found = timed_training(
                        cohort,
                        stage,
                        num_workers=workers,
                        use_gpu=config.use_gpu,
                        storage=config.output / "ray",
                        warm_up=config.warm_up,
                        resident=kind == "resident",
                    )
                    runs.setdefault(f"{kind}, {workers} workers", []).append(found)
                    rate = config.batch_size / np.median(found.step_s)
                    print(f"round {repeat + 1}: {workers} workers, {kind}: {rate:.0f} bags/s")
    figures = {
        "pairs": plans.num_pairs,
        "bags": plans.train.num_bags,
        "windows": len(stage.windows(plans.train, 0)),
        "drawing_bags_per_s": {
            labels: _drawing(cohort, stage, labels, config.repeats)
            for labels in ("artificial", "cohort")
        },
        "assembling": assembled,
        "training_bags_per_s": _rates(runs, config.batch_size),
        "streamed_share_of_resident": _shares(runs, config.workers),
    }
    if config.gpu_bags_per_s:
        figures["cpus_that_feed_a_gpu"] = config.gpu_bags_per_s / assembled["bags_per_s"]
    config.output.mkdir(parents=True, exist_ok=True)
    write_json(config.output / "feed.json", figures)
    config.record.write({"feed": figures}, recipe="feed", seed=config.seed)
    return figures


def _stage(cohort: Cohort, config: FeedConfig) -> Stage:
    """One epoch on as many patients as give about the requested number of steps."""
    split = split_patients(cohort.patients, SplitConfig(validation=0.05, test=0.0))
    pairs_of_patient = cohort.num_pairs / cohort.num_patients
    bags = BagConfig()
    wanted = config.max_steps * config.batch_size * bags.num_cells / pairs_of_patient
    few = {
        part: frozenset(sorted(split[part])[: max(8, round(share * wanted))])
        for part, share in ((TRAIN, 1.0), (VALIDATION, 0.05))
    }
    return Stage(
        name="feed",
        model=config.model,
        training=TrainingConfig(
            batch_size=config.batch_size,
            max_epochs=1,
            bags=bags,
            window_pairs=config.window_pairs,
            events=EventConfig(min_fraction=0.05, translocations=True, sham_share=0.4),
            validation_rounds=1,
            seed=config.seed,
        ),
        train_patients=few[TRAIN],
        validation_patients=few[VALIDATION],
    )


def _rates(runs: Mapping[str, list[Measured]], batch_size: int) -> dict[str, float]:
    """Median bags per second of each kind of run, and of steps on a batch that is in memory."""
    found = {}
    for name, several in runs.items():
        found[name] = batch_size / float(np.median(np.concatenate([one.step_s for one in several])))
        if name.startswith("resident"):
            still = float(np.median([one.still_s for one in several]))
            found[name.replace("resident", "batch in memory")] = batch_size / still
    return found


def _shares(runs: Mapping[str, list[Measured]], workers: tuple[int, ...]) -> dict[str, Any]:
    """Streamed rate as a share of the resident one: the median, and of each round."""
    found = {}
    for num in workers:
        kinds = (runs[f"{kind}, {num} workers"] for kind in ("resident", "streamed"))
        rounds = [
            float(np.median(resident.step_s) / np.median(streamed.step_s))
            for resident, streamed in zip(*kinds, strict=True)
        ]
        found[f"{num} workers"] = {"median": float(np.median(rounds)), "rounds": rounds}
    return found


def _drawing(
    cohort: Cohort, stage: Stage, labels: Literal["artificial", "cohort"], repeats: int
) -> float:
    """Bags that one core draws in a second, of the pairs of one window."""
    stage = replace(stage, training=replace(stage.training, labels=labels))
    tables = []
    for number in range(len(cohort.files)):
        tables.append(rows_of_file(cohort, number))
        if sum(table.num_rows for table in tables) >= stage.training.window_pairs:
            break
    bank = stage.usable(PairBank.from_table(pa.concat_tables(tables)))
    stage.train_epoch(bank, 0)  # makes what an epoch of the run finds made
    epochs = iter(range(1, 1 + repeats))
    seconds = _fastest(repeats, lambda: stage.train_epoch(bank, next(epochs)))
    return len(stage.train_epoch(bank, 0)) / seconds


def _assembling(cohort: Cohort, stage: Stage, plans: Plans, repeats: int) -> dict[str, float]:
    """Bags that one core reads, draws and gathers in a second, and the share of the reading."""
    # Not the first: it also makes the template, once in a run.
    item = window_items(stage, plans, lambda: (0, 0))[:2][-1]
    batch = pa.table({name: [value] for name, value in item.items()})
    window = stage.windows(plans.train, 0)[item["window"]]
    num_bags = int(plans.train.bags_Q[window.part_Q].sum())

    def run() -> Iterator[Any]:
        return assemble(batch, cohort=cohort, stage=stage, plans=plans, world=1)

    whole = _fastest(repeats, lambda: sum(1 for _ in run()))
    reading = _fastest(repeats, lambda: [cohort.read(cohort.files[n]) for n in window.files])
    return {"bags_per_s": num_bags / whole, "share_of_reading": reading / whole}


def _fastest(repeats: int, work: Callable[[], object]) -> float:
    """Processor seconds of the fastest repetition; other work on the core does not count."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)
