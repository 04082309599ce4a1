"""Which of the paper's tables, and at what size: the few settings that a reproduction asks for."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from homnet.bags.draw import BagConfig
from homnet.bags.events import EventConfig
from homnet.cohorts.split import SplitConfig
from homnet.errors import ConfigError
from homnet.model.network import HomNetConfig, best_form, paper_form
from homnet.training.optimisation import TrainingConfig
from homnet_platform.records.ablation import AblateConfig
from homnet_platform.records.plan import ReproduceConfig

DEFAULT_SCALES: Final[Mapping[int, float]] = {2: 0.002, 3: 0.04, 4: 0.0015, 5: 0.0015}
"""By table, what two cores make in an hour, all four together."""
HOMNET_SIZES: Final = ({"width": 32, "pair_width": 64}, {"width": 64, "pair_width": 128})
"""Sizes of HomNet that trials try."""
_VARIANTS: Final = tuple(name for name in AblateConfig().variants if name != "range 32")


@dataclass(frozen=True)
class TableConfig:
    """A table of the paper."""

    table: Literal[2, 3, 4, 5]
    """Which."""
    cohort: str = "cohorts/simulated"
    """Cohort directory; for Table 3 any set of normal pairs, for example real images."""
    output: str = ""
    """Directory of the runs, and of the table as JSON, Markdown and picture; runs/table-N by
    default."""
    picture: Path | None = None
    """File of the picture, for example docs/table-2.png; in the output by default."""
    scale: float | None = None
    """Share of the full budget, 100 epochs over all people; by default what a laptop can do."""
    methods: tuple[str, ...] = ()
    """Lines of Tables 2, 3 and 5; all by default."""
    variants: tuple[str, ...] = _VARIANTS
    """Lines of Table 4."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Runs of every line; Table 5 takes the first."""
    setting: Literal["best", "paper"] = "best"
    """What the networks among the baselines see: what HomNet's best form sees, or the samples as
    the paper gives them. For Table 4, the form that is taken apart."""
    healthy: tuple[str, ...] = ("healthy-1",)
    """Hospitals of healthy people for pre-training (Table 3 takes all people of the cohort)."""
    split: SplitConfig = SplitConfig()
    """People of the pre-training."""
    hospital_split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Patients of the fine-tuning (paper: train to test 1:4)."""
    batch_size: int = 64
    """Bags per step of the pre-training; the paper's 512 would be too few steps for a laptop."""
    fine_tuning_epochs: int = 3
    """Epochs of each fine-tuning."""
    over: Literal["patient", "people"] = "patient"
    """Whose pairs make a bag in Table 3: "people" for sets with one or two cells per person."""
    num_batches: int = 10
    """Batches that Table 5 times; the time of 100 is stated."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap."""
    cpus_per_run: int = 1
    """CPUs, and threads, of one run; give Table 5 all of the machine."""
    gpus_per_run: float = 0.0
    """GPUs of one run."""
    estimate: bool = True
    """Whether a small run of each method says before the start what all take; on CPUs only."""
    claim: str = ""
    """What the figures show, in one sentence; with it a result of record is written."""
    result: Path | None = None
    """File of the result of record, for example results/table-2.json."""

    def __post_init__(self) -> None:
        if self.over == "people" and self.table != 3:
            raise ConfigError("bags over people mix patients; only Table 3 can have them")
        if self.num_batches < 1 or self.fine_tuning_epochs < 1:
            raise ConfigError("num_batches and fine_tuning_epochs must be at least 1")

    @property
    def place(self) -> Path:
        """The output directory."""
        return Path(self.output or f"runs/table-{self.table}")


def plan_of(config: TableConfig) -> ReproduceConfig:
    """People and budget, the same for all methods."""
    training = TrainingConfig(
        batch_size=config.batch_size, schedule="cosine", weight_decay=0.01, validation_rounds=1
    )
    fine_tuning: TrainingConfig | None = TrainingConfig(
        # The paper's rate, where it is not tried.
        learning_rate=1e-5,
        batch_size=32,
        labels="cohort",
        max_epochs=config.fine_tuning_epochs,
        validation_rounds=2,
    )
    bags = BagConfig()
    if config.table == 3:
        fine_tuning, bags = None, BagConfig(rounds=20, over=config.over)
        # Cuts of people mixed in a bag show; shams teach that they mean nothing (LAB.md).
        training = dataclasses.replace(
            training,
            validation_rounds=4,
            bags=BagConfig(over=config.over),
            events=EventConfig(sham_share=0.4 if config.over == "people" else 0.0),
        )
    scale = DEFAULT_SCALES[config.table] if config.scale is None else config.scale
    return ReproduceConfig(
        recipe=f"table {config.table}, {config.setting} setting, scale {scale:g}",
        cohort=config.cohort,
        output=str(config.place),
        methods=config.methods,
        seeds=config.seeds[:1] if config.table == 5 else config.seeds,
        scale=scale,
        training=training,
        fine_tuning=fine_tuning,
        healthy=config.healthy,
        split=config.split,
        hospital_split=config.hospital_split,
        bags=bags,
        num_bootstrap=config.num_bootstrap,
        cpus_per_run=config.cpus_per_run,
        gpus_per_run=config.gpus_per_run,
        estimate=config.estimate,
        claim=config.claim,
        result=config.result,
    )


def ablation_of(config: TableConfig) -> AblateConfig:
    """Table 4 with the people, bags and budget of the other tables."""
    plan = plan_of(config)
    shared = {field.name for field in dataclasses.fields(plan)} & {
        field.name for field in dataclasses.fields(AblateConfig)
    }
    return dataclasses.replace(
        AblateConfig(**{name: getattr(plan, name) for name in shared}),
        model=homnet_forms()[config.setting],
        training=dataclasses.replace(plan.training, max_epochs=plan.epochs),
        variants=config.variants,
        share_of_people=plan.share_of_people,
    )


def homnet_forms() -> dict[str, HomNetConfig]:
    """Both forms of HomNet: the best one that we know, and the paper's equations."""
    return {"best": best_form(), "paper": paper_form()}
