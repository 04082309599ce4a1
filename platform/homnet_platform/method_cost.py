"""What methods will cost: a forecast before many runs."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import ray
import torch

from homnet.bags import PairBank
from homnet.learning import Stage
from homnet.training import TrainingConfig
from homnet_platform.data import Shared
from homnet_platform.method_trials import Method

_PROBED_BAGS: Final = 256
_SCORING_SHARE: Final = 1 / 3
"""Cost of scoring a bag beside learning from it: one pass instead of three."""


@dataclass(frozen=True)
class Work:
    """What one run looks at, in bags, if early stopping does not end it."""

    training: TrainingConfig
    """Of the pre-training."""
    people: tuple[frozenset[str], frozenset[str]]
    """Whom the pre-training learns from and validates on."""
    pretraining: int
    """Bags of one trial."""
    fine_tuning: int
    """Bags of one trial of all hospitals."""
    scoring: int
    """Bags that are scored in the end."""


def print_estimate(
    methods: Mapping[str, Method],
    num_runs: Mapping[str, int],
    data: Any,
    work: Work,
    cpus_per_run: int,
) -> float:
    """Trains each method on a few bags and says what all runs will take, before they start.

    Early stopping makes it less, and so do methods that look at a part of the bags only.

    Args:
        methods: by name.
        num_runs: how many runs of each there are to do.
        data: reference to (fingerprint, :class:`Shared`).
        work: of one run.
        cpus_per_run: CPUs of a run.

    Returns:
        Hours, if as many runs go on at the same time as the cluster has CPUs for.
    """
    probe: Any = ray.remote(num_cpus=cpus_per_run)(_probe)
    waiting = {name: probe.remote(m, data, work, cpus_per_run) for name, m in methods.items()}
    total_s = 0.0
    print(f"{'method':<20} {'ms per bag':>10} {'runs':>5} {'hours':>8}")
    for name, reference in waiting.items():
        try:
            per_bag = float(ray.get(reference))
        except Exception as error:
            # The run itself will say the same, and only the run counts.
            print(f"{name:<20} cannot be estimated: {str(error).strip().splitlines()[-1]}")
            continue
        trials = len(methods[name].pretraining) or 1
        tuned = len(methods[name].fine_tuning) or 1
        bags = trials * work.pretraining + tuned * work.fine_tuning + work.scoring * _SCORING_SHARE
        seconds = num_runs[name] * per_bag * bags
        total_s += seconds
        print(f"{name:<20} {1e3 * per_bag:>10.1f} {num_runs[name]:>5} {seconds / 3600:>8.2f}")
    at_once = max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus_per_run)
    hours = total_s / 3600 / at_once
    print(
        f"at most about {total_s / 3600:.1f} hours of work, {hours:.1f} hours with {at_once} "
        "runs at a time",
        flush=True,
    )
    return hours


def _probe(method: Method, content: tuple[str, Shared], work: Work, cpus: int) -> float:
    """Seconds per bag of a short pre-training, validation included."""
    torch.set_num_threads(cpus)
    bank = content[1].bank
    training = dataclasses.replace(work.training, max_epochs=1, validation_rounds=1)
    few = [_first_people(bank, people, training) for people in work.people]
    stage = Stage("probe", method.form, training, train_patients=few[0], validation_patients=few[1])
    train_bank, validation_bank = stage.banks(bank)
    num_bags = len(stage.train_epoch(train_bank, 0)) + len(stage.validation_epoch(validation_bank))
    method.form.build()  # imports libraries, which is no part of the work
    started = time.perf_counter()
    method.fit(stage, bank)
    return (time.perf_counter() - started) / num_bags


def _first_people(
    bank: PairBank, people: frozenset[str], training: TrainingConfig
) -> frozenset[str]:
    """As many people as it takes for some hundred bags."""
    counts = bank.frame["patient_id"].value_counts().reindex(sorted(people)).fillna(0)
    bags = counts.cumsum() * training.bags.rounds / training.bags.num_cells
    needed = int(np.searchsorted(bags.to_numpy(), _PROBED_BAGS)) + 1
    return frozenset(counts.index[:needed])
