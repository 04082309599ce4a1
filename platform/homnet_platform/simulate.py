"""Simulates a cohort as a distributed pipeline: blocks of people in, files of a cohort out."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
import ray
from tqdm import tqdm

from homnet import __version__
from homnet.cohort import Cohort, write_cohort
from homnet.errors import CohortError, ConfigError
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig, healthy, hospitals
from homnet_platform.runtime import local_or_cluster

_MAX_PAIRS_PER_FILE: Final = 30_000
"""A file's table stays well under the 128 MB at which Ray Data cuts a block in two."""
_PAIRS_PER_CELL: Final = 23.0
"""Pairs of a cell, a man's X and Y counted as one half each."""


@dataclass(frozen=True)
class SimulateConfig:
    """A cohort of healthy people and of the patients of four hospitals."""

    output: Path
    """Directory of the cohort; it must not exist."""
    seed: int = 0
    """Of everything drawn; the same seed gives the same bytes on any number of machines."""
    num_healthy: int = 1581
    """Healthy people (paper, section 2.1)."""
    num_patients: tuple[int, int, int, int] = (24, 27, 30, 21)
    """Patients of hospitals 1 to 4 (paper, Table 1)."""
    healthy_cells: float = 6.0
    """Mean cells per healthy person (paper, appendix A.2)."""
    patient_cells: float = 13.0
    """Mean cells per patient (paper, appendix A.2)."""
    abnormal_fraction: float = 0.6
    """Share of the patients with a structural abnormality, one each."""
    scale: float = 1.0
    """Factor on the numbers of people; below 1 for a demonstration."""
    num_files: int = 12
    """Files that the cohort is cut into, about; more when one would get large."""

    def __post_init__(self) -> None:
        if not 0.0 < self.scale <= 100.0:
            raise ConfigError(f"scale is {self.scale}; give a factor above 0, for example 0.05")
        if min(self.num_healthy, *self.num_patients) < 0:
            raise ConfigError(
                f"num_healthy is {self.num_healthy} and num_patients {self.num_patients}; "
                "numbers of people cannot be negative"
            )
        if min(self.healthy_cells, self.patient_cells) < 1.0:
            raise ConfigError(
                f"healthy_cells is {self.healthy_cells} and patient_cells {self.patient_cells}; "
                "everyone needs at least one cell"
            )
        if self.num_files < 1:
            raise ConfigError(f"num_files is {self.num_files}; give at least 1")


@dataclass(frozen=True)
class Group:
    """People of one hospital who are simulated alike."""

    hospital: HospitalConfig
    """Where they are seen."""
    num_people: int
    """How many."""
    mean_cells: float
    """Mean cells of each."""

    @property
    def expected_pairs(self) -> float:
        """Pairs to expect, counting no missing chromosomes."""
        return self.num_people * self.mean_cells * _PAIRS_PER_CELL


def groups(config: SimulateConfig) -> list[Group]:
    """The hospitals of a cohort, the healthy people first; empty ones are left out."""
    people = [(healthy(), config.num_healthy, config.healthy_cells)]
    for hospital, number in zip(hospitals(), config.num_patients, strict=True):
        hospital = dataclasses.replace(hospital, abnormal_fraction=config.abnormal_fraction)
        people.append((hospital, number, config.patient_cells))
    return [
        Group(hospital, max(1, round(config.scale * number)), mean_cells)
        for hospital, number, mean_cells in people
        if number > 0
    ]


def blocks(config: SimulateConfig) -> list[dict[str, int]]:
    """Runs of people, each of which becomes a file: ``group``, first person and the one after."""
    every = groups(config)
    total = sum(group.expected_pairs for group in every)
    found = []
    for index, group in enumerate(every):
        share = round(config.num_files * group.expected_pairs / total)
        needed = math.ceil(group.expected_pairs / _MAX_PAIRS_PER_FILE)
        num_files = min(max(share, needed), group.num_people)
        borders = np.linspace(0, group.num_people, num_files + 1)
        edges = np.rint(borders).astype(int).tolist()
        found += [{"group": index, "first": first, "stop": stop} for first, stop in pairwise(edges)]
    return found


def simulate(config: SimulateConfig) -> Cohort:
    """Simulates and writes a cohort; the directory appears whole or not at all.

    Raises:
        ConfigError: there is nobody to simulate.
        CohortError: the directory exists.
    """
    if not groups(config):
        raise ConfigError("there is nobody to simulate; give num_healthy or num_patients")
    if config.output.exists():
        raise CohortError(f"{config.output}: exists already; remove it or choose another --output")
    provenance: dict[str, Any] = {
        "job": "simulate",
        "version": __version__,
        "seed": config.seed,
        "settings": {
            key: value for key, value in dataclasses.asdict(config).items() if key != "output"
        },
    }
    scale = {
        group.hospital.name: group.hospital.laboratory.samples_per_px for group in groups(config)
    }
    with local_or_cluster():
        return write_cohort(config.output, _tables(config), scale=scale, provenance=provenance)


def _tables(config: SimulateConfig) -> Iterator[pa.Table]:
    """One table per block, in the order of the blocks, simulated by all CPUs of the cluster."""
    todo = blocks(config)
    data = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        partial(_simulate_block, seed=config.seed, every=groups(config)),
        batch_size=1,
        batch_format="numpy",
    )
    # The number of a file must not depend on which block was ready first.
    data.context.execution_options.preserve_order = True
    expected = int(sum(group.expected_pairs for group in groups(config)))
    with tqdm(total=expected, desc="simulate", unit="pair", unit_scale=True) as bar:
        for batch in data.iter_batches(batch_size=None, batch_format="pyarrow"):
            table = cast(pa.Table, batch)
            bar.update(table.num_rows)
            yield table
        bar.total = bar.n
        bar.refresh()


def _simulate_block(batch: Any, *, seed: int, every: list[Group]) -> pa.Table:
    group = every[int(batch["group"][0])]
    people = range(int(batch["first"][0]), int(batch["stop"][0]))
    return pa.concat_tables(
        simulate_person(seed, group.hospital, number, group.mean_cells) for number in people
    )
