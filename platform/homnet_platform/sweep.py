"""Settings of a sweep, and the training stage of each grid point."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, Literal

from homnet.bags.draw import BagConfig
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig
from homnet.errors import ConfigError
from homnet.model.network import HomNetConfig, best_form
from homnet.results import Record
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.data import People

PRETRAINING: Final = "pre-training"
FINE_TUNING: Final = "fine-tuning"
PRETRAINED: Final = "pretrained"
"""Parameter that names the pre-trained model of a fine-tuning, see :func:`name_of`."""


@dataclass(frozen=True)
class TuneConfig:
    """Grid and budget of a sweep."""

    cohort: str = "cohorts/simulated"
    """Cohort directory."""
    output: str = "runs/tune"
    """Directory for the trials, sweep.json, trials.csv, sweep.png and the winner's checkpoints."""
    healthy: tuple[str, ...] = ("healthy-1",)
    """Hospitals of healthy people for the pre-training."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to fine-tune on; by default all that have abnormal pairs."""
    merge_ranges: tuple[int, ...] = (8, 16, 32, 48, 64)
    """Samples per region."""
    pretraining_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Learning rates of the pre-training."""
    fine_tuning_rates: tuple[float, ...] = (1e-5, 1e-4, 1e-3)
    """Learning rates of the fine-tuning."""
    num_finalists: int = 4
    """Number of pre-trained models to fine-tune."""
    searcher: Literal["grid", "optuna"] = "grid"
    """Whether to try all values above (fine-tuning rates on the finalists only), or to let Optuna
    choose the merge range and the finalist among them, and rates between lowest and highest."""
    num_samples: int = 20
    """Trials of each search with Optuna."""
    model: HomNetConfig = best_form()
    """Form of the model. Its merge range and the rates of ``training`` and ``fine_tuning`` are the
    default that the winner is compared with; the default is never stopped early."""
    training: TrainingConfig = TrainingConfig(
        schedule="cosine", weight_decay=0.01, averaging=0.99, max_epochs=8
    )
    """Pre-training."""
    fine_tuning: TrainingConfig = TrainingConfig(
        learning_rate=1e-5,
        labels="cohort",
        bags=BagConfig(rounds=4),
        validation_rounds=4,
        max_epochs=8,
    )
    """Fine-tuning."""
    split: SplitConfig = SplitConfig()
    """People of the pre-training."""
    hospital_split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Patients of the fine-tuning."""
    reduction_factor: int = 3
    """One in ``reduction_factor`` trials continues at each rung."""
    cpus_per_trial: int = 1
    """CPUs and threads per trial."""
    gpus_per_trial: float = 0.0
    """GPUs per trial; below 1, trials share a GPU."""
    workers_per_pretraining: int = 1
    """Workers per pre-training, each with the CPUs and GPUs of a trial; more than 1 use Ray Train.
    Fine-tunings are small and use one."""
    max_concurrent: int = 0
    """Maximum number of concurrent trials; 0 for as many as fit."""
    registry: str = ""
    """Registry to promote the winner in for every hospital; empty for none."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        for name in ("merge_ranges", "pretraining_rates", "fine_tuning_rates"):
            if not getattr(self, name):
                raise ConfigError(f"{name} must name at least one value")
        if min(self.num_finalists, self.cpus_per_trial, self.workers_per_pretraining) < 1:
            raise ConfigError(
                "num_finalists, cpus_per_trial and workers_per_pretraining must be at least 1"
            )
        if self.num_samples < 2:
            raise ConfigError(f"num_samples must be at least 2, got {self.num_samples}")
        if self.searcher == "optuna" and find_spec("optuna") is None:
            raise ConfigError("Optuna is not installed; pip install optuna, or use grid")
        if self.reduction_factor < 2:
            raise ConfigError(f"reduction_factor must be at least 2, got {self.reduction_factor}")
        if self.workers_per_pretraining > 1 and self.gpus_per_trial not in (0, 1):
            raise ConfigError("workers of Ray Train have whole GPUs; set gpus_per_trial to 0 or 1")


def default_point(config: TuneConfig, search: str) -> dict[str, Any]:
    """The point of the default settings, which the winner is compared with."""
    point: dict[str, Any] = {
        "merge_range": config.model.merge_range,
        "pretraining_rate": config.training.learning_rate,
    }
    if search == FINE_TUNING:
        point["fine_tuning_rate"] = config.fine_tuning.learning_rate
    return point


def name_of(point: Mapping[str, Any]) -> str:
    """The name of a pre-trained model, from the merge range and the rate of its point."""
    return f"{point['merge_range']} at {point['pretraining_rate']:g}"


def pretraining_stage(
    people: People, merge_range: int, learning_rate: float, config: TuneConfig
) -> Stage:
    """The stage of one point of the first search."""
    return Stage(
        name=PRETRAINING,
        model=dataclasses.replace(config.model, merge_range=merge_range),
        training=dataclasses.replace(config.training, learning_rate=learning_rate),
        train_patients=people.healthy[TRAIN],
        validation_patients=people.healthy[VALIDATION],
    )


def fine_tuning_stage(
    hospital: str,
    split: Mapping[str, frozenset[str]],
    parent: str | None,
    learning_rate: float,
    config: TuneConfig,
) -> Stage:
    """The stage of one hospital at a point of the second search."""
    return Stage(
        name=hospital,
        model=config.model,
        training=dataclasses.replace(config.fine_tuning, learning_rate=learning_rate),
        train_patients=split[TRAIN],
        validation_patients=split[VALIDATION],
        parent=parent,
    )
