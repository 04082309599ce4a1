"""Bags per second of real Ray Train runs, and predictions for more workers and the full run.

Runs of one worker with two batch sizes give the time per bag and per step. Two workers are then
predicted (:mod:`homnet.records.benchmark.data_parallel`) and measured; the result includes the
prediction error. GPU times are computed from stated inputs; none was measured.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from homnet.bags.draw import BagConfig, PairBank, draw_bags
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.model.network import HomNetConfig, flops_per_bag, paper_form
from homnet.records.benchmark.cost import num_operators, training_flops_per_bag
from homnet.records.benchmark.data_parallel import (
    FullRun,
    GpuOptions,
    Network,
    StepModel,
    fit_step,
    full_run_s,
)
from homnet.records.benchmark.timing import quantiles
from homnet.records.training_tables import throughput_markdown
from homnet.results import Record, write_json
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.bag_stream import READER_CPUS
from homnet_platform.data import collect_bank, pairs_dataset
from homnet_platform.memory import peak_object_store
from homnet_platform.records.timed_training import Measured, timed_training
from homnet_platform.runtime import local_or_cluster, require_workers
from homnet_platform.simulate import SimulateConfig, simulate

_HEALTHY: Final = "healthy-1"


@dataclass(frozen=True)
class ThroughputConfig:
    """Settings of the measurement and of the computation based on it."""

    output: Path = Path("runs/throughput")
    """Directory for the simulated cohort, throughput.json and throughput.md."""
    model: HomNetConfig = paper_form()
    """Form of the model."""
    batch_size: int = 512
    """Bags per step over all workers; half of it is measured too."""
    num_cells: int = 5
    """Pairs per bag."""
    num_workers: int = 2
    """Number of workers in the runs that check the predictions."""
    use_gpu: bool = False
    """Whether each worker gets a GPU."""
    steps: int = 12
    """Number of timed steps per run."""
    warm_up: int = 3
    """Number of untimed steps at the start."""
    repeats: int = 3
    """Runs of each kind, in turns, so that machine noise affects all kinds equally."""
    num_people: int = 24
    """Number of simulated healthy people to train on."""
    workers: tuple[int, ...] = (1, 4, 8)
    """Numbers of workers for which the full run is predicted."""
    run: FullRun = FullRun()
    """Settings of the full run."""
    gpu: GpuOptions = GpuOptions()
    """GPU for which the full run is computed."""
    price_per_gpu_hour: float | None = None
    """Price in your currency; without it no cost is given."""
    seed: int = 0
    """Seed of the people, the bags and the weights."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if self.batch_size < 2 * self.num_workers or self.num_workers < 2:
            raise ConfigError(
                "num_workers must be at least 2, and half a batch must hold a bag for each: got "
                f"{self.num_workers} workers and batches of {self.batch_size}"
            )
        if min(self.steps, self.warm_up, self.repeats, self.num_people - 9, *self.workers) < 1:
            raise ConfigError(
                "steps, warm_up, repeats and workers must be at least 1, num_people at least 10"
            )


