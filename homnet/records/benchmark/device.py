"""What a device reaches in training, on patients and in passes of an endpoint, within minutes.

Work that does not fit into its share of the budget is measured in part and scaled up, and
``share_measured`` says so. Every leaf of the result has the same fields on every device.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from homnet.errors import ConfigError
from homnet.model.network import HomNet, best_form, paper_form
from homnet.model.scoring import Precision
from homnet.records.benchmark.timing import limits, peak_of_process_gib, wait
from homnet.records.benchmark.workload import BAGS_OF_PATIENT, Bank, Passes, Patients, Training

FORMS: Final = {"paper": paper_form(), "best": best_form()}
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
NUM_PATIENTS: Final = (1, 1_000)
PASSES: Final = (23, 184, 1_000, 10_000)
"""Bags in a pass of the endpoint's scorer."""
FIELDS: Final = (
    *("seconds", "share_measured", "rounds", "flops", "bytes", "share_of_roofline"),
    *("share_of_peak", "skipped"),
)
"""Fields of a leaf; None where something was skipped, for the reason in ``skipped``."""
_COMPILATION_S: Final = 60.0
"""Seconds that must be left for a model to be compiled; a compilation cannot be interrupted."""
_MOST_ROUNDS: Final = 9


@dataclass(frozen=True)
class DeviceBenchmarkConfig:
    """Sizes, and the time that all measurements may take."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device; "auto" uses a GPU if there is one."""
    budget_s: float = 300.0
    """Seconds for everything but the limits; a last compilation may take a minute more."""
    batch_size: int = 512
    """Bags per training batch."""
    num_batches: int = 100
    """Training batches, each with abnormalities made on the device."""
    num_cells: int = 5
    """Pairs per bag."""
    seed: int = 0
    """Seed of pairs, bags and weights."""

    def __post_init__(self) -> None:
        if min(self.budget_s, self.batch_size, self.num_batches, self.num_cells) <= 0:
            raise ConfigError("budget_s, batch_size, num_batches and num_cells must be above zero")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "device cuda: torch finds no GPU here; install torch with CUDA, or choose cpu"
            )


@dataclass(frozen=True)
class _Task:
    """Work on ``whole`` bags, or on fewer of them."""

    place: tuple[str, ...]
    """Keys of its leaf in the result."""
    precision: Precision
    whole: int
    least: int
    """Smallest number of bags that stand for the rest."""
    step: int
    """What a larger number is a multiple of."""
    do: Callable[[int], object]
    share: float
    """Share of the budget."""


def device_benchmark(config: DeviceBenchmarkConfig) -> dict[str, Any]:
    """Runs all measurements, those with compilation last; returns JSON-able figures.

    Keys: ``training`` by form, precision and execution (seconds of all batches), ``patients`` by
    form, precision, number and execution, ``passes`` by form, precision and number of bags;
    ``limits``, the roofline; ``device`` and ``peak_memory_gib``.
    """
    cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    device = torch.device("cuda" if cuda else "cpu")
    torch.manual_seed(config.seed)
    roofline = limits(device)
    started = time.monotonic()
    figures: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "settings": {"batch_size": config.batch_size, "num_batches": config.num_batches},
        "limits": roofline,
    }
    cost: dict[tuple[str, ...], dict[str, float]] = {}
    for task, compiled in _tasks(config, device):
        left_s = _time_left(config.budget_s, started)
        leaf = dict.fromkeys(FIELDS)
        if left_s < (_COMPILATION_S if compiled else 0):
            leaf["skipped"] = "no time was left"
        else:
            try:
                found = _measured(task, task.share * config.budget_s, device)
                # A compiled model does the same in fewer steps, which cannot be counted.
                kind = task.place[:-1]
                cost[kind] = cost[kind] if compiled else _cost(task, found["share_measured"])
                leaf |= found | cost[kind] | _shares(found, cost[kind], task.precision, roofline)
            except Exception as error:  # no compiler, or too little memory: the rest is measured
                leaf["skipped"] = f"{type(error).__name__}: {error}".splitlines()[0]
        _put(figures, task.place, leaf)
        print(f"{', '.join(task.place)}: {leaf['skipped'] or leaf['seconds']}", flush=True)
    memory_gib = torch.cuda.max_memory_allocated(device) / 2**30 if cuda else peak_of_process_gib()
    return {**figures, "peak_memory_gib": memory_gib}


def _time_left(budget_s: float, started: float) -> float:
    return budget_s - (time.monotonic() - started)


