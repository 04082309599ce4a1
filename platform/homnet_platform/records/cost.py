"""Estimates the cost of the runs of a comparison before they start."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import ray
import torch

from homnet.cohorts.split import TEST, TRAIN, VALIDATION
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.data import Participants
from homnet_platform.records.method_runs import MethodRuns
from homnet_platform.records.plan import Comparison
from homnet_platform.runtime import require_workers

SCORING_SHARE: Final = 1 / 3
"""Cost of scoring a pair relative to training on it: one pass instead of three."""
_PROBED_PAIRS: Final = 1_280


@dataclass(frozen=True)
class Work:
    """Number of training pairs in each part of a run without early stopping.

    A pair that is only scored counts as :data:`SCORING_SHARE` of a pair.
    """

    pretraining: float
    """Pairs in one pre-training."""
    fine_tuning: float
    """Pairs in one fine-tuning on all hospitals."""
    scoring: float
    """Pairs that are scored for the table."""


def work_of(shared: Participants, comparison: Comparison) -> Work:
    """Counts the pairs in each part of a run; a repeated pair counts each time."""
    hospitals = [*shared.hospitals.values()]
    judged = [split[part] for split in hospitals or [shared.healthy] for part in (VALIDATION, TEST)]
    return Work(
        pretraining=_learnt(
            shared,
            comparison.pretraining(0),
            shared.healthy[TRAIN],
            shared.healthy[VALIDATION],
        ),
        fine_tuning=sum(
            _learnt(shared, comparison.fine_tuning, split[TRAIN], split[VALIDATION])
            for split in hospitals
        ),
        scoring=SCORING_SHARE
        * comparison.bags.rounds
        * sum(_pairs_of(shared, people).sum() for people in judged),
    )


def print_estimate(
    lines: Mapping[str, MethodRuns],
    num_pairs: Mapping[str, float],
    data: Any,
    *,
    cpus: int,
    at_once: int,
) -> None:
    """Trains each method on a few pairs and prints the estimated time of all runs.

    The last trial is measured, as it is the largest. Time is assumed proportional to the number of
    pairs. Runs are shorter with early stopping, or if a method limits its pairs. If a method cannot
    be measured, the reason is printed; its runs will report the failure themselves.

    Args:
        lines: methods by name.
        num_pairs: total number of training pairs in all runs of a method, by name of the method.
        data: reference to :class:`Participants`.
        cpus: CPUs of a run.
        at_once: maximum number of concurrent runs.

    Raises:
        ConfigError: no node has enough CPUs for a run.
    """
    at_once = min(at_once, require_workers(1, "a run", cpus=cpus))
    probe: Any = ray.remote(num_cpus=cpus)(_probe)
    started = time.perf_counter()
    waiting = {name: probe.remote(lines[name], data, cpus) for name in num_pairs}
    minutes = 0.0
    print(f"{'method':<22} {'ms per pair':>11} {'pairs':>11} {'minutes':>8}")
    for name, reference in waiting.items():
        try:
            per_pair_s = ray.get(reference)
        except Exception as error:
            # The run itself fails with the same error, and only that failure counts.
            print(f"{name:<22} cannot be estimated: {str(error).strip().splitlines()[-1]}")
            continue
        own = per_pair_s * num_pairs[name] / 60
        minutes += own
        print(f"{name:<22} {1e3 * per_pair_s:>11.2f} {num_pairs[name]:>11,.0f} {own:>8.1f}")
    print(
        f"estimate: about {minutes:.0f} minutes of work, {minutes / at_once:.0f} minutes with "
        f"{at_once} at a time (measured in {time.perf_counter() - started:.0f} s)",
        flush=True,
    )


def short_stage(line: MethodRuns, shared: Participants) -> tuple[Stage, float]:
    """One epoch over a few thousand pairs with the method's last trial.

    Returns:
        The stage and its number of training pairs, counted as in :class:`Work`.
    """
    stage = line.pretraining(shared, line.comparison.seeds[0])
    training = dataclasses.replace(stage.training, max_epochs=1, validation_rounds=1)
    learnt = _first_people(shared, stage.train_patients, training.bags.rounds)
    validated = _first_people(shared, stage.validation_patients, 1)
    stage = dataclasses.replace(
        stage,
        name="probe",
        training=training,
        train_patients=learnt,
        validation_patients=validated,
    )
    return (
        line.method.stage(stage, line.method.trials[-1]),
        _learnt(shared, training, learnt, validated),
    )


def _probe(line: MethodRuns, shared: Participants, cpus: int) -> float:
    """Seconds per pair of a short pre-training, including validation."""
    torch.set_num_threads(cpus)
    stage, num_pairs = short_stage(line, shared)
    stage.model.build()  # imports libraries: negligible in a long run
    started = time.perf_counter()
    line.method.fit(stage, shared.bank)
    return (time.perf_counter() - started) / num_pairs


def _learnt(
    shared: Participants,
    training: TrainingConfig,
    people: frozenset[str],
    validated: frozenset[str],
) -> float:
    """Number of training pairs, plus the weighted number of validation pairs."""
    learnt = _pairs_of(shared, people).sum() * training.bags.rounds
    scored = _pairs_of(shared, validated).sum() * training.validation_rounds
    return float(training.max_epochs * (learnt + SCORING_SHARE * scored))


def _first_people(shared: Participants, people: frozenset[str], rounds: int) -> frozenset[str]:
    """The first people, sorted by name, that have a few thousand pairs in total."""
    num_pairs = _pairs_of(shared, people).cumsum() * rounds
    needed = int(np.searchsorted(num_pairs.to_numpy(), _PROBED_PAIRS)) + 1
    return frozenset(num_pairs.index[:needed])


def _pairs_of(shared: Participants, people: frozenset[str]) -> pd.Series:
    """Number of pairs by person, sorted by name."""
    counts = shared.bank.frame["patient_id"].value_counts()
    return counts.reindex(sorted(people)).fillna(0)
