"""A small cohort of rearranged simulated people, and a HomNet that has learnt nothing."""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from homnet.bags.draw import BagConfig, PairBank
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, HomNetConfig, best_form
from homnet.reader.lessons import ReaderTraining
from homnet.reader.truth import with_segments
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig
from homnet.training.optimisation import TrainingConfig

FORM = dataclasses.replace(best_form(), width=16, pair_width=24, num_heads=2)


_TRAINING = ReaderTraining(
    TrainingConfig(
        learning_rate=4e-3,
        batch_size=16,
        max_epochs=2,
        labels="cohort",
        schedule="cosine",
        averaging=0.9,
        bags=BagConfig(num_cells=4),
        validation_rounds=1,
    )
)


@pytest.fixture(scope="session")
def training() -> ReaderTraining:
    """Two short epochs on the cohort's own abnormalities."""
    return _TRAINING


@pytest.fixture(scope="session")
def bank(rearranged: pa.Table) -> PairBank:
    """Their pairs."""
    return PairBank.from_table(rearranged)


@pytest.fixture(scope="session")
def form() -> HomNetConfig:
    """A small form of HomNet."""
    return FORM


@pytest.fixture(scope="session")
def rearranged() -> pa.Table:
    """Large inversions and deletions in all cells of most people, with their segments."""
    hospital = HospitalConfig(
        "h",
        kinds={"deletion": 0.5, "inversion": 0.5},
        abnormal_fraction=0.8,
        recurrent_share=0.0,
        mosaic_share=0.0,
        median_size_mb=60.0,
        size_spread=0.1,
    )
    return with_segments(
        pa.concat_tables(
            simulate_person(7, hospital, number, 5.0, rearranged_types=True)
            for number in range(150)
        )
    )


@pytest.fixture(scope="session")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained HomNet."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("parent") / "checkpoint"
    return Checkpoint(FORM, HomNet(FORM).state_dict()).save(path)
