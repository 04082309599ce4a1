"""One method with its trials: the same number for all, the best by validation is kept."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from homnet.bag_model import Form
from homnet.bags import PairBank
from homnet.checkpoint import Checkpoint
from homnet.errors import ConfigError, DataError, DivergedError
from homnet.learning import METRIC, Stage
from homnet.results import read_json, write_json
from homnet.training import TrainingConfig

_KEPT: Final = (METRIC, "seconds", "seconds_to_best")
"""Metrics of a checkpoint that a trial's line keeps."""


@dataclass(frozen=True)
class Method:
    """A line of the table."""

    form: Form
    """Settings of the model."""
    fit: Callable[..., Checkpoint]
    """Trains a :class:`homnet.learning.Stage` on a bank, with ``device``."""
    knob: str = "learning_rate"
    """What is tried: a field of the training, or of the form."""
    pretraining: tuple[float, ...] = ()
    """Values that the pre-training tries; without any there is one run, as the form is."""
    fine_tuning: tuple[float, ...] = ()
    """Values that each fine-tuning tries."""
    in_steps: bool = True
    """Whether it learns step by step, so that a step can be timed."""

    def __post_init__(self) -> None:
        known = {f.name for of in (TrainingConfig, self.form) for f in dataclasses.fields(of)}
        if self.knob not in known:
            raise ConfigError(f"no field {self.knob!r} to try in the training or in {self.form}")

    def at(self, value: float | None, training: TrainingConfig) -> tuple[Form, TrainingConfig]:
        """The form and the training of one trial."""
        changes: dict[str, Any] = {} if value is None else {self.knob: value}
        if self.knob in {field.name for field in dataclasses.fields(training)}:
            return self.form, dataclasses.replace(training, **changes)
        form: Any = self.form
        return dataclasses.replace(form, **changes), training


def best_of(
    method: Method,
    values: Sequence[float],
    stage: Stage,
    bank: PairBank,
    output: Path,
    device: torch.device,
) -> tuple[Checkpoint, list[dict[str, Any]]]:
    """The trial that validates best, and a line for each trial; both are kept on disk.

    Args:
        method: what is trained.
        values: what is tried; a single trial without any.
        stage: the training, but for what is tried.
        bank: pairs of its people.
        output: directory; what an earlier call left there is taken from it.
        device: where.

    Raises:
        DataError: every trial diverged.
    """
    kept, lines = output / "checkpoint", output / "trials.json"
    if kept.is_dir() and lines.is_file():
        known = read_json(lines)["trials"]
        return Checkpoint.load(kept, type(method.form)), known
    best: Checkpoint | None = None
    trials: list[dict[str, Any]] = []
    for value in values or (None,):
        form, training = method.at(value, stage.training)
        trial = dataclasses.replace(stage, model=form, training=training)
        line: dict[str, Any] = {} if value is None else {method.knob: value}
        try:
            found = method.fit(trial, bank, device=device)
        except DivergedError:
            # A value that does not work is a finding, not an error.
            trials.append({**line, "diverged": True})
            continue
        trials.append({**line, **{key: found.metrics[key] for key in _KEPT}})
        if best is None or found.metrics[METRIC] > best.metrics[METRIC]:
            best = found
    if best is None:
        raise DataError(f"{stage.name}: every trial diverged; try other values than {list(values)}")
    write_json(lines, {"trials": trials})
    best.save(kept)
    return best, trials


def claim_trials(directory: Path, method: Method) -> None:
    """Recognises the directory of an interrupted run of the same form and trials, or makes one.

    Raises:
        ConfigError: a run of others is there.
    """
    settings = {
        "form": dataclasses.asdict(method.form),
        "knob": method.knob,
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
