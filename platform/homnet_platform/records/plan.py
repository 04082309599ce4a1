"""The job of the paper's tables as a configuration: what its methods share, and where it runs."""

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
from homnet.results import Record
from homnet.training.optimisation import TrainingConfig
from homnet_platform.data import Participants, collect_shared

FULL_EPOCHS: Final = 100
"""Epochs of a pre-training at full scale, if early stopping does not end it before (the paper
gives batches of 512 and a patience of 10, but no number of epochs)."""
LEAST_EPOCHS: Final = 4
"""Epochs at any scale, so that the best of several can be kept."""


@dataclass(frozen=True)
class Comparison:
    """What all methods of a table share: people, budget, seeds, and the bags that are scored.

    Raises:
        ConfigError: the scale is not above 0, or no seed is given.
    """

    cohort: str = "cohorts/simulated"
    """Cohort directory; without fine-tuning any set of normal pairs, for example real images."""
    fine_tuned: bool = True
    """Whether models are fine-tuned and tested on the hospitals with abnormal pairs. Otherwise
    they are tested on artificial abnormalities of people held out from the pre-training."""
    healthy: tuple[str, ...] = ("healthy-1",)
    """Hospitals of the healthy people for the pre-training; without fine-tuning all of the
    cohort's hospitals are used."""
    split: SplitConfig = SplitConfig()
    """People of the pre-training."""
    hospital_split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Patients of the fine-tuning (paper: train to test 1:4)."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of every method per seed, which decides initial weights, bags and events. Trials are
    run with the first seed, and so is all of Table 5."""
    scale: float = 0.002
    """Share of the full budget, which is 100 epochs over all people. A smaller scale first takes
    fewer epochs, at least 4, and then a part of the people. Full scale is for a cluster."""
    training: TrainingConfig = TrainingConfig(
        batch_size=64, schedule="cosine", weight_decay=0.01, validation_rounds=1
    )
    """Pre-training; the scale decides its epochs, and trials replace some of its values. The
    paper's batches of 512 would leave too few steps on a laptop."""
    fine_tuning: TrainingConfig = TrainingConfig(
        learning_rate=1e-5, batch_size=32, labels="cohort", max_epochs=3, validation_rounds=2
    )
    """Fine-tuning on the labels of each hospital."""
    bags: BagConfig = BagConfig()
    """Bags that are scored."""
    events: EventConfig = EventConfig(sham_share=0.2)
    """Artificial abnormalities that are scored without fine-tuning."""
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
        """Epochs of a pre-training at this scale."""
        return max(LEAST_EPOCHS, round(FULL_EPOCHS * self.scale))

    @property
    def share_of_people(self) -> float:
        """Share of the healthy people, in (0, 1], that a pre-training uses at this scale."""
        return min(1.0, FULL_EPOCHS * self.scale / self.epochs)

    def pretraining(self, seed: int) -> TrainingConfig:
        """The pre-training of one seed, before the values of a trial."""
        return replace(self.training, max_epochs=self.epochs, seed=seed)


@dataclass(frozen=True)
class ReproduceConfig:
    """One table of the paper.

    Raises:
        ConfigError: no batch would be timed, or a claim comes without a file for the result.
    """

    table: tyro.conf.Suppress[Literal["2", "3", "4", "5", "ablate"]] = "2"
    """Table, the first word on the command line."""
    comparison: Annotated[Comparison, tyro.conf.arg(name="")] = Comparison()
    """What all methods share."""
    methods: tuple[str, ...] = ()
    """Methods, or in Table 4 variants of HomNet, that are compared; all by default."""
    setting: Literal["best", "paper"] = "best"
    """Input of the neural baselines: that of HomNet's best form, or the samples as the paper gives
    them. In Table 4, the form of HomNet that is taken apart."""
    num_batches: int = 10
    """Batches that are timed for Table 5, which states the seconds of 100."""
    output: str = "runs/table-2"
    """Directory with one folder per method, and the table as JSON, Markdown and picture."""
    picture: Path | None = None
    """File of the picture, for example docs/table-2.png; in the output directory by default."""
    cpus_per_run: int = 1
    """CPUs and threads of one run; give Table 5 all of the machine."""
    gpus_per_run: float = 0.0
    """GPUs of one run; below 1, several runs share a GPU."""
    estimate: bool = True
    """Whether the time of all runs is estimated first by a short run of each method (CPU only)."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if self.num_batches < 1:
            raise ConfigError(f"num_batches must be at least 1, got {self.num_batches}")


_IMAGES: Final = Comparison(
    cohort="cohorts/pki3",
    fine_tuned=False,
    scale=0.04,
    # A bag that mixes people shows where a segment was inserted; shams teach the model to ignore
    # that (LAB.md).
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

Table 3 and ``ablate``, which is Table 4 without fine-tuning, take a set of images with one or two
cells per person, so that bags mix people."""


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
