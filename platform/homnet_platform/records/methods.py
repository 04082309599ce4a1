"""Methods and their trials: the same number for all, the best by validation is kept."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from homnet.bags.draw import PairBank
from homnet.errors import ConfigError, DataError, DivergedError
from homnet.model.checkpoint import Checkpoint
from homnet.model.contract import Form
from homnet.results import read_json, write_json
from homnet.training.learning import METRIC
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage

Trial = Mapping[str, Any]
"""Fields of the training or of the form, by name, and the values that one trial gives them."""

_KEPT: Final = (METRIC, "seconds", "seconds_to_best")
"""Metrics of a checkpoint that a trial's line keeps."""


@dataclass(frozen=True)
class Method:
    """A line of the table."""

    form: Form
    """Settings of the model."""
    fit: Callable[..., Checkpoint]
    """Trains a :class:`homnet.training.stage.Stage` on a bank, with ``device``."""
    pretraining: tuple[Trial, ...] = ()
    """What the pre-training tries; without any there is one run, as the form is."""
    fine_tuning: tuple[Trial, ...] = ()
    """What the fine-tuning tries; without any there is one run."""
    in_steps: bool = True
    """Whether it learns step by step, so that a step can be timed."""

    def __post_init__(self) -> None:
        known = {f.name for of in (TrainingConfig, self.form) for f in dataclasses.fields(of)}
        for trial in (*self.pretraining, *self.fine_tuning):
            unknown = sorted(set(trial) - known)
            if unknown:
                raise ConfigError(
                    f"no field {unknown[0]!r} to try in the training or in {self.form}"
                )

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Trials of the pre-training, at least one."""
        return self.pretraining or ({},)

    @property
    def tunings(self) -> tuple[Trial, ...]:
        """Trials of the fine-tuning, at least one."""
        return self.fine_tuning or ({},)

    def at(self, trial: Trial, training: TrainingConfig) -> tuple[Form, TrainingConfig]:
        """The form and the training of one trial."""
        of_training = {field.name for field in dataclasses.fields(training)}
        form: Any = self.form
        return (
            dataclasses.replace(form, **{k: v for k, v in trial.items() if k not in of_training}),
            dataclasses.replace(training, **{k: v for k, v in trial.items() if k in of_training}),
        )

    def stage(self, stage: Stage, trial: Trial) -> Stage:
        """A stage as one trial has it."""
        form, training = self.at(trial, stage.training)
        return dataclasses.replace(stage, model=form, training=training)


def try_once(
    method: Method, trial: Trial, stage: Stage, bank: PairBank, device: torch.device | str
) -> tuple[Checkpoint | None, dict[str, Any]]:
    """One trial: its checkpoint, or None where it diverged, and a line about it.

    Args:
        method: what is trained.
        trial: what is tried.
        stage: the training, but for what is tried.
        bank: pairs of its people.
        device: where.
    """
    try:
        found = method.fit(method.stage(stage, trial), bank, device=device)
    except DivergedError:
        # A value that does not work is a finding, not an error.
        return None, {"tried": dict(trial), "diverged": True}
    return found, {"tried": dict(trial), **{key: found.metrics[key] for key in _KEPT}}


def best_of(lines: Sequence[Mapping[str, Any]], what: str) -> int:
    """Number of the trial that validates best; of equals the first.

    Raises:
        DataError: every trial diverged.
    """
    found = [number for number, line in enumerate(lines) if not line.get("diverged")]
    if not found:
        tried = [line["tried"] for line in lines]
        raise DataError(f"{what}: every trial diverged; try others than {tried}")
    return max(found, key=lambda number: float(lines[number][METRIC]))


def claim_trials(directory: Path, method: Method) -> None:
    """Recognises the directory of an interrupted run of the same form and trials, or makes one.

    Raises:
        ConfigError: a run of others is there.
    """
    settings = {
        "form": dataclasses.asdict(method.form),
        "pretraining": method.pretraining,
        "fine_tuning": method.fine_tuning,
    }
    wanted = json.loads(json.dumps(settings))
    kept = directory / "method.json"
    if kept.is_file() and read_json(kept) != wanted:
        raise ConfigError(
            f"{directory}: a run of another form or of other trials is here; choose another "
            "--output, or remove it"
        )
    write_json(kept, wanted)
