"""Configuration of the job for the paper's tables: shared settings and resources."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, Literal

import tyro

from homnet.bags.draw import BagConfig
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, TRAIN, VALIDATION, SplitConfig
from homnet.errors import ConfigError, DataError
from homnet.locations import local_path
from homnet.results import Record
from homnet.training.optimisation import TrainingConfig
from homnet_platform.data import Participants, collect_shared

FULL_EPOCHS: Final = 100
"""Epochs of a pre-training at full scale without early stopping (the paper gives batches of 512 and
a patience of 10, but no number of epochs)."""
LEAST_EPOCHS: Final = 4
"""Minimum number of epochs at any scale, so that the best of several can be kept."""


@dataclass(frozen=True)
class Comparison:
    """Settings shared by all methods of a table: people, budget, seeds and scored bags.

    Raises:
        ConfigError: the scale is not above 0, or no seed is given.
    """

    cohort: str = "cohorts/simulated"
    """Cohort directory; without fine-tuning any set of normal pairs, for example real images."""
    fine_tuned: bool = True
    """Whether models are fine-tuned and tested on the hospitals with abnormal pairs. Otherwise they
    are tested on artificial abnormalities of people held out from the pre-training."""
    healthy: tuple[str, ...] = ("healthy-1",)
    """Hospitals of the healthy people for the pre-training; without fine-tuning, all are used."""
    split: SplitConfig = SplitConfig()
    """Split of the people of the pre-training."""
    hospital_split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Split of the patients of the fine-tuning (paper: train to test 1:4)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Every method runs once per seed, which determines initial weights, bags and events. Trials
    and all of Table 5 use the first seed."""
    scale: float = 0.002
    """Share of the full budget of 100 epochs over all people. A smaller scale first reduces the
    epochs, to at least 4, and then the people. Full scale requires a cluster."""
    training: TrainingConfig = TrainingConfig(
        batch_size=64, schedule="cosine", weight_decay=0.01, validation_rounds=1
    )
    """Settings of the pre-training; the scale sets the epochs, and trials replace some values. The
    paper's batches of 512 would leave too few steps on a laptop."""
    fine_tuning: TrainingConfig = TrainingConfig(
        learning_rate=1e-5, batch_size=32, labels="cohort", max_epochs=3, validation_rounds=2
    )
    """Settings of the fine-tuning on the labels of each hospital."""
    bags: BagConfig = BagConfig()
    """Bags that are scored."""
    events: EventConfig = EventConfig(sham_share=0.2)
    """Artificial abnormalities for scoring without fine-tuning."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap."""

    def __post_init__(self) -> None:
        if self.scale <= 0 or not self.seeds:
            raise ConfigError(
                "scale must be above 0 and seeds must name at least one seed, got "
                f"{self.scale:g} and {self.seeds}"
            )

    @property
    def epochs(self) -> int:
        """Number of epochs of a pre-training at this scale."""
        return max(LEAST_EPOCHS, round(FULL_EPOCHS * self.scale))

    @property
    def share_of_people(self) -> float:
        """Share of the healthy people in a pre-training at this scale, in (0, 1]."""
        return min(1.0, FULL_EPOCHS * self.scale / self.epochs)

    def pretraining(self, seed: int) -> TrainingConfig:
        """The pre-training of one seed, before the values of a trial are applied."""
        return replace(self.training, max_epochs=self.epochs, seed=seed)


@dataclass(frozen=True)
class ReproduceConfig:
    """One table of the paper.

    Raises:
        ConfigError: no batch would be timed, or a claim has no file for the result.
    """

    table: tyro.conf.Suppress[Literal["2", "3", "4", "5", "ablate"]] = "2"
    """Table; the first argument on the command line."""
    comparison: Annotated[Comparison, tyro.conf.arg(name="")] = Comparison()
    """Settings shared by all methods."""
    methods: tuple[str, ...] = ()
    """Methods to compare, or variants of HomNet in Table 4; all by default."""
    setting: Literal["best", "paper"] = "best"
    """Input of the neural baselines: that of HomNet's best form, or the samples as in the paper. In
    Table 4, the form of HomNet whose parts are removed."""
    num_batches: int = 10
    """Number of timed batches for Table 5, which reports the seconds of 100."""
    output: str = "runs/table-2"
    """Directory with one folder per method, and the table as JSON, Markdown and picture."""
    picture: Path | None = None
    """Path of the picture, for example docs/table-2.png; in the output directory by default."""
    cpus_per_run: int = 1
    """CPUs and threads per run; for Table 5 use the whole machine."""
    gpus_per_run: float = 0.0
    """GPUs per run; below 1, several runs share a GPU."""
    estimate: bool = True
    """Whether to estimate the time of all runs first, by a short run of each method (CPU only)."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if self.num_batches < 1:
            raise ConfigError(f"num_batches must be at least 1, got {self.num_batches}")
        local_path(self.output)


_IMAGES: Final = Comparison(
    cohort="cohorts/pki3",
    fine_tuned=False,
    scale=0.04,
    # Bags that mix people reveal inserted segments; shams train the model to ignore that (LAB.md).
    training=replace(
        Comparison().training,
        validation_rounds=4,
        bags=BagConfig(over="people"),
        events=EventConfig(sham_share=0.4),
    ),
    bags=BagConfig(rounds=20, over="people"),
)

RECIPES: Final[Mapping[str, ReproduceConfig]] = {
    "2": ReproduceConfig(),
    "3": ReproduceConfig(table="3", comparison=_IMAGES, output="runs/table-3"),
    "4": ReproduceConfig(table="4", comparison=Comparison(scale=0.0015), output="runs/table-4"),
    "5": ReproduceConfig(
        table="5", comparison=Comparison(scale=0.0015, seeds=(0,)), output="runs/table-5"
    ),
    "ablate": ReproduceConfig(
        table="ablate",
        comparison=replace(
            _IMAGES,
            training=replace(
                _IMAGES.training,
                averaging=0.99,
                batch_size=256,
                bags=BagConfig(rounds=10, over="people"),
            ),
            bags=BagConfig(rounds=40, over="people"),
        ),
        output="runs/ablate",
    ),
}
"""The paper's tables, at a scale that two cores finish in an hour for Tables 2 to 5 together.

Table 3 and ``ablate`` (Table 4 without fine-tuning) use a set of images with one or two cells per
person, so that bags mix people."""


def collect(cohort: Cohort, comparison: Comparison) -> Participants:
    """Reads the pairs of all people of a comparison, test people included, into memory.

    Raises:
        CohortError, ConfigError: see :func:`homnet_platform.data.collect_shared`.
        DataError: no hospital has abnormal pairs to fine-tune on, or no pair has both homologs.
    """
    hospitals = cohort.hospitals_with_abnormal_pairs() if comparison.fine_tuned else ()
    if comparison.fine_tuned and not hospitals:
        raise DataError(
            f"{cohort.root}: no hospital has abnormal pairs to fine-tune on; without them only "
            "artificial abnormalities can be judged"
        )
    return collect_shared(
        cohort,
        healthy=comparison.healthy if comparison.fine_tuned else cohort.hospitals,
        hospitals=hospitals,
        split=comparison.split,
        hospital_split=comparison.hospital_split,
        parts=(TRAIN, VALIDATION, TEST),
        share_of_people=comparison.share_of_people,
    )
