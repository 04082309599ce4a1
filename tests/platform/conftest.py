"""One small lineage for all tests of this process: a cohort, a pre-training, two fine-tunings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from homnet.bags.draw import BagConfig
from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig
from homnet.model.network import best_form
from homnet.training.learning import train
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.data import Participants, collect_bank, collect_shared, pairs_dataset
from homnet_platform.evaluation import EvaluateConfig
from homnet_platform.fine_tuning import FineTuneConfig, fine_tune
from homnet_platform.pretraining import PretrainConfig, pretrain
from homnet_platform.sweep import TuneConfig
from homnet_platform.training import ScalingOptions, Trained


@dataclass(frozen=True)
class Lineage:
    """What the jobs made of a healthy set and two hospitals, and the settings they were given."""

    cohort: Cohort
    """Those of the fixture ``hospitals``."""
    pretraining: PretrainConfig
    """Of the model below ``pretrained``."""
    fine_tuning: FineTuneConfig
    """Of the models of ``h1`` and ``h2`` below ``tuned``."""
    evaluation: EvaluateConfig
    """Of both on their test patients; nothing was evaluated yet."""
    pretrained: Path
    """The pre-trained checkpoint."""
    tuned: Path
    """The directory with one directory per hospital."""


FORM = replace(best_form(64), width=8, pair_width=12, num_heads=2, stretched_length=64)
SPLIT = SplitConfig(validation=0.25, test=0.5)
"""With seed 0, one patient of each class in each part of ``h1`` and ``h2``."""


@pytest.fixture(scope="session")
def hospitals(
    tmp_path_factory: pytest.TempPathFactory, table_of: Callable[..., pa.Table]
) -> Cohort:
    """Ten healthy people of ``healthy``; ``h1`` and ``h2``, whose even patients are abnormal."""
    tables = [
        table_of("healthy", num_patients=10, seed=0),
        table_of("h1", num_patients=8, abnormal="3", seed=1),
        table_of("h2", num_patients=8, abnormal="5", seed=2),
    ]
    place = tmp_path_factory.mktemp("hospitals") / "cohort"
    return write_cohort(
        place, tables, scale=dict.fromkeys(("h1", "h2", "h3", "healthy"), 3.0), provenance={}
    )


@pytest.fixture(scope="session")
def in_this_process() -> Callable[..., Trained]:
    """Stands for ``run_stage``: Ray Train takes the same stage to the same bits (test_training.py),
    in seconds more."""

    def run(cohort: Cohort, stage: Stage, **options: Any) -> Trained:
        return Trained(train(stage, collect_bank(pairs_dataset(cohort))), {})

    return run


@pytest.fixture(scope="session")
def lineage(
    ray_cluster: None,
    tmp_path_factory: pytest.TempPathFactory,
    hospitals: Cohort,
    in_this_process: Callable[..., Trained],
) -> Lineage:
    """Trained once: in this process, then two hospitals side by side as tasks."""
    work, cohort = tmp_path_factory.mktemp("lineage"), hospitals
    training = TrainingConfig(batch_size=64, max_epochs=1, bags=BagConfig(num_cells=3))
    pretraining = PretrainConfig(
        cohort=str(cohort.root),
        output=str(work / "pretrain"),
        hospitals=("healthy",),
        model=FORM,
        training=training,
        split=SplitConfig(0.2, 0.2),
        scaling=ScalingOptions(num_workers=1),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("homnet_platform.pretraining.run_stage", in_this_process)
        pretrained = pretrain(pretraining)
    fine_tuning = FineTuneConfig(
        cohort=str(cohort.root),
        checkpoint=str(pretrained),
        output=str(work / "tuned"),
        training=replace(training, labels="cohort"),
        split=SPLIT,
        scaling=ScalingOptions(num_workers=1),
    )
    fine_tune(fine_tuning)
    evaluation = EvaluateConfig(
        cohort=str(cohort.root),
        checkpoint=fine_tuning.output,
        output=str(work / "evaluated"),
        bags=BagConfig(num_cells=3, rounds=2),
        split=SPLIT,
        num_bootstrap=20,
        batch_size=37,
    )
    return Lineage(
        cohort, pretraining, fine_tuning, evaluation, pretrained, Path(fine_tuning.output)
    )


@pytest.fixture
def sweep_config(hospitals: Cohort, tmp_path: Path) -> TuneConfig:
    """Two merge ranges, two rates of pre-training and one of fine-tuning, three epochs each."""
    training = TrainingConfig(
        batch_size=64, max_epochs=3, bags=BagConfig(num_cells=3), learning_rate=3e-3
    )
    return TuneConfig(
        cohort=str(hospitals.root),
        output=str(tmp_path / "tune"),
        healthy=("healthy",),
        merge_ranges=(64, 128),
        pretraining_rates=(1e-6, 3e-3),
        fine_tuning_rates=(1e-3,),
        num_finalists=2,
        # With a search even rates that teach nothing do well, and no trial is poor enough to stop.
        model=replace(FORM, search_positions=0),
        training=training,
        fine_tuning=replace(training, labels="cohort", learning_rate=1e-3),
        split=SPLIT,
        hospital_split=SPLIT,
        reduction_factor=2,
        registry=str(tmp_path / "registry"),
    )


@pytest.fixture
def participants(sweep_config: TuneConfig, ray_cluster: None) -> Participants:
    """Whom the sweep learns from and validates on."""
    return collect_shared(
        Cohort.open(sweep_config.cohort),
        healthy=sweep_config.healthy,
        hospitals=("h1", "h2"),
        split=SPLIT,
        hospital_split=SPLIT,
        parts=(TRAIN, VALIDATION),
    )
