"""What a reproduction is made of: people, budget and scale, the same for every method."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from homnet.abnormality import EventConfig
from homnet.bags import BagConfig
from homnet.cohort import Cohort
from homnet.errors import ConfigError, DataError
from homnet.split import TEST, TRAIN, VALIDATION, SplitConfig
from homnet.training import TrainingConfig
from homnet_platform.data import Shared, collect_shared, hospitals_with_abnormal_pairs
from homnet_platform.method_cost import Work

FULL_EPOCHS: Final = 100
"""Epochs of a pre-training at full scale, if early stopping does not end it before (paper: batch
512, patience 10; it does not say after how many epochs)."""


@dataclass(frozen=True)
class ReproduceConfig:
    """Tables 2 and 3: all methods on the same people."""

    recipe: str = "custom"
    """Name that the result gives for these settings."""
    cohort: str = "cohorts/simulated"
    """Cohort directory; for Table 3 any set of normal pairs, for example real images."""
    output: str = "runs/reproduce"
    """Directory with one folder per method and seed, and the tables."""
    methods: tuple[str, ...] = ()
    """Lines of the table; all by default."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each decides initial weights, bags and events of one run of every method."""
    scale: float = 1.0
    """Share of the full budget: of the 100 epochs and, below one epoch, of the people whom it
    learns from and validates on. Full size is for a cluster."""
    training: TrainingConfig = TrainingConfig(validation_rounds=1)
    """Pre-training, but for its epochs and what is tried."""
    fine_tuning: TrainingConfig | None = TrainingConfig(
        learning_rate=1e-5,
        labels="cohort",
        bags=BagConfig(rounds=4),
        validation_rounds=4,
        max_epochs=8,
    )
    """Fine-tuning on each hospital's labels; None judges artificial abnormalities of people held
    out from the pre-training (Table 3)."""
    healthy: tuple[str, ...] = ("healthy-1",)
    """Hospitals of healthy people for the pre-training; all of the cohort's without fine-tuning."""
    split: SplitConfig = SplitConfig()
    """People of the pre-training."""
    hospital_split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Patients of the fine-tuning."""
    bags: BagConfig = BagConfig(rounds=4)
    """Bags that are scored."""
    events: EventConfig = EventConfig(sham_share=0.2)
    """Artificial abnormalities that are scored, where there is no fine-tuning."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap."""
    cpus_per_run: int = 1
    """CPUs, and threads, of one run."""
    gpus_per_run: float = 0.0
    """GPUs of one run; a part lets several runs share one."""
    estimate: bool = True
    """Whether a small run of each method says what all will take, before they start."""
    claim: str = ""
    """What the figures show, in one sentence; with it a result of record is written."""
    result: Path | None = None
    """File of the result of record."""

    def __post_init__(self) -> None:
        if self.scale <= 0 or not self.seeds:
            raise ConfigError(
                f"scale must be above 0 and seeds name at least one, got {self.scale:g} and "
                f"{self.seeds}"
            )
        if (self.result is None) != (not self.claim):
            raise ConfigError("a result of record needs both --claim and --result")

    @property
    def epochs(self) -> int:
        """Epochs of a pre-training at this scale."""
        return max(1, round(FULL_EPOCHS * self.scale))

    @property
    def share_of_people(self) -> float:
        """Share of the people of a pre-training at this scale."""
        return min(1.0, FULL_EPOCHS * self.scale)


def collect(cohort: Cohort, config: ReproduceConfig) -> Shared:
    """Pairs and people of all runs, at the config's scale.

    Raises:
        CohortError, ConfigError, DataError: see :func:`homnet_platform.data.collect_shared`.
    """
    tuned = config.fine_tuning is not None
    hospitals = hospitals_with_abnormal_pairs(cohort) if tuned else ()
    if tuned and not hospitals:
        raise DataError(
            f"{cohort.root}: no hospital has abnormal pairs to fine-tune on; without them only "
            "artificial abnormalities can be judged (Table 3)"
        )
    shared = collect_shared(
        cohort,
        healthy=config.healthy if tuned else cohort.hospitals,
        hospitals=hospitals,
        split=config.split,
        hospital_split=config.hospital_split,
        parts=(TRAIN, VALIDATION, TEST),
    )
    return dataclasses.replace(
        shared,
        healthy={
            # Whom the table is judged on does not depend on the scale.
            part: people if part == TEST else share_of(people, config.share_of_people)
            for part, people in shared.healthy.items()
        },
    )


def work_of(shared: Shared, config: ReproduceConfig) -> Work:
    """How many bags one trial of each stage looks at, if early stopping does not end it."""
    pairs = shared.bank.frame["patient_id"].value_counts()

    def bags(people: frozenset[str], settings: BagConfig, rounds: int) -> int:
        known = pairs.reindex(sorted(people)).fillna(0).sum()
        return int(known) * rounds // settings.num_cells

    def trial(split: Mapping[str, frozenset[str]], training: TrainingConfig) -> int:
        return training.max_epochs * (
            bags(split[TRAIN], training.bags, training.bags.rounds)
            + bags(split[VALIDATION], training.bags, training.validation_rounds)
        )

    pretraining = dataclasses.replace(config.training, max_epochs=config.epochs)
    tuned = () if config.fine_tuning is None else tuple(shared.hospitals.values())
    judged = tuned or (shared.healthy,)
    return Work(
        training=pretraining,
        people=(shared.healthy[TRAIN], shared.healthy[VALIDATION]),
        pretraining=trial(shared.healthy, pretraining),
        fine_tuning=sum(trial(split, config.fine_tuning) for split in tuned)
        if config.fine_tuning
        else 0,
        scoring=sum(
            bags(split[part], config.bags, config.bags.rounds)
            for split in judged
            for part in (VALIDATION, TEST)
        ),
    )


def share_of(people: frozenset[str], share: float) -> frozenset[str]:
    """The first people of a set in the order of their names, at least two where there are."""
    kept = max(min(2, len(people)), round(share * len(people)))
    return frozenset(sorted(people)[:kept])
