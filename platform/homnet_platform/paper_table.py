"""Which of the paper's tables, and at what size: the few settings that a reproduction asks for."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from homnet.abnormality import EventConfig
from homnet.bags import BagConfig
from homnet.errors import ConfigError
from homnet.model import HomNetConfig, best_form, paper_form
from homnet.training import TrainingConfig
from homnet_platform.ablation import AblateConfig
from homnet_platform.reproduction_plan import ReproduceConfig


@dataclass(frozen=True)
class TableConfig:
    """A table of the paper."""

    table: Literal[2, 3, 4, 5]
    """Which."""
    cohort: str = "cohorts/simulated"
    """Cohort directory."""
    output: str = "runs/reproduce"
    """Directory of the runs, and of the table as JSON, Markdown and picture."""
    setting: Literal["paper", "best"] = "best"
    """What methods see, and which form HomNet has: the samples as the paper gives them and the
    paper's form, or what HomNet's best form sees and that form."""
    methods: tuple[str, ...] = ()
    """Lines of the table; all by default."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Runs of every method."""
    scale: float = 1.0
    """Share of the full budget: of 100 epochs and, below one epoch, of the people."""
    healthy: tuple[str, ...] = ("healthy-1",)
    """Hospitals of healthy people for pre-training (Table 3 takes all people of the cohort)."""
    width: int = 16
    """Channels in the first layer of the networks."""
    batch_size: int = 512
    """Bags per step (paper: 512)."""
    fine_tuning_epochs: int = 8
    """Epochs of each fine-tuning."""
    over: Literal["patient", "people"] = "patient"
    """Whose pairs make a bag in Table 3: "people" for sets with one or two cells per person."""
    num_batches: int = 10
    """Batches that Table 5 times; the time of 100 is stated."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap."""
    cpus_per_run: int = 1
    """CPUs, and threads, of one run."""
    gpus_per_run: float = 0.0
    """GPUs of one run."""
    estimate: bool = True
    """Whether a small run of each method says what all will take, before they start."""
    claim: str = ""
    """What the figures show, in one sentence; with it a result of record is written."""
    result: Path | None = None
    """File of the result of record, for example results/reproduce-table-2.json."""

    def __post_init__(self) -> None:
        if self.over == "people" and self.table != 3:
            raise ConfigError("bags over people mix patients; only Table 3 can have them")
        if self.num_batches < 1 or self.fine_tuning_epochs < 1:
            raise ConfigError("num_batches and fine_tuning_epochs must be at least 1")

    @property
    def homnet(self) -> HomNetConfig:
        """The form of HomNet in this setting."""
        return best_form() if self.setting == "best" else paper_form()


def plan_of(config: TableConfig) -> ReproduceConfig:
    """People and budget, the same for all methods."""
    training = TrainingConfig(batch_size=config.batch_size, validation_rounds=1)
    if config.setting == "best":
        training = dataclasses.replace(
            training, schedule="cosine", weight_decay=0.01, averaging=0.99
        )
    bags = BagConfig(rounds=4)
    if config.over == "people":
        training = dataclasses.replace(
            training, bags=BagConfig(rounds=10, over="people"), events=EventConfig(sham_share=0.4)
        )
        bags = BagConfig(rounds=40, over="people")
    plan = ReproduceConfig(
        recipe=f"table {config.table}, {config.setting} setting",
        training=training,
        bags=bags,
        **{
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(ReproduceConfig)
            if hasattr(config, field.name)
        },
    )
    if config.table == 3 or plan.fine_tuning is None:
        return dataclasses.replace(plan, fine_tuning=None)
    tuning = dataclasses.replace(
        plan.fine_tuning, batch_size=config.batch_size, max_epochs=config.fine_tuning_epochs
    )
    return dataclasses.replace(plan, fine_tuning=tuning)


def ablation_of(config: TableConfig) -> AblateConfig:
    """Table 4 with the people, bags and budget of the other tables."""
    plan = plan_of(config)
    shared = {field.name for field in dataclasses.fields(plan)} & {
        field.name for field in dataclasses.fields(AblateConfig)
    }
    content = {name: getattr(plan, name) for name in shared}
    training = dataclasses.replace(plan.training, max_epochs=plan.epochs)
    return AblateConfig(**{**content, "model": config.homnet, "training": training})
