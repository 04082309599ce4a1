"""What methods will cost: a forecast before many runs."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import ray
import torch

from homnet.bags.draw import BagConfig, PairBank
from homnet.cohorts.split import TEST, TRAIN, VALIDATION
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.data import Shared
from homnet_platform.records.methods import Method
from homnet_platform.runtime import require_workers

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
    pretraining: float
    """Bags of one pre-training, those that are only scored by what they cost beside others."""
    fine_tuning: float = 0.0
    """Bags of one fine-tuning of all hospitals, as above."""
    scoring: float = 0.0
    """Bags that are scored in the end, as above."""


@dataclass(frozen=True)
class Times:
    """How often one method does each part of the work."""

    pretraining: int
    fine_tuning: int = 0
    scoring: int = 0


def work_of(
    shared: Shared, training: TrainingConfig, fine_tuning: TrainingConfig | None, bags: BagConfig
) -> Work:
    """How many bags each part of a run looks at.

    Args:
        shared: pairs and people.
        training: the pre-training.
        fine_tuning: that of each hospital; None without.
        bags: those that are scored.
    """
    pairs = shared.bank.frame["patient_id"].value_counts()

    def count(people: frozenset[str], settings: BagConfig, rounds: int) -> int:
        known = pairs.reindex(sorted(people)).fillna(0).sum()
        return int(known) * rounds // settings.num_cells

    def trained(split: Mapping[str, frozenset[str]], config: TrainingConfig) -> float:
        validated = count(split[VALIDATION], config.bags, config.validation_rounds)
        return config.max_epochs * (
            count(split[TRAIN], config.bags, config.bags.rounds) + _SCORING_SHARE * validated
        )

    tuned = tuple(shared.hospitals.values()) if fine_tuning is not None else ()
    return Work(
        training=training,
        people=(shared.healthy[TRAIN], shared.healthy[VALIDATION]),
        pretraining=trained(shared.healthy, training),
        fine_tuning=sum(trained(s, fine_tuning) for s in tuned if fine_tuning is not None),
        scoring=_SCORING_SHARE
        * sum(
            count(split[part], bags, bags.rounds)
            for split in tuned or (shared.healthy,)
            for part in (VALIDATION, TEST)
        ),
    )


def print_estimate(
    methods: Mapping[str, Method],
    times: Mapping[str, Times],
    data: Any,
    work: Work,
    cpus_per_run: int,
    at_once: int | None = None,
) -> float:
    """Trains each method on a few bags and says what all runs will take, before they start.

    Each is measured with what its last trial tries, which is its largest size, and taken to cost in
    proportion to the bags. Early stopping makes that less, as does a method that takes only so many
    of them.

    Args:
        methods: by name.
        times: how often each does what.
        data: reference to (fingerprint, :class:`Shared`).
        work: of one run.
        cpus_per_run: CPUs of a run.
        at_once: runs that go on at the same time; by default as many as the cluster has CPUs for.

    Returns:
        Minutes.

    Raises:
        ConfigError: no node has the CPUs of a run.
    """
    require_workers(1, "a run", cpus=cpus_per_run)
    probe: Any = ray.remote(num_cpus=cpus_per_run)(_probe)
    started = time.perf_counter()
    waiting = {name: probe.remote(methods[name], data, work, cpus_per_run) for name in times}
    total_s = 0.0
    print(f"{'method':<22} {'ms per bag':>10} {'trainings':>9} {'minutes':>8}")
    for name, reference in waiting.items():
        try:
            seconds, bags = ray.get(reference)
        except Exception as error:
            # The run itself will say the same, and only the run counts.
            print(f"{name:<22} cannot be estimated: {str(error).strip().splitlines()[-1]}")
            continue
        per_bag, many = seconds / bags, times[name]
        own_s = per_bag * (
            many.pretraining * work.pretraining
            + many.fine_tuning * work.fine_tuning
            + many.scoring * work.scoring
        )
        total_s += own_s
        print(f"{name:<22} {1e3 * per_bag:>10.2f} {many.pretraining:>9} {own_s / 60:>8.1f}")
    parallel = at_once or max(1, int(ray.cluster_resources().get("CPU", 1)) // cpus_per_run)
    minutes = total_s / 60 / parallel
    print(
        f"estimate: about {total_s / 60:.0f} minutes of work, {minutes:.0f} minutes with "
        f"{parallel} at a time (measured in {time.perf_counter() - started:.0f} s)",
        flush=True,
    )
    return minutes


def short_stage(method: Method, bank: PairBank, work: Work) -> tuple[Stage, int]:
    """A training of one epoch of a few hundred bags with the method's last trial, and how many."""
    training = dataclasses.replace(work.training, max_epochs=1, validation_rounds=1)
    few = [_first_people(bank, people, training) for people in work.people]
    stage = Stage("probe", method.form, training, train_patients=few[0], validation_patients=few[1])
    stage = method.stage(stage, method.trials[-1])
    train_index, validation_index = stage.parts(bank.index)
    validated = sum(len(epoch) for epoch in stage.validation_epochs(validation_index))
    return stage, len(stage.train_epoch(train_index, 0)) + round(_SCORING_SHARE * validated)


def _probe(method: Method, content: tuple[str, Shared], work: Work, cpus: int) -> tuple[float, int]:
    """Seconds of a short pre-training, validation included, and its bags."""
    torch.set_num_threads(cpus)
    bank = content[1].bank
    stage, num_bags = short_stage(method, bank, work)
    stage.model.build()  # imports libraries, which is no part of the work
    started = time.perf_counter()
    method.fit(stage, bank)
    return time.perf_counter() - started, num_bags


def _first_people(
    bank: PairBank, people: frozenset[str], training: TrainingConfig
) -> frozenset[str]:
    """As many people as it takes for some hundred bags."""
    counts = bank.frame["patient_id"].value_counts().reindex(sorted(people)).fillna(0)
    bags = counts.cumsum() * training.bags.rounds / training.bags.num_cells
    needed = int(np.searchsorted(bags.to_numpy(), _PROBED_BAGS)) + 1
    return frozenset(counts.index[:needed])
