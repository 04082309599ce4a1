"""Pre-training on artificial abnormalities made from healthy people's pairs (paper, section 3.2).

Or on simulated people with known abnormalities, because patient data are not public.
"""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homnet.bags.draw import BagConfig
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.locations import Location
from homnet.model.network import (
    HomNet,
    HomNetConfig,
    best_form,
    flops_per_bag,
    num_parameters,
    paper_form,
)
from homnet.training.learning import METRIC
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.memory import peak_object_store
from homnet_platform.runs import Run, provenance
from homnet_platform.runtime import local_or_cluster
from homnet_platform.tracking import TrackingOptions
from homnet_platform.training import ScalingOptions, run_stage


@dataclass(frozen=True)
class PretrainConfig:
    """Pre-training of one model."""

    recipe: str = "custom"
    """Name of these settings in results."""
    cohort: str = "cohorts/simulated"
    """Cohort directory."""
    output: str = "runs/pretrain"
    """Directory for the checkpoint, the history and the run's state."""
    hospitals: tuple[str, ...] = ()
    """Hospitals whose normal pairs are used; all by default."""
    model: HomNetConfig = HomNetConfig()
    """Form of the model."""
    training: TrainingConfig = TrainingConfig()
    """Optimisation."""
    split: SplitConfig = SplitConfig()
    """People for validation and test; the rest is for training (paper: 9:1)."""
    scaling: ScalingOptions = ScalingOptions()
    """Workers."""
    tracking: TrackingOptions = TrackingOptions()
    """Where metrics go during training."""


def paper_recipe() -> PretrainConfig:
    """The form and settings of the paper."""
    return PretrainConfig(recipe="paper", model=paper_form())


def best_recipe() -> PretrainConfig:
    """The form with the best AUC, trained with a cosine schedule.

    Batches of 128 give four times as many steps for the same bags. Shams keep the model from
    learning the seams of artificial events (LAB.md).
    """
    return PretrainConfig(
        recipe="best",
        model=best_form(),
        training=TrainingConfig(
            schedule="cosine",
            weight_decay=0.01,
            averaging=0.998,
            batch_size=128,
            events=EventConfig(min_fraction=0.05, translocations=True, sham_share=0.4),
        ),
    )


def simulated_recipe() -> PretrainConfig:
    """The best form, trained on simulated people with known abnormalities.

    Its cohort comes from ``jobs/simulate.py --rearranged-types``: events of every kind and size, in
    the laboratories of all hospitals, without seams, and with many of the harmless inversions that
    models trained on artificial events call abnormal. It memorises people that it sees more than
    twice (LAB.md).
    """
    best = best_recipe()
    return dataclasses.replace(
        best,
        recipe="simulated",
        cohort="cohorts/rearranged",
        training=dataclasses.replace(
            best.training, labels="cohort", max_epochs=4, validation_rounds=1
        ),
        split=SplitConfig(validation=0.05, test=0.0),
    )


def images_recipe() -> PretrainConfig:
    """The best form for an image set with one to three cells per person.

    Bags mix pairs of one type from several people. Four in ten normal bags are cut and pasted
    without structural change, so that seams and mixed staining carry no information. Real images
    show more than simulated ones at twice the positions of the search (LAB.md).
    """
    best = best_recipe()
    return dataclasses.replace(
        best,
        recipe="images",
        model=best_form(search_positions=64),
        training=dataclasses.replace(
            best.training,
            batch_size=256,
            averaging=0.995,
            max_epochs=30,
            bags=BagConfig(rounds=10, over="people"),
            events=EventConfig(sham_share=0.4),
        ),
    )


RECIPES: Mapping[str, PretrainConfig] = {
    "paper": paper_recipe(),
    "best": best_recipe(),
    "simulated": simulated_recipe(),
    "images": images_recipe(),
}
"""Full configurations by name; the command line overrides their fields."""


def facts(config: PretrainConfig) -> Mapping[str, Any]:
    """Size and cost of the model, for a dry run."""
    num_cells = config.training.bags.num_cells
    return {
        "parameters": f"{num_parameters(HomNet(config.model)):,}",
        "FLOPs per bag, forward": f"{flops_per_bag(config.model, num_cells):,}",
    }


def pretrain(config: PretrainConfig) -> Location:
    """Trains a model and returns the location of the published checkpoint.

    The same command resumes an interrupted run.

    Raises:
        CohortError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort)
    if config.hospitals:
        cohort = cohort.of_hospitals(config.hospitals)
    _check_people(config, cohort)
    split = split_patients(cohort.patients, config.split)
    run = Run.of(config.output, config, cohort=cohort.fingerprint)
    run.claim()
    stage = Stage(
        name="pre-training",
        model=config.model,
        training=config.training,
        train_patients=split[TRAIN],
        validation_patients=split[VALIDATION],
        provenance=provenance(cohort.fingerprint, cohort.scale, config, split),
    )
    started = time.perf_counter()
    with local_or_cluster(), peak_object_store() as store:
        trained = run_stage(
            cohort,
            stage,
            storage=run.output / "ray",
            scaling=config.scaling,
            tracking=config.tracking,
        )
    checkpoint = trained.checkpoint
    history = checkpoint.metrics["history"]
    run.record(
        f"pre-training, since its last start, with {config.scaling.num_workers} workers",
        {
            "seconds": round(time.perf_counter() - started, 1),
            "epochs": len(history),
            "best validation AUC": max(line[METRIC] for line in history),
            **trained.figures,
            "object store peak, MB": round((store.peak_bytes or 0) / 1e6, 1),
        },
        recipe=config.recipe,
        seed=config.training.seed,
    )
    return run.publish(checkpoint)


def _check_people(config: PretrainConfig, cohort: Cohort) -> None:
    """Checks that the people suit the labels.

    Raises:
        ConfigError: artificial labels with abnormal people, or cohort labels without any.
    """
    diseased = cohort.hospitals_with_abnormal_pairs()
    if config.training.labels == "artificial" and diseased:
        raise ConfigError(
            f"{', '.join(diseased)} of {cohort.root} have abnormal pairs: pre-training on "
            "artificial abnormalities uses healthy people only, so that no test patient is seen "
            "in training; choose --hospitals"
        )
    if config.training.labels == "cohort" and not diseased:
        raise ConfigError(
            f"{cohort.root}: nobody has an abnormal pair, but labels 'cohort' need some; use "
            "simulated people (jobs/simulate.py --rearranged-types), or labels 'artificial'"
        )
