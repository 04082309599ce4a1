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
"""Epochs of a pre-training without a limit of time (the paper gives batches of 512 and a patience
of 10, but no number of epochs)."""
_TRIAL_SHARE: Final = 1 / 4
"""Minutes of a trial as a share of those of a training: four trials take as long as one."""


@dataclass(frozen=True)
class Comparison:
    """Settings shared by all methods of a table: people, minutes, seeds and scored bags.

    Every method learns from all people, has as many trials, and stops early by the same validation.

    Raises:
        ConfigError: the minutes are negative, or no seed is given.
    """

    cohort: str = "cohorts/simulated"
    """Cohort directory; without fine-tuning any set of normal pairs, for example real images."""
    fine_tuned: bool = True
    """Whether models are fine-tuned and tested on the hospitals with abnormal pairs. Otherwise they
    are tested on artificial abnormalities of people held out from the pre-training."""
    healthy: tuple[str, ...] = ("healthy-1",)
    """Hospitals of the healthy people for the pre-training; without fine-tuning, all are used."""
    split: SplitConfig = SplitConfig(validation=0.025, test=0.0)
    """Split of the people of the pre-training. After fine-tuning only patients are tested."""
    hospital_split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Split of the patients of the fine-tuning (paper: train to test 1:4)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of initial weights, bags and events. Every method runs with the first one, which trials
    and Table 5 use. HomNet also runs with the others, and so does each method whose validation AUC
    with the first seed is at most 0.03 below HomNet's."""
    minutes: float = 20.0
    """Minutes of one core for each pre-training of the table; a trial has a quarter of them. The
    number of bags follows from the measured rate of each method. 0: no limit, but 100 epochs over
    all people, trials too, for a cluster."""
    training: TrainingConfig = TrainingConfig(
        batch_size=64, schedule="cosine", weight_decay=0.01, validation_rounds=1
    )
    """Settings of the pre-training; the minutes set number and size of the epochs, and trials
    replace some values. The paper's batches of 512 would leave too few steps on a laptop."""
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
        if self.minutes < 0 or not self.seeds:
            raise ConfigError(
                "minutes must be 0 or more and seeds must name at least one seed, got "
                f"{self.minutes:g} and {self.seeds}"
            )

    @property
    def trial_minutes(self) -> float:
        """Minutes of one core for each trial; 0: no limit."""
        return self.minutes * _TRIAL_SHARE

    def pretraining(self, seed: int) -> TrainingConfig:
        """The pre-training of one seed, before its size and the values of a trial are set."""
        return replace(self.training, max_epochs=FULL_EPOCHS, seed=seed)


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
    """CPUs and threads per run; the records have one."""
    gpus_per_run: float = 0.0
    """GPUs per run; below 1, several runs share a GPU."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if min(self.num_batches, self.cpus_per_run) < 1:
            raise ConfigError("num_batches and cpus_per_run must be at least 1")
        local_path(self.output)


_IMAGES: Final = Comparison(
    cohort="cohorts/pki3",
    fine_tuned=False,
    split=SplitConfig(),
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
    "4": ReproduceConfig(table="4", output="runs/table-4"),
    "5": ReproduceConfig(
        table="5", comparison=Comparison(minutes=5.0, seeds=(0,)), output="runs/table-5"
    ),
    "ablate": ReproduceConfig(
        table="ablate",
        comparison=replace(
            _IMAGES,
            training=replace(
                _IMAGES.training,
                averaging=0.99,
                batch_size=256,
            ),
            bags=BagConfig(rounds=40, over="people"),
        ),
        output="runs/ablate",
    ),
}
"""The paper's tables.

Table 3 and ``ablate`` (Table 4 without fine-tuning) use a set of images with one to three cells per
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
    )
