"""Methods of a comparison and their trials: every method gets the same number of trials."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.plan import Plan
from homnet.errors import ConfigError, DataError, DivergedError
from homnet.model.checkpoint import Checkpoint
from homnet.model.contract import Form
from homnet.training.learning import METRIC
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage

Trial = Mapping[str, Any]
"""Values of one trial for fields of the training or of the form, by name."""

_KEPT: Final = (METRIC, "seconds", "cpu_seconds", "seconds_to_best")
"""Metrics of a checkpoint that are kept in the record of a training."""


@dataclass(frozen=True)
class Method:
    """One line of a table.

    Raises:
        ConfigError: a trial names a field that neither the training nor the form has.
    """

    form: Form
    """Settings of the model."""
    fit: Callable[..., Checkpoint]
    """Trains a :class:`homnet.training.stage.Stage` on a bank, with ``device`` and ``kept``, as
    :func:`homnet.training.learning.train` does. The metrics of its checkpoint hold the validation
    AUC, the ``history``, ``seconds``, ``cpu_seconds`` and ``seconds_to_best``."""
    pretraining: tuple[Trial, ...] = ()
    """Trials of the pre-training; if empty, one run of the unchanged form."""
    fine_tuning: tuple[Trial, ...] = ()
    """Trials of the fine-tuning; if empty, one run."""
    in_steps: bool = True
    """Whether training proceeds in steps, so that a step can be timed."""
    one_pair: bool = False
    """Whether a bag holds a single pair. A step then has as many pairs as with full bags."""

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

    def bags(self, bags: BagConfig) -> BagConfig:
        """Adapts the bags of a comparison to this method."""
        return dataclasses.replace(bags, num_cells=1) if self.one_pair else bags

    def stage(self, stage: Stage, trial: Trial) -> Stage:
        """Applies the values of a trial and the bags of this method to a stage."""
        names = {field.name for field in dataclasses.fields(TrainingConfig)}
        form: Any = stage.model
        training = dataclasses.replace(
            stage.training, **{k: v for k, v in trial.items() if k in names}
        )
        bags = self.bags(training.bags)
        return dataclasses.replace(
            stage,
            model=dataclasses.replace(form, **{k: v for k, v in trial.items() if k not in names}),
            training=dataclasses.replace(
                training,
                bags=bags,
                batch_size=training.batch_size * training.bags.num_cells // bags.num_cells,
            ),
        )


def try_once(
    method: Method,
    trial: Trial,
    stage: Stage,
    bank: PairBank,
    device: torch.device | str,
    kept: Path | None = None,
) -> tuple[Checkpoint | None, dict[str, Any]]:
    """Runs one trial.

    Args:
        method: the method to train.
        trial: values that are tried.
        stage: the training with these values.
        bank: pairs of the people of the stage.
        device: device of the training.
        kept: see :attr:`Method.fit`.

    Returns:
        The checkpoint, or None if the training diverged; and the record of the trial, which holds
        ``tried`` and either ``diverged`` or the entries of :func:`line_of`.
    """
    try:
        found = method.fit(stage, bank, device=device, kept=kept)
    except DivergedError:
        # A value that fails is a result, not an error.
        return None, {"tried": dict(trial), "diverged": True}
    return found, {"tried": dict(trial), **line_of(found, stage, bank)}


def line_of(trained: Checkpoint, stage: Stage, bank: PairBank) -> dict[str, Any]:
    """The record of a training: validation AUC, seconds, ``bags`` and the learning ``curve``.

    Args:
        trained: its checkpoint.
        stage: the training.
        bank: pairs of its people.
    """
    metrics = trained.metrics
    curve = [round(line[METRIC], 4) for line in metrics["history"]]
    plan = Plan.of(stage.parts(bank.index)[0], stage.training.bags)
    return {
        **{key: metrics[key] for key in _KEPT},
        "bags": sum(stage.num_bags(plan, epoch) for epoch in range(len(curve))),
        "curve": curve,
    }


def ranked_of(lines: Sequence[Mapping[str, Any]], what: str) -> list[int]:
    """Indices of the trials that did not diverge, best validation AUC first.

    Args:
        lines: records of the trials; of several that are equal, the first stays first.
        what: name of the trials in error messages.

    Raises:
        DataError: every trial diverged.
    """
    found = [number for number, line in enumerate(lines) if not line.get("diverged")]
    if not found:
        tried = [line["tried"] for line in lines]
        raise DataError(f"{what}: every trial diverged; try others than {tried}")
    return sorted(found, key=lambda number: -float(lines[number][METRIC]))
