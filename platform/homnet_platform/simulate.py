"""Simulates a cohort as a distributed pipeline: blocks of people in, files of a cohort out.

Every block becomes a file that its worker writes, so that pairs never travel to the driver. A run
that was killed continues with the same command and keeps what was finished; the outcome is the
same to the byte, whenever it was killed and on however many machines it ran. On a cluster the
output must lie on storage that all nodes share.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from homnet import __version__
from homnet.cohorts.cohort import (
    INDEX,
    SCHEMA_VERSION,
    Cohort,
    CohortFile,
    describe_file,
    file_path,
    write_file,
    write_index,
)
from homnet.errors import CohortError, ConfigError
from homnet.files import Staging
from homnet.results import Record
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig, healthy, hospitals
from homnet.simulator.laboratory_file import read_laboratory
from homnet_platform.blocks import process_blocks
from homnet_platform.drawn_images import draw_images
from homnet_platform.runtime import local_or_cluster

_MAX_PAIRS_PER_FILE: Final = 30_000
"""A worker holds several copies of the table of one file (60 MB) while sorting and writing it."""
_PAIRS_PER_CELL: Final = 23.0
"""Pairs of a cell, a man's X and Y counted as one half each."""


@dataclass(frozen=True)
class SimulateConfig:
    """A cohort of healthy people and of the patients of four hospitals."""

    output: Path
    """Directory of the cohort; it must not exist. What is unfinished lies beside it."""
    images: Path | None = None
    """Directory for an image of every chromosome and the manifest of them; none without."""
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
    laboratory: Path | None = None
    """File that jobs/fit_laboratory.py wrote: everyone's chromosomes look as in this laboratory
    instead of the five built-in ones. Who is seen in each hospital stays as it is."""
    rearranged_types: bool = False
    """Draw only the types that a patient's abnormality has changed, and an equal number of others:
    many abnormalities in few pairs, to train the reader (jobs/learn_reader.py). Healthy people
    keep all types."""
    variant_inversions: float = 1.0
    """Factor on how many chromosomes carry a harmless inversion, such as inv(9). People who teach
    should be rich in them (20: a tenth of the chromosomes 9), or too few are met to learn that
    they are normal."""
    num_files: int = 12
    """Approximate number of files of the cohort; more if one would become too large."""
    record: Record = Record()
    """The result of record on the time, memory and disk that it took."""

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
    rearranged_types: bool = False
    """Whether only changed types and an equal number of others are drawn."""

    @property
    def expected_pairs(self) -> float:
        """Expected number of pairs, ignoring missing chromosomes."""
        per_cell = _PAIRS_PER_CELL
        if self.rearranged_types:
            per_cell = 2 + self.hospital.abnormal_fraction
        return self.num_people * self.mean_cells * per_cell


def groups(config: SimulateConfig) -> list[Group]:
    """The hospitals of a cohort, the healthy people first; empty ones are left out.

    Raises:
        ConfigError: a hospital's settings cannot work, or the laboratory file is damaged.
    """
    fitted = None if config.laboratory is None else read_laboratory(config.laboratory).laboratory
    people = [(healthy(), config.num_healthy, config.healthy_cells)]
    for hospital, number in zip(hospitals(), config.num_patients, strict=True):
        hospital = dataclasses.replace(hospital, abnormal_fraction=config.abnormal_fraction)
        people.append((hospital, number, config.patient_cells))
    return [
        Group(
            dataclasses.replace(
                hospital,
                variant_inversions=config.variant_inversions,
                laboratory=fitted or hospital.laboratory,
            ),
            max(1, round(config.scale * number)),
            mean_cells,
            rearranged_types=config.rearranged_types and hospital.abnormal_fraction > 0,
        )
        for hospital, number, mean_cells in people
        if number > 0
    ]


