"""What a reproduction is made of: people, budget and scale, the same for every method."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from homnet.bags.draw import BagConfig
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import SplitConfig
from homnet.errors import ConfigError
from homnet.results import require_both
from homnet.training.optimisation import TrainingConfig
from homnet_platform.data import Shared, collect_people

FULL_EPOCHS: Final = 100
"""Epochs of a pre-training at full scale, if early stopping does not end it before (paper: batch
512, patience 10; it does not say after how many epochs)."""
LEAST_EPOCHS: Final = 4
"""Epochs at any scale, so that the best of several can be kept."""


@dataclass(frozen=True)
class ReproduceConfig:
    """Tables 2, 3 and 5: all methods on the same people."""

    recipe: str = "custom"
    """Name that the result gives for these settings."""
    cohort: str = "cohorts/simulated"
    """Cohort directory; for Table 3 any set of normal pairs, for example real images."""
    output: str = "runs/reproduce"
    """Directory with one folder per method, and the table."""
    methods: tuple[str, ...] = ()
    """Lines of the table; all by default."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each decides initial weights, bags and events of one run of every method. The first is that
    of the trials."""
    scale: float = 1.0
    """Bags of a pre-training, as a share of 100 epochs over all people: fewer epochs, but at least
    4, and then a part of the people. Full size is for a cluster."""
    training: TrainingConfig = TrainingConfig(validation_rounds=1)
    """Pre-training, but for its epochs and what is tried."""
    fine_tuning: TrainingConfig | None = TrainingConfig(labels="cohort", max_epochs=3)
    """Fine-tuning on each hospital's labels; None judges artificial abnormalities of people held
    out from the pre-training (Table 3)."""
    healthy: tuple[str, ...] = ("healthy-1",)
    """Hospitals of healthy people for the pre-training; all of the cohort's without fine-tuning."""
    split: SplitConfig = SplitConfig()
    """People of the pre-training."""
    hospital_split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Patients of the fine-tuning."""
    bags: BagConfig = BagConfig()
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
    """Whether a small run of each method says before the start what all take; on CPUs only."""
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
        require_both(self.claim, self.result)

    @property
    def epochs(self) -> int:
        """Epochs of a pre-training at this scale."""
        return max(LEAST_EPOCHS, round(FULL_EPOCHS * self.scale))

    @property
    def share_of_people(self) -> float:
        """Share of the people of a pre-training at this scale."""
        return min(1.0, FULL_EPOCHS * self.scale / self.epochs)


def collect(cohort: Cohort, config: ReproduceConfig) -> Shared:
    """Pairs and people of all runs, at the config's scale.

    Raises:
        CohortError, ConfigError, DataError: see :func:`homnet_platform.data.collect_people`.
    """
    return collect_people(
        cohort,
        tuned=config.fine_tuning is not None,
        healthy=config.healthy,
        split=config.split,
        hospital_split=config.hospital_split,
        share_of_people=config.share_of_people,
    )
