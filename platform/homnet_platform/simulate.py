"""Simulates a cohort as a distributed pipeline, with one cohort file per block of people.

Workers write the files, so pairs never pass through the driver. The same command resumes an
interrupted run and keeps finished files. The result is the same to the byte, regardless of
interruptions and the number of machines. On a cluster the output needs storage that all nodes
share, for example a bucket.
"""

import dataclasses
import json
import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
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
from homnet.files import Staging, is_published
from homnet.locations import Location, first_missing
from homnet.results import Record
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig, healthy, hospitals
from homnet.simulator.laboratory_file import read_laboratory
from homnet_platform.blocks import process_blocks
from homnet_platform.drawn_images import draw_images
from homnet_platform.job import LocationOption
from homnet_platform.runtime import local_or_cluster

_MAX_PAIRS_PER_FILE: Final = 30_000
"""A worker holds several copies of a file's table (60 MB) while it sorts and writes it."""
_PAIRS_PER_CELL: Final = 23.0
"""Number of pairs per cell; a man's X and Y count as one half each."""


@dataclass(frozen=True)
class SimulateConfig:
    """A cohort of healthy people and the patients of four hospitals."""

    output: LocationOption
    """Directory or URI of the cohort; it must not exist. Unfinished work is kept beside it."""
    images: LocationOption | None = None
    """Directory or URI for an image of every chromosome and a manifest; None writes no images."""
    seed: int = 0
    """Seed of the simulation; it gives the same bytes on any number of machines."""
    num_healthy: int = 1581
    """Healthy people (paper, section 2.1)."""
    num_patients: tuple[int, int, int, int] = (24, 27, 30, 21)
    """Patients of hospitals 1 to 4 (paper, Table 1)."""
    healthy_cells: float = 6.0
    """Mean cells per healthy person (paper, appendix A.2)."""
    patient_cells: float = 13.0
    """Mean cells per patient (paper, appendix A.2)."""
    abnormal_fraction: float = 0.6
    """Share of patients with one structural abnormality; the others have none."""
    scale: float = 1.0
    """Factor on the numbers of people; below 1 for a demonstration."""
    laboratory: LocationOption | None = None
    """File from jobs/fit_laboratory.py. Chromosomes of all hospitals are then rendered as in this
    laboratory instead of the four built-in ones; the people stay the same."""
    rearranged_types: bool = False
    """Draw only the types that a patient's abnormality has changed, and an equal number of others:
    many abnormalities in few pairs, to train the reader (jobs/learn_reader.py). Healthy people
    keep all types."""
    variant_inversions: float = 1.0
    """Factor on the frequency of harmless inversions, such as inv(9). Training needs many (20: a
    tenth of the chromosomes 9) for a model to learn that they are normal."""
    num_files: int = 12
    """Approximate number of files of the cohort; more if one would become too large."""
    record: Record = Record()
    """Result of record with the time, memory and disk space used."""

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
    """Hospital where they are seen."""
    num_people: int
    """How many."""
    mean_cells: float
    """Mean cells per person."""
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
    """The groups of a cohort, healthy people first; empty ones are left out.

    Raises:
        ConfigError: a hospital's settings are invalid, or the laboratory file is damaged.
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


def blocks(config: SimulateConfig) -> list[tuple[Group, range]]:
    """The group and the numbers of the people of each file."""
    every = groups(config)
    total = sum(group.expected_pairs for group in every)
    found = []
    for group in every:
        share = round(config.num_files * group.expected_pairs / total)
        needed = math.ceil(group.expected_pairs / _MAX_PAIRS_PER_FILE)
        num_files = min(max(share, needed), group.num_people)
        borders = np.linspace(0, group.num_people, num_files + 1)
        edges = np.rint(borders).astype(int).tolist()
        found += [(group, range(first, stop)) for first, stop in pairwise(edges)]
    return found


def simulate(config: SimulateConfig) -> Cohort:
    """Simulates and writes a cohort, and its images if requested.

    Each directory is published as a whole. Unfinished work with the same settings is resumed, and a
    finished cohort with the same settings is reused if only its images are missing.

    Raises:
        ConfigError: there is nobody to simulate.
        CohortError: a directory exists, or the driver cannot see the workers' files.
        DataError: there is unfinished work with other settings, or the storage is not writable.
    """
    if not groups(config):
        raise ConfigError("there is nobody to simulate; give num_healthy or num_patients")
    provenance = _provenance(config)
    finished = config.images is not None and _is_cohort_of(config.output, provenance)
    if is_published(config.output) and not finished:
        raise CohortError(f"{config.output}: exists already; remove it or choose another --output")
    if config.images is not None and is_published(config.images):
        raise CohortError(f"{config.images}: exists already; remove it or choose another --images")
    with local_or_cluster():
        cohort = Cohort.open(config.output) if finished else _make_cohort(config, provenance)
        if config.images is not None:
            draw_images(cohort, config.images, seed=config.seed)
    return cohort


def staging_of(config: SimulateConfig) -> Staging:
    """The staging directory of a cohort."""
    return Staging(config.output.absolute())


def _provenance(config: SimulateConfig) -> dict[str, Any]:
    elsewhere = ("output", "images", "record")
    settings = dataclasses.asdict(config)
    if config.laboratory is not None:
        # The content, not the path: it names the people who must not evaluate on the cohort.
        settings["laboratory"] = dataclasses.asdict(read_laboratory(config.laboratory))
    return {
        "job": "simulate",
        "version": __version__,
        "seed": config.seed,
        "settings": {key: value for key, value in settings.items() if key not in elsewhere},
    }


def _is_cohort_of(path: Location, provenance: dict[str, Any]) -> bool:
    """Whether there is a finished cohort with these settings, by whichever program."""
    if not is_published(path) or not (path / INDEX).is_file():
        return False
    # JSON turns tuples into lists.
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
        partial(_make_file, staging=staging, seed=config.seed, todo=todo),
        title="simulate",
        total=int(sum(group.expected_pairs for group in every)),
        unit="pair",
    )
    files = []
    for text in entries:
        entry = json.loads(text)
        files.append(CohortFile(**{**entry, "patients": tuple(entry["patients"])}))
    unseen = first_missing([staging.content / one.path for one in files])
    if unseen is not None:
        raise CohortError(
            f"{unseen}: a worker wrote this file, but it is not visible here; choose an --output "
            "on storage that all nodes share"
        )
    scale = {group.hospital.name: group.hospital.laboratory.samples_per_px for group in every}
    with staging.writing(INDEX) as temporary:
        write_index(temporary, files, scale=scale, provenance=provenance)
    staging.publish()
    return Cohort.open(config.output)


def _make_file(
    number: int, *, staging: Staging, seed: int, todo: list[tuple[Group, range]]
) -> tuple[int, str]:
    """Simulates and writes a block's file unless it exists, and returns its index entry."""
    group, people = todo[number]
    relative = file_path(group.hospital.name, number)
    try:
        entry = describe_file(staging.content / relative, relative)
    except CohortError:  # missing, or truncated by a crash
        table = pa.concat_tables(
            simulate_person(
                seed,
                group.hospital,
                person,
                group.mean_cells,
                rearranged_types=group.rearranged_types,
            )
            for person in people
        )
        with staging.writing(relative) as temporary:
            write_file(temporary, table, relative)
            entry = describe_file(temporary, relative)
    return entry.num_pairs, json.dumps(entry.__dict__)
