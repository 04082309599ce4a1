"""How much a training of a comparison does: what fits in its minutes, by its own measured rate."""

import dataclasses
import math
import time
from typing import Any, Final

import numpy as np

from homnet.bags.draw import PairBank
from homnet.bags.plan import Plan
from homnet.training.stage import Stage
from homnet_platform.records.method_trials import Method

SCORING_SHARE: Final = 1 / 3
"""Cost of scoring a pair relative to training on it: one pass instead of three."""
VALIDATION_SHARE: Final = 0.2
"""Maximum share of the time that validations take, unless there would be too few epochs."""
MAX_EPOCHS: Final = 20
"""Maximum number of epochs, each ended by a validation, in the minutes of a training."""
MIN_EPOCHS: Final = 4
"""Minimum number of epochs, so that the best of several can be kept."""
_PROBED_PAIRS: Final = 1_280


def short_stage(
    stage: Stage, bank: PairBank, num_pairs: int = _PROBED_PAIRS
) -> tuple[Stage, float]:
    """One epoch of a training over its first few thousand pairs.

    Returns:
        The stage and its number of training pairs; a pair that is only scored counts as
        :data:`SCORING_SHARE` of one.
    """
    training = dataclasses.replace(
        stage.training,
        max_epochs=1,
        validation_rounds=1,
        bags=dataclasses.replace(stage.training.bags, rounds=1),
        epochs_per_pass=1,
    )
    stage = dataclasses.replace(
        stage,
        name="probe",
        training=training,
        train_patients=_first_people(bank, stage.train_patients, num_pairs),
        validation_patients=_first_people(bank, stage.validation_patients, _PROBED_PAIRS),
    )
    return stage, sum(_pairs_of_epoch(stage, bank))


def seconds_per_pair(method: Method, stage: Stage, bank: PairBank, device: str) -> float:
    """Measures the rate of a training: seconds of CPUs (of the clock on a GPU) per training pair.

    Args:
        method: what is trained.
        stage: the training, with the values of its trial.
        bank: pairs of its people.
        device: device of the training.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    measured = []
    # The first run imports libraries and selects kernels; the next shows what every run costs.
    for num_pairs in (_PROBED_PAIRS, _PROBED_PAIRS, 5 * _PROBED_PAIRS):
        short, pairs = short_stage(stage, bank, num_pairs)
        started = clock()
        method.fit(short, bank, device=device)
        measured.append((clock() - started, pairs))
    _, (few_s, few), (many_s, many) = measured
    # A small set may have no more people for the long run.
    return max(many_s - few_s, 0.1 * many_s) / max(many - few, 0.1 * many)


def sized(stage: Stage, bank: PairBank, per_pair_s: float, seconds: float) -> Stage:
    """Sets the number and the size of a training's epochs so that it takes some seconds.

    A schedule of the learning rate then ends with the time. Epochs are at most
    :data:`MAX_EPOCHS`, and fewer if validations would take too long. Each uses all pairs several
    times, or some of the parts in turn.

    Args:
        stage: the training; its rounds count as one.
        bank: pairs of its people.
        per_pair_s: see :func:`seconds_per_pair`.
        seconds: the budget.
    """
    one = dataclasses.replace(stage.training.bags, rounds=1)
    single = dataclasses.replace(
        stage, training=dataclasses.replace(stage.training, bags=one, epochs_per_pass=1)
    )
    a_pass, scored = (per_pair_s * pairs for pairs in _pairs_of_epoch(single, bank))
    num = int(np.clip(VALIDATION_SHARE * seconds / scored, MIN_EPOCHS, MAX_EPOCHS))
    passes = max(seconds / num - scored, 0.0) / a_pass
    parts = len(Plan.of(stage.parts(bank.index)[0], one))
    # What does not fit a whole number of times makes epochs larger, not more.
    turns = 1 if passes >= 1 else math.floor(1 / max(passes, 1 / parts))
    rounds = max(1, math.ceil(passes))
    whole = scored + a_pass * rounds / turns
    training = dataclasses.replace(
        stage.training,
        bags=dataclasses.replace(one, rounds=rounds),
        epochs_per_pass=turns,
        max_epochs=max(MIN_EPOCHS, round(seconds / whole)),
    )
    return dataclasses.replace(stage, training=training)


def _pairs_of_epoch(stage: Stage, bank: PairBank) -> tuple[float, float]:
    """Number of pairs that an epoch trains on, and the weighted number that it scores."""
    train, validation = stage.parts(bank.index)
    return (
        float(len(train.frame) * stage.training.bags.rounds),
        SCORING_SHARE * len(validation.frame) * stage.training.validation_rounds,
    )


def _first_people(bank: PairBank, people: frozenset[str], num_pairs: int) -> frozenset[str]:
    """The first people, sorted by name, that have so many pairs in total."""
    counts = bank.frame["patient_id"].value_counts()
    of_people: Any = counts.reindex(sorted(people)).fillna(0).cumsum()
    needed = int(np.searchsorted(of_people.to_numpy(), num_pairs)) + 1
    return frozenset(of_people.index[:needed])