def blocks(config: SimulateConfig) -> list[dict[str, int]]:
    """Ranges of people, one per file: ``group``, ``first`` person, ``stop`` after the last one."""
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
    """Simulates and writes a cohort, and its images if they are wanted.

    Both directories appear whole or not at all. Unfinished work of the same settings is continued,
    and a finished cohort of the same settings is taken when only its images are missing.

    Raises:
        ConfigError: there is nobody to simulate.
        CohortError: a directory exists, or the driver does not see what the workers wrote.
        DataError: unfinished work with other settings is there, or the storage refuses.
    """
    if not groups(config):
        raise ConfigError("there is nobody to simulate; give num_healthy or num_patients")
    provenance = _provenance(config)
    finished = config.images is not None and _is_cohort_of(config.output, provenance)
    if config.output.exists() and not finished:
        raise CohortError(f"{config.output}: exists already; remove it or choose another --output")
    if config.images is not None and config.images.exists():
        raise CohortError(f"{config.images}: exists already; remove it or choose another --images")
    with local_or_cluster():
        cohort = Cohort.open(config.output) if finished else _make_cohort(config, provenance)
        if config.images is not None:
            draw_images(cohort, config.images, seed=config.seed)
    return cohort


def staging_of(config: SimulateConfig) -> Staging:
    """Where a cohort lies until it is finished."""
    return Staging(config.output.absolute())


def _provenance(config: SimulateConfig) -> dict[str, Any]:
    elsewhere = ("output", "images", "record")
    settings = dataclasses.asdict(config)
    if config.laboratory is not None:
        # The content, not the path: it names the people who must not judge the cohort.
        settings["laboratory"] = dataclasses.asdict(read_laboratory(config.laboratory))
    return {
        "job": "simulate",
        "version": __version__,
        "seed": config.seed,
        "settings": {key: value for key, value in settings.items() if key not in elsewhere},
    }


def _is_cohort_of(path: Path, provenance: dict[str, Any]) -> bool:
    """Whether a finished cohort of these settings is there."""
    if not (path / INDEX).is_file():
        return False
    # Tuples come back as lists.
    return bool(Cohort.open(path).provenance == json.loads(json.dumps(provenance)))


def _make_cohort(config: SimulateConfig, provenance: dict[str, Any]) -> Cohort:
    todo, every = blocks(config), groups(config)
    staging = staging_of(config)
    staging.claim(
        {
            **provenance,
            "schema_version": SCHEMA_VERSION,
            "groups": [dataclasses.asdict(group) for group in every],
        }
    )
    entries = process_blocks(
        len(todo),
        partial(_make_file, staging=staging, seed=config.seed, todo=todo, every=every),
        title="simulate",
        total=int(sum(group.expected_pairs for group in every)),
        unit="pair",
    )
    files = []
    for text in entries:
        entry = json.loads(text)
        files.append(CohortFile(**{**entry, "patients": tuple(entry["patients"])}))
        if not (staging.content / files[-1].path).is_file():
            raise CohortError(
                f"{staging.content / files[-1].path}: a worker wrote this file, but it is not "
                "seen here; choose an --output on storage that all nodes share"
            )
    scale = {group.hospital.name: group.hospital.laboratory.samples_per_px for group in every}
    with staging.writing(INDEX) as temporary:
        write_index(temporary, files, scale=scale, provenance=provenance)
    staging.publish()
    return Cohort.open(config.output)


def _make_file(
    number: int, *, staging: Staging, seed: int, todo: list[dict[str, int]], every: list[Group]
) -> tuple[int, str]:
    """Simulates and writes a block's file unless it is there, and gives its entry of the index."""
    block = todo[number]
    group = every[block["group"]]
    relative = file_path(group.hospital.name, number)
    try:
        entry = describe_file(staging.content, relative)
    except CohortError:  # not there yet, or cut off when the machine went down
        table = pa.concat_tables(
            simulate_person(
                seed,
                group.hospital,
                person,
                group.mean_cells,
                rearranged_types=group.rearranged_types,
            )
            for person in range(block["first"], block["stop"])
        )
        with staging.writing(relative) as temporary:
            write_file(temporary, table, relative)
        entry = describe_file(staging.content, relative)
    return entry.num_pairs, json.dumps(entry.__dict__)
