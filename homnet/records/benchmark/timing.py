"""Timing in turns, and the peak performance of the machine."""

import concurrent.futures
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import torch

_SIZE: Final = {"cpu": 2048, "cuda": 8192}
"""Side of the square matrices in the timed product, by type of device."""
_LONGEST_S: Final = 1.0
"""Maximum expected seconds of one product."""
_BYTES: Final = {"cpu": 2**28, "cuda": 2**30}
"""Size in bytes of the timed copy: far above any cache."""


def in_turns(
    tasks: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    device: torch.device,
    warm_up: int = 2,
) -> dict[str, list[float]]:
    """Times every task once, then all again, and so on: machine noise affects all tasks equally.

    Args:
        tasks: the tasks by name.
        repeats: number of counted rounds.
        device: synchronised before each reading of the clock.
        warm_up: number of earlier, uncounted rounds that compile kernels and fill caches.

    Returns:
        Seconds of each task in each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(warm_up + repeats):
        for name, task in tasks.items():
            wait(device)
            started = time.perf_counter()
            task()
            wait(device)
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median, 10 % and 90 % quantiles."""
    low, median, high = np.quantile(seconds, [0.1, 0.5, 0.9])
    return {"p50": float(median), "p10": float(low), "p90": float(high)}


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """Speed-up factor, from times of the same rounds."""
    return quantiles([one / other for one, other in zip(slow, fast, strict=True)])


def limits(device: torch.device) -> dict[str, float]:
    """Speed of the device on a large matrix product and on a copy: the roofline."""
    found, largest, num_bytes = {}, _SIZE[device.type], _BYTES[device.type]
    for dtype in (torch.float32, torch.bfloat16):
        # Processors without bfloat16 emulate it a hundred times slower; a small product is enough.
        for size in (largest // 8, largest):
            factors = [torch.randn(size, size, device=device).to(dtype) for _ in range(2)]
            product = partial(torch.mm, *factors)
            seconds = in_turns({"": product}, repeats=3, device=device, warm_up=1)[""]
            if 8**3 * float(np.median(seconds)) > _LONGEST_S:
                break
        if size == largest:
            seconds += in_turns({"": product}, repeats=6, device=device, warm_up=0)[""]
        name = str(dtype).removeprefix("torch.")
        found[f"{name}_gflop_per_s"] = 2 * size**3 / float(np.median(seconds)) / 1e9
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = in_turns({"": lambda: target.copy_(source)}, repeats=9, device=device)[""]
    found["copy_gib_per_s"] = 2 * num_bytes / float(np.median(seconds)) / 2**30
    return found


def peak_memory_gib(task: Callable[..., object], *args: Any) -> float:
    """Peak resident memory in GiB of a task in a separate process."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak, task, args).result()


def _peak(task: Callable[..., object], args: tuple[Any, ...]) -> float:
    task(*args)
    return peak_of_process_gib()


def peak_of_process_gib() -> float:
    """Peak resident memory of this process in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**30 if sys.platform == "darwin" else 2**20)


def wait(device: torch.device) -> None:
    """Waits until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
