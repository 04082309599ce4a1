"""Throughput of the models without a server: the baseline for endpoint measurements."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from homnet.bags.assessment import Assessment, FlatBags, assess
from homnet.model.allocator import keep_freed_memory
from homnet.model.predictor import Predictor, score_bags
from homnet_serve.records.material import Material


def bare_rates(
    material: Material, *, num_threads: int, patients_per_pass: int, seconds: float
) -> dict[str, float]:
    """Patients per second of consecutive passes, by number of patients per pass.

    Args:
        material: models and patients; hospitals alternate.
        num_threads: threads per pass.
        patients_per_pass: number of patients in the larger passes.
        seconds: duration of the measurement.
    """
    predictors = [Predictor.of_checkpoint(one) for one in material.checkpoints.values()]
    number_of = {hospital: n for n, hospital in enumerate(material.checkpoints)}
    assessed = [assess(table) for table in material.tables]
    numbers = [number_of[hospital] for hospital in material.hospital_of]
    return _rates(
        {
            f"{size} patients a pass" if size > 1 else "1 patient a pass": _passes(
                predictors, numbers, assessed, size
            )
            for size in sorted({1, patients_per_pass})
        },
        num_threads,
        seconds,
    )


def _passes(
    predictors: Sequence[Predictor],
    numbers: Sequence[int],
    assessed: Sequence[Assessment],
    size: int,
) -> Callable[[], int]:
    """A function that scores the next patients in one pass and returns their number."""
    place = 0

    def score() -> int:
        nonlocal place
        chosen = [(place + n) % len(assessed) for n in range(size)]
        place = (place + size) % len(assessed)
        bags = [assessed[n].bags for n in chosen]
        predictor_B = np.repeat([numbers[n] for n in chosen], [len(one) for one in bags])
        score_bags(predictors, FlatBags.concatenate(bags), predictor_B)
        return size

    return score


def _rates(
    tasks: Mapping[str, Callable[[], int]], num_threads: int, seconds: float
) -> dict[str, float]:
    # Same settings as the endpoint, for a fair comparison.
    keep_freed_memory()
    torch.set_num_threads(num_threads)
    rates: dict[str, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()  # warms up
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or min(map(len, rates.values())) < 3:
        # Interleaved, so that machine noise affects all tasks equally.
        for name, task in tasks.items():
            begin_s = time.perf_counter()
            size = task()
            rates[name].append(size / (time.perf_counter() - begin_s))
    return {name: round(float(np.median(values)), 2) for name, values in rates.items()}