def throughput(config: ThroughputConfig) -> dict[str, Any]:
    """Measures the runs, fits and checks the model, and writes the figures.

    Raises:
        ConfigError, DataError: see their messages.
    """
    cohort = _cohort(config)
    split = split_patients(cohort.of_hospitals([_HEALTHY]).patients, SplitConfig(0.1, 0.0))
    with local_or_cluster():
        gpus = float(config.use_gpu)
        require_workers(config.num_workers, "the measurement", gpus=gpus, reader_cpus=READER_CPUS)
        bank = collect_bank(pairs_dataset(cohort))
        bags = _bags_of_one(bank, config)
        sizes = (config.batch_size // 2, config.batch_size)
        plan = [(workers, size) for workers in (1, config.num_workers) for size in sizes]
        runs: dict[tuple[int, int], list[Measured]] = {kind: [] for kind in plan}
        with peak_object_store() as store:
            for repeat in range(config.repeats):
                for workers, size in plan:
                    measured = timed_training(
                        cohort,
                        _stage(config, size, bags["person"], split),
                        num_workers=workers,
                        use_gpu=config.use_gpu,
                        storage=config.output / "ray",
                        warm_up=config.warm_up,
                    )
                    runs[workers, size].append(measured)
                    rate = size / np.median(measured.step_s)
                    print(
                        f"round {repeat + 1} of {config.repeats}: {workers} workers, {size} bags "
                        f"a step: {rate:.0f} bags/s",
                        flush=True,
                    )
    figures = figures_of(runs, config, bags) | {"object_store_peak_bytes": store.peak_bytes}
    table = throughput_markdown(figures)
    write_json(config.output / "throughput.json", figures)
    (config.output / "throughput.md").write_text(table)
    config.record.write(
        {"throughput": figures},
        recipe="paper" if config.model == paper_form() else "custom",
        seed=config.seed,
    )
    print(table)
    return figures


def figures_of(
    runs: Mapping[tuple[int, int], list[Measured]],
    config: ThroughputConfig,
    bags: Mapping[str, float],
) -> dict[str, Any]:
    """Fits the model to the runs of one worker, checks it on the others, and predicts the full run.

    Args:
        runs: measured runs by number of workers and batch size.
        config: config of the job.
        bags: number of bags of a healthy ``person`` and of a ``patient`` in one round.
    """
    pooled = {kind: [s for one in several for s in one.step_s] for kind, several in runs.items()}
    medians = {kind: float(np.median(seconds)) for kind, seconds in pooled.items()}
    bag_s, fixed_s = fit_step({size: s for (workers, size), s in medians.items() if workers == 1})
    together = [one for (workers, _), several in runs.items() if workers > 1 for one in several]
    payloads = together[0].all_reduce_s
    network = Network.fitted(
        {size: float(np.median([one.all_reduce_s[size] for one in together])) for size in payloads},
        config.num_workers,
    )
    model = StepModel(bag_s, fixed_s, together[0].gradient_bytes, network)
    flops = training_flops_per_bag(config.model, config.num_cells)
    measured = [
        {
            "workers": workers,
            "batch_size": size,
            "step_s": quantiles(pooled[workers, size]),
            "bags_per_s": size / medians[workers, size],
            "predicted_step_s": model.step_s(workers, size),
            "fitted": workers == 1,
            "input_share": float(
                np.median([one.input_s for one in runs[workers, size]]) / medians[workers, size]
            ),
        }
        for workers, size in runs
    ]
    figures: dict[str, Any] = {
        "measured": measured,
        "device": "GPU" if config.use_gpu else "CPU",
        "num_cells": config.num_cells,
        "speedup": medians[1, config.batch_size] / medians[config.num_workers, config.batch_size],
        "predicted_speedup": model.step_s(1, config.batch_size)
        / model.step_s(config.num_workers, config.batch_size),
        "bag_s": bag_s,
        "fixed_s": fixed_s,
        "gradient_bytes": model.gradient_bytes,
        "all_reduce_bytes_per_worker": 2
        * (config.num_workers - 1)
        / config.num_workers
        * model.gradient_bytes,
        "latency_s": network.latency_s,
        "bytes_per_s": network.bytes_per_s,
        "flops_per_bag": flops,
        "flop_per_s": flops / bag_s,
        "operators_per_step": num_operators(config.model, config.num_cells),
        "bags": dict(bags),
        "run": dataclasses.asdict(config.run),
        "gpu": dataclasses.asdict(config.gpu),
        "price_per_gpu_hour": config.price_per_gpu_hour,
    }
    machines = {f"{figures['device']} as measured": model}
    if config.gpu.peak_flop_per_s:
        machines[config.gpu.name] = config.gpu.step_model(
            flops_per_bag=flops,
            operators=figures["operators_per_step"],
            gradient_bytes=model.gradient_bytes,
        )
    figures["computed"] = [
        _full_run(name, machine, workers, config, bags)
        for name, machine in machines.items()
        for workers in config.workers
    ]
    return figures


def _full_run(
    name: str,
    model: StepModel,
    workers: int,
    config: ThroughputConfig,
    bags: Mapping[str, float],
) -> dict[str, Any]:
    """Time and GPU cost of the full run as ``[low, high]``: full overlap and none."""
    own = flops_per_bag(config.model, config.num_cells)
    work_of = {
        merge: flops_per_bag(dataclasses.replace(config.model, merge_range=merge), config.num_cells)
        / own
        for merge in config.run.merge_ranges
    }
    bounds = [
        full_run_s(
            config.run,
            model,
            workers,
            bags_per_person=bags["person"],
            bags_per_patient=bags["patient"],
            work_of=work_of,
            overlap=overlap,
        )
        for overlap in (True, False)
    ]
    size = config.run.batch_size
    parts = model.parts(workers, size)
    priced = config.price_per_gpu_hour if name == config.gpu.name else None
    hours = {stage: [bound[stage] / 3600 for bound in bounds] for stage in bounds[0]}
    return {
        "machine": name,
        "workers": workers,
        "step_s": [model.step_s(workers, size, overlap=overlap) for overlap in (True, False)],
        "bags_per_s": [
            model.bags_per_s(workers, size, overlap=overlap) for overlap in (False, True)
        ],
        "all_reduce_share": parts["all_reduce"] / sum(parts.values()),
        "hours": hours,
        "cost": None
        if priced is None
        else [priced * workers * sum(hours[stage][end] for stage in hours) for end in (0, 1)],
    }


def _cohort(config: ThroughputConfig) -> Cohort:
    """Simulated people; those of an earlier measurement with the same settings are reused."""
    # A tenth is for validation; a few patients give the number of bags per patient.
    people = {"num_healthy": round(config.num_people / 0.9), "num_patients": (3, 3, 3, 3)}
    name = f"cohort-{people['num_healthy']}-{config.seed}"
    place = config.output / name
    if place.exists():
        return Cohort.open(place)
    return simulate(SimulateConfig(output=place, seed=config.seed, **people))  # type: ignore[arg-type]


def _bags_of_one(bank: PairBank, config: ThroughputConfig) -> dict[str, float]:
    """Number of bags of a healthy person and of a patient in one round."""
    healthy = bank.frame["hospital"] == _HEALTHY
    found = {}
    for name, who in (("person", healthy), ("patient", ~healthy)):
        patients = set(bank.frame["patient_id"][who])
        drawn = draw_bags(
            bank.of_patients(frozenset(patients)),
            BagConfig(num_cells=config.num_cells),
            seed=config.seed,
        )
        found[name] = len(drawn) / len(patients)
    return found


def _stage(
    config: ThroughputConfig,
    batch_size: int,
    bags_per_person: float,
    split: Mapping[str, frozenset[str]],
) -> Stage:
    """One epoch with the requested number of steps; pairs are repeated as often as necessary."""
    wanted = (config.warm_up + config.steps + 1) * batch_size
    rounds = math.ceil(wanted / (0.9 * bags_per_person * len(split[TRAIN])))
    return Stage(
        name=f"{batch_size} bags a step",
        model=config.model,
        training=TrainingConfig(
            batch_size=batch_size,
            max_epochs=1,
            bags=BagConfig(num_cells=config.num_cells, rounds=rounds),
            validation_rounds=1,
            seed=config.seed,
        ),
        train_patients=split[TRAIN],
        validation_patients=split[VALIDATION],
    )
