"""Rates of what feeds a training: bags that one core draws, and reads, draws and gathers.

How fast a training takes them is in its own record: ``bags_per_s`` and ``wait_share``.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from homnet.bags.draw import PairBank, rows_of_file
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.model.network import best_form
from homnet.results import Record, write_json
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet.training.supply import Plans
from homnet_platform.bag_stream import assemble, plans_of, window_items
from homnet_platform.runtime import local_or_cluster


@dataclass(frozen=True)
class FeedConfig:
    """People to feed, and how often to measure."""

    cohort: str = "cohorts/simulated"
    """Cohort directory."""
    hospitals: tuple[str, ...] = ("healthy-1",)
    """Hospitals whose people are used."""
    output: Path = Path("runs/feed")
    """Directory for feed.json."""
    window_pairs: int = 20_000
    """Pairs per window."""
    repeats: int = 3
    """Repetitions of each measurement, of which the fastest counts."""
    gpu_bags_per_s: float = 0.0
    """Bags per second of one GPU in training, to state how many CPUs feed it; 0 states nothing."""
    seed: int = 0
    """Seed of the bags."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ConfigError(f"repeats must be at least 1, got {self.repeats}")


def feed(config: FeedConfig) -> dict[str, Any]:
    """Measures everything and writes ``feed.json``.

    Raises:
        CohortError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort).of_hospitals(config.hospitals)
    stage = _stage(cohort, config)
    with local_or_cluster():
        plans = plans_of(cohort, stage)
        assembled = _assembling(cohort, stage, plans, config.repeats)
    figures = {
        "pairs": plans.num_pairs,
        "bags": plans.train.num_bags,
        "windows": len(stage.windows(plans.train, 0)),
        "drawing_bags_per_s": {
            labels: _drawing(cohort, stage, labels, config.repeats)
            for labels in ("artificial", "cohort")
        },
        "assembling": assembled,
    }
    if config.gpu_bags_per_s:
        figures["cpus_that_feed_a_gpu"] = config.gpu_bags_per_s / assembled["bags_per_s"]
    config.output.mkdir(parents=True, exist_ok=True)
    write_json(config.output / "feed.json", figures)
    config.record.write({"feed": figures}, recipe="feed", seed=config.seed)
    return figures


def _stage(cohort: Cohort, config: FeedConfig) -> Stage:
    split = split_patients(cohort.patients, SplitConfig(validation=0.05, test=0.0))
    return Stage(
        name="feed",
        model=best_form(),
        training=TrainingConfig(
            batch_size=128,
            window_pairs=config.window_pairs,
            events=EventConfig(min_fraction=0.05, translocations=True, sham_share=0.4),
            validation_rounds=1,
            seed=config.seed,
        ),
        train_patients=split[TRAIN],
        validation_patients=split[VALIDATION],
    )


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
