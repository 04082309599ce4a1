"""Runs the benchmark and assembles its figures."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from homnet.bags.draw import BagConfig, PairBank, with_parts
from homnet.bags.epochs import Batch, DeviceBank, Epoch, LoadedEpoch, draw_epoch
from homnet.errors import ConfigError, first_line
from homnet.model.network import HomNet, HomNetConfig, best_form, flops_per_bag, paper_form
from homnet.model.predictor import Predictor
from homnet.records.benchmark.looped import LoopedHomNet
from homnet.records.benchmark.timing import in_turns, limits, peak_memory_gib, quantiles, ratio
from homnet.records.benchmark.workload import BAGS_OF_PATIENT
from homnet.results import Record, write_json
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import healthy
from homnet.training.optimisation import TrainingConfig, make_optimizer, train_step

_CELLS_PER_PERSON: Final = 5.0
_PAIRS_PER_CELL: Final = 24
_MERGE_RANGES: Final = (8, 16, 32, 48, 64)
_NUM_CELLS: Final = (1, 2, 3, 5, 10, 20)
_BATCH_SIZES: Final = (64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class BenchmarkConfig:
    """Sizes and number of repeats."""

    output: Path = Path("runs/benchmark")
    """Directory for benchmark.json, the profile and the plot."""
    model: HomNetConfig = paper_form()
    """Form of the model that is compared with the looped one."""
    batch_size: int = 512
    """Bags per training step."""
    num_cells: int = 5
    """Pairs per bag."""
    num_pairs: int = 12000
    """Number of simulated pairs in the bank."""
    num_patients: int = 1000
    """Number of patients in the large scoring."""
    repeats: int = 9
    """Rounds of every comparison."""
    compile: bool = True
    """Whether the compiled model is measured too."""
    scaling: bool = True
    """Whether time is also measured against merge range, cells and batch size."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device; "auto" uses a GPU if there is one."""
    seed: int = 0
    """Seed of the simulated pairs and of the bags."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.num_cells, self.num_pairs, self.num_patients) < 1:
            raise ConfigError(
                "batch_size, num_cells, num_pairs and num_patients must be above zero"
            )
        if self.repeats < 3:
            raise ConfigError(f"repeats must be at least 3 to say how noisy it is: {self.repeats}")


def benchmark(config: BenchmarkConfig) -> dict[str, Any]:
    """Runs all measurements; returns JSON-able figures in seconds."""
    device = torch.device(
        config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    )
    torch.manual_seed(config.seed)
    bank = _bank(config)
    bags = _loaded(bank, config, device)
    parts: Mapping[str, Callable[[], Any]] = {
        "limits": lambda: limits(device),
        "training": lambda: _training(bags, bank, config, device),
        "patient": lambda: _patient(bank, config, device),
        "memory_gib": lambda: _memory(bags, config, device),
        "scaling": lambda: _scaling(bank, config, device) if config.scaling else [],
    }
    figures: dict[str, Any] = {"device": str(device), "threads": torch.get_num_threads()}
    for name, part in parts.items():
        figures[name] = part()
        print(f"measured: {name}", flush=True)
    training = figures["training"]
    training["share_of_matrix_peak"] = (
        training["flops"]
        / training["seconds"]["batched"]["p50"]
        / (1e9 * figures["limits"]["float32_gflop_per_s"])
    )
    config.output.mkdir(parents=True, exist_ok=True)
    (config.output / "profile.txt").write_text(_profile(bags, config, device))
    write_json(config.output / "benchmark.json", figures)
    return figures


def _training_steps(config: BenchmarkConfig) -> None:
    """Runs three steps on the CPU, in a process whose peak memory is measured."""
    torch.manual_seed(config.seed)
    bags = _loaded(_bank(config), config, torch.device("cpu"))
    step = _Step(HomNet(config.model), bags, config)
    for _ in range(3):
        step()


class _Step:
    """A training step on the next batch: assembly, synthesis, both passes and the optimizer."""

    def __init__(
        self,
        model: nn.Module,
        bags: LoadedEpoch,
        config: BenchmarkConfig,
        precision: Literal["float32", "bfloat16"] = "float32",
        cpu_pairs: int | None = HomNet.cpu_pairs,
    ) -> None:
        self.model = model
        self.cpu_pairs = cpu_pairs
        self.bags = bags
        self.size = config.batch_size
        self.start = 0
        self.precision = precision
        self.optimizer = make_optimizer(model, TrainingConfig())

    def __call__(self) -> None:
        self.start = 0 if self.start + self.size > len(self.bags) else self.start
        self.on(self.bags.batch(slice(self.start, self.start + self.size)))
        self.start += self.size

    def on(self, batch: Batch) -> None:
        """Runs the step on a batch in memory."""
        train_step(
            self.model,
            self.optimizer,
            batch,
            learning_rate=1e-3,
            clip_norm=1.0,
            loss_scale=1 / self.size,
            precision=self.precision,
            cpu_pairs=self.cpu_pairs,
        )


def _bank(config: BenchmarkConfig) -> PairBank:
    num_people = -(-config.num_pairs // round(_CELLS_PER_PERSON * _PAIRS_PER_CELL))
    hospital = healthy()
    tables = (
        simulate_person(config.seed, hospital, number, _CELLS_PER_PERSON)
        for number in range(num_people)
    )
    scale = hospital.laboratory.samples_per_px
    return PairBank.from_table(with_parts(pa.concat_tables(tables), samples_per_px=scale))


def _epoch(bank: PairBank, config: BenchmarkConfig) -> Epoch:
    # Bags over people, so that bags can have many cells.
    bags = BagConfig(num_cells=config.num_cells, rounds=2 * config.num_cells, over="people")
    return draw_epoch(bank, bags, TrainingConfig().events, seed=config.seed, epoch=0)


def _loaded(bank: PairBank, config: BenchmarkConfig, device: torch.device) -> LoadedEpoch:
    return DeviceBank(bank, device).load(_epoch(bank, config))


def _training(
    bags: LoadedEpoch, bank: PairBank, config: BenchmarkConfig, device: torch.device
) -> dict[str, Any]:
    """Steps of the batched, compiled and looped models, and the added time of the input."""
    model = HomNet(config.model).to(device)
    step = _Step(model, bags, config)
    looped = _Step(LoopedHomNet(HomNet(config.model).to(device)), bags, config, cpu_pairs=None)
    ready = bags.batch(slice(0, config.batch_size))
    tasks: dict[str, Callable[[], object]] = {
        "looped": looped,
        "batched": step,
        "batched, whole": _Step(HomNet(config.model).to(device), bags, config, cpu_pairs=None),
        "batched, batch in memory": lambda: step.on(ready),
        "assembly and synthesis": lambda: bags.batch(slice(0, config.batch_size)),
    }
    compiled = _compiled(HomNet(config.model).to(device)) if config.compile else None
    if compiled is not None:
        tasks["compiled"] = _Step(compiled, bags, config)
        tasks["compiled, bfloat16"] = _Step(compiled, bags, config, "bfloat16")
    for name, form in (("batched", config.model), ("best form, batched", best_form())):
        lower = _Step(HomNet(form).to(device), bags, config, "bfloat16")
        tasks[f"{name}, bfloat16"] = lower
    tasks["best form, batched"] = _Step(HomNet(best_form()).to(device), bags, config)
    seconds = in_turns(tasks, repeats=config.repeats, device=device)
    started = time.perf_counter()
    drawn = _epoch(bank, config)
    drawing = (time.perf_counter() - started) * config.batch_size / len(drawn)
    in_memory = seconds["batched, batch in memory"]
    assembly = float(np.median(seconds["assembly and synthesis"]))
    with FlopCounterMode(display=False) as counter:
        step()
    return {
        "batch_size": config.batch_size,
        "num_cells": config.num_cells,
        "seconds": {name: quantiles(values) for name, values in seconds.items()},
        "times_as_fast_as_looped": {
            name: ratio(seconds["looped"], seconds[name])
            for name in seconds
            if name.startswith(("batched", "compiled")) and "memory" not in name
        },
        "drawing_of_bags_and_events": drawing,
        "input_over_batch_in_memory": (assembly + drawing) / float(np.median(in_memory)),
        "flops": int(counter.get_total_flops()),
        "hundred_batches": 100 * float(np.median(seconds["batched"])),
    }


def _patient(bank: PairBank, config: BenchmarkConfig, device: torch.device) -> dict[str, Any]:
    """Scores one patient, and many at once, through the Predictor."""
    model = HomNet(config.model).to(device)
    bags = _loaded(bank, config, device)
    patient = bags.batch(slice(0, BAGS_OF_PATIENT))
    predictors = {"looped": _Scorer(LoopedHomNet(model)), "eager": _Scorer(model)}
    compiled = _compiled(model) if config.compile else None
    if compiled is not None:
        predictors["compiled"] = _Scorer(compiled)
    found: dict[str, Any] = {"num_pairs": BAGS_OF_PATIENT * config.num_cells}
    expected = predictors["eager"](patient)
    for precision in ("", ", bfloat16"):
        for name in [n for n in predictors if precision and n != "looped" and "," not in n]:
            predictors[name + precision] = _Scorer(predictors[name].model, torch.bfloat16)
    seconds = in_turns(
        {name: partial(scorer, patient) for name, scorer in predictors.items()},
        repeats=max(30, 5 * config.repeats),
        device=device,
        warm_up=5,
    )
    found["seconds"] = {name: quantiles(values) for name, values in seconds.items()}
    found["largest_change_of_score"] = {
        name: float((scorer(patient) - expected).abs().max()) for name, scorer in predictors.items()
    }
    predictor = Predictor(model, {}, version="", device=device)
    num_bags = config.num_patients * BAGS_OF_PATIENT
    batches = [
        bags.batch(slice(start, start + config.batch_size))
        for start in range(0, min(len(bags), 20 * config.batch_size), config.batch_size)
    ]
    in_batches = in_turns(
        {"": lambda: [predictor.logits(batch) for batch in batches]},
        repeats=3,
        device=device,
        warm_up=1,
    )[""]
    scored = sum(len(batch.label_B) for batch in batches)
    found["seconds_for_patients"] = {
        "patients": config.num_patients,
        "seconds": float(np.median(in_batches)) * num_bags / scored,
        "bags_scored_in_the_measurement": scored,
    }
    return found


class _Scorer:
    """The bare model call for one patient."""

    def __init__(self, model: nn.Module, dtype: torch.dtype | None = None) -> None:
        self.model = model
        self.dtype = dtype

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> torch.Tensor:
        with torch.autocast(
            batch.x_BKPCL.device.type, dtype=self.dtype, enabled=self.dtype is not None
        ):
            logit_B = self.model(batch.x_BKPCL, batch.mask_BK, batch.chromosome_B, batch.level_BK)
        return torch.sigmoid(logit_B.float())


def _compiled(model: nn.Module) -> nn.Module | None:
    """The compiled model, or None without a compiler."""
    compiled = cast(nn.Module, torch.compile(model))
    try:
        with torch.no_grad():
            one = next(model.parameters())
            compiled(
                torch.zeros(2, 3, 2, 2, 512, dtype=torch.uint8, device=one.device),
                torch.ones(2, 3, dtype=torch.bool, device=one.device),
                torch.zeros(2, dtype=torch.long, device=one.device),
                torch.zeros(2, 3, dtype=torch.long, device=one.device),
            )
    except Exception as error:
        print(f"not compiled: {first_line(error)}")
        return None
    return compiled


def _memory(bags: LoadedEpoch, config: BenchmarkConfig, device: torch.device) -> dict[str, float]:
    found = {"training_cpu": peak_memory_gib(_training_steps, config)}
    if device.type == "cuda":
        # Excludes the bank and the bags, which stay in memory.
        torch.cuda.reset_peak_memory_stats(device)
        step = _Step(HomNet(config.model).to(device), bags, config)
        for _ in range(3):
            step()
        found["training_device"] = torch.cuda.max_memory_allocated(device) / 2**30
    return found


def _scaling(bank: PairBank, config: BenchmarkConfig, device: torch.device) -> list[dict[str, Any]]:
    """Seconds per step against each size, with the other sizes as configured."""
    tried: dict[tuple[str, int], BenchmarkConfig] = {}
    for merge in _MERGE_RANGES:
        model = dataclasses.replace(config.model, merge_range=merge)
        tried["merge range", merge] = dataclasses.replace(config, model=model)
    for cells in _NUM_CELLS:
        tried["cells per bag", cells] = dataclasses.replace(config, num_cells=cells)
    for size in _BATCH_SIZES:
        tried["bags per batch", size] = dataclasses.replace(config, batch_size=size)
    found = []
    for (what, value), changed in tried.items():
        bags = _loaded(bank, changed, device)
        step = _Step(HomNet(changed.model).to(device), bags, changed)
        seconds = in_turns({"": step}, repeats=3, device=device, warm_up=1)[""]
        found.append(
            {
                "what": what,
                "value": value,
                "seconds": float(np.median(seconds)),
                "forward_flops": changed.batch_size
                * flops_per_bag(changed.model, changed.num_cells),
            }
        )
    return found


def _profile(bags: LoadedEpoch, config: BenchmarkConfig, device: torch.device) -> str:
    """Profiler table of the time in a training step."""
    step = _Step(HomNet(config.model).to(device), bags, config)
    step()
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        step()
    table: str = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=25)
    return table
