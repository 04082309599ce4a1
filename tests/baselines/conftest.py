"""An easy task: people without noise, events of a third of the chromosome."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.events import EventConfig
from homnet.model.contract import Form
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import Laboratory, healthy
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage

TYPES = ("3", "9", "13", "17")
"""One type of each of four Denver groups."""


@pytest.fixture(scope="session")
def bank(quiet: Laboratory) -> PairBank:
    """Pairs of 14 simulated people."""
    hospital = replace(healthy(), laboratory=replace(quiet, length_sd=0.02))
    people = [simulate_person(0, hospital, number, 5.0) for number in range(14)]
    table = pa.concat_tables(people)
    return PairBank.from_table(table.filter(pc.is_in(table["chromosome"], pa.array(TYPES))))


@pytest.fixture(scope="session")
def patients(bank: PairBank) -> list[str]:
    return sorted(bank.frame["patient_id"].unique())


@pytest.fixture(scope="session")
def stage_of(patients: list[str]) -> Callable[..., Stage]:
    """The maker of easy tasks: of a form and changes of the training."""
    return partial(make_stage, patients)


def make_stage(patients: list[str], form: Form, **training: object) -> Stage:
    """Learns from nine people and validates on five."""
    settings = {
        "learning_rate": 5e-3,
        "batch_size": 32,
        "max_epochs": 12,
        "patience": 4,
        "bags": BagConfig(num_cells=3, rounds=2),
        "events": EventConfig(min_fraction=0.3, max_fraction=0.35),
        **training,
    }
    return Stage(
        name="easy",
        model=form,
        training=TrainingConfig(**settings),  # type: ignore[arg-type]
        train_patients=frozenset(patients[:9]),
        validation_patients=frozenset(patients[9:]),
    )