def _tasks(config: DeviceBenchmarkConfig, device: torch.device) -> Iterator[tuple[_Task, bool]]:
    """All tasks, and whether each compiles its model."""
    bank = Bank(
        device,
        batch_size=config.batch_size,
        num_batches=config.num_batches,
        num_cells=config.num_cells,
        num_sent=max(PASSES) * config.num_cells,
        seed=config.seed,
    )
    for compiled in (False, True):
        for (form, shape), precision in itertools.product(FORMS.items(), PRECISIONS):
            execution = "compiled" if compiled else "eager"
            model = HomNet(shape).to(device)
            run: nn.Module = torch.compile(model, dynamic=False) if compiled else model  # type: ignore[assignment]
            yield (
                _Task(
                    place=("training", form, precision, execution),
                    precision=precision,
                    whole=config.num_batches * config.batch_size,
                    # A batch takes a CPU many seconds in bfloat16; a GPU is to compile but once.
                    least=config.batch_size if device.type == "cuda" else BAGS_OF_PATIENT,
                    step=config.batch_size,
                    do=Training(run, bank, precision),
                    share=0.08,
                ),
                compiled,
            )
            for number in NUM_PATIENTS[:1] if compiled else NUM_PATIENTS:
                bags = number * BAGS_OF_PATIENT
                yield (
                    _Task(
                        place=("patients", form, precision, str(number), execution),
                        precision=precision,
                        whole=bags,
                        least=BAGS_OF_PATIENT,
                        step=1,
                        do=Patients(run, bank, precision),
                        share=0.01,
                    ),
                    compiled,
                )
            for bags in () if compiled else PASSES:
                yield (
                    _Task(
                        place=("passes", form, precision, str(bags)),
                        precision=precision,
                        whole=bags,
                        least=BAGS_OF_PATIENT,
                        step=1,
                        do=Passes(model, bank, precision),
                        share=0.01,
                    ),
                    compiled,
                )


def _measured(task: _Task, allowance_s: float, device: torch.device) -> dict[str, float]:
    """Median seconds of the whole, scaled up from the share that fits into the allowance."""

    def seconds_of(number: int) -> float:
        wait(device)
        begin_s = time.perf_counter()
        task.do(number)
        wait(device)
        return time.perf_counter() - begin_s

    seconds_of(task.least)  # compiles and loads what is done once
    one_s = seconds_of(task.least)
    fits = int(task.least * allowance_s / 2 / one_s) // task.step * task.step
    number = min(task.whole, max(task.least, fits))
    if one_s * number / task.least < allowance_s / 4:
        seconds_of(number)  # reserves memory of its size
    rounds: list[float] = []
    while not rounds or (len(rounds) < _MOST_ROUNDS and sum(rounds) + rounds[-1] < allowance_s):
        rounds.append(seconds_of(number))
    scale = task.whole / number
    return {
        "seconds": scale * float(np.median(rounds)),
        "share_measured": number / task.whole,
        "rounds": len(rounds),
    }


def _cost(task: _Task, share: float) -> dict[str, float]:
    """Floating-point operations of the whole, and bytes that its operators read and write."""
    # A second batch costs what the first did.
    most = task.step if task.step > 1 else task.whole
    number = min(most, round(share * task.whole))
    with FlopCounterMode(display=False) as flops, _Traffic() as traffic:
        task.do(number)
    scale = task.whole / number
    return {"flops": scale * flops.get_total_flops(), "bytes": scale * traffic.total}


def _shares(
    found: Mapping[str, float],
    cost: Mapping[str, float],
    precision: Precision,
    roofline: Mapping[str, float],
) -> dict[str, float]:
    """Least time by the roofline, and by the operations alone, over the measured time."""
    compute_s = cost["flops"] / (1e9 * roofline[f"{precision}_gflop_per_s"])
    memory_s = cost["bytes"] / (2**30 * roofline["copy_gib_per_s"])
    return {
        "share_of_roofline": max(compute_s, memory_s) / found["seconds"],
        "share_of_peak": compute_s / found["seconds"],
    }


class _Traffic(TorchDispatchMode):
    """Counts the bytes of inputs and outputs of dispatched operators, but of views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            moved = {id(one): one for one in tree_leaves((args, kwargs, out))}
            self.total += sum(
                # Not more than its memory: an expanded tensor is read from the cache.
                min(one.nbytes, one.untyped_storage().nbytes())
                for one in moved.values()
                if isinstance(one, torch.Tensor)
            )
        return out


def _put(figures: dict[str, Any], place: tuple[str, ...], leaf: dict[str, Any]) -> None:
    for key in place[:-1]:
        figures = figures.setdefault(key, {})
    figures[place[-1]] = leaf
