"""Reads cohorts with Ray: whole files are read and checked in parallel."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import Dataset

from homnet.bags.draw import PairBank, rows_of_file
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.training.stage import Stage


def pairs_dataset(cohort: Cohort, patients: Iterable[str] | None = None) -> Dataset:
    """The rows of a cohort with their parts, one block per file.

    Uses our own strict reader instead of ``read_parquet``: it names file, row and column of a bad
    value, and starts ten times faster on a small cluster.

    Args:
        cohort: the opened cohort.
        patients: keep only these; files without any of them are not read.
    """
    everybody = (name for entry in cohort.files for name in entry.patients)
    wanted = frozenset(everybody if patients is None else patients)
    read: Any = functools.partial(_read_file, cohort=cohort, patients=wanted)
    return in_blocks([{"file": number} for number in files_of(cohort, wanted)]).map_batches(
        read, batch_size=1, batch_format="pyarrow", num_cpus=1
    )


def _read_file(batch: Any, cohort: Cohort, patients: frozenset[str]) -> Any:
    return rows_of(rows_of_file(cohort, batch["file"][0].as_py()), patients)


def files_of(cohort: Cohort, patients: frozenset[str]) -> list[int]:
    """Numbers of the files that have some of these patients."""
    return [n for n, entry in enumerate(cohort.files) if not patients.isdisjoint(entry.patients)]


def rows_of(table: pa.Table, patients: Iterable[str]) -> pa.Table:
    """The rows of some patients, in the order of the table."""
    return table.filter(pc.is_in(table["patient_id"], pa.array(list(patients), pa.string())))


def in_blocks(items: Sequence[Mapping[str, Any]]) -> Dataset:
    """A dataset with a block for each item."""
    return ray.data.from_items(list(items), override_num_blocks=len(items))


def ray_map(function: Callable[[Any], Any], arguments: Iterable[Any]) -> list[Any]:
    """Like ``map``, with each call in its own Ray task; keeps the order of the arguments."""
    shared = ray.put(function)
    return list(ray.get([_call.remote(shared, argument) for argument in arguments]))


@ray.remote
def _call(function: Callable[[Any], Any], argument: Any) -> Any:
    return function(argument)


@dataclass(frozen=True)
class People:
    """People of several training runs."""

    healthy: Mapping[str, frozenset[str]]
    """People of the pre-training, by split."""
    hospitals: Mapping[str, Mapping[str, frozenset[str]]]
    """Patients of each fine-tuning hospital, by split."""
    scale: Mapping[str, float]
    """Samples per image pixel of each hospital."""

    def scale_of(self, hospitals: Sequence[str]) -> dict[str, float]:
        """Samples per image pixel of some hospitals."""
        return {name: self.scale[name] for name in hospitals}


@dataclass(frozen=True)
class Participants(People):
    """People of several training runs, with their pairs."""

    bank: PairBank
    """Pairs of all these people."""


def choose_people(
    cohort: Cohort,
    *,
    healthy: Sequence[str],
    hospitals: Sequence[str],
    split: SplitConfig,
    hospital_split: SplitConfig,
    parts: Sequence[str],
) -> tuple[People, Dataset]:
    """Chooses the people of several training runs.

    Args:
        cohort: the opened cohort.
        healthy: hospitals of the pre-training.
        hospitals: hospitals of the fine-tuning; may be empty.
        split: of the healthy people.
        hospital_split: of the patients.
        parts: splits to read; people of other splits are never loaded.

    Returns:
        The people, and the dataset of their pairs, not read yet.

    Raises:
        CohortError: no such hospital.
        ConfigError: a hospital of ``healthy`` has abnormal pairs or is in ``hospitals``.
        DataError: two people of different hospitals have the same id.
    """
    patients = {*cohort.of_hospitals(healthy).hospitals_with_abnormal_pairs(), *hospitals}
    if hospitals and patients & set(healthy):
        raise ConfigError(
            f"{', '.join(sorted(patients & set(healthy)))} of {cohort.root} cannot be healthy "
            "people: pre-training would use test patients of fine-tuning; choose other hospitals"
        )
    of_healthy = split_patients(cohort.of_hospitals(healthy).patients, split)
    of_hospitals = {
        name: split_patients(cohort.of_hospitals([name]).patients, hospital_split)
        for name in hospitals
    }
    # With hospitals, the test is on their patients; held-out healthy people are not needed.
    own = [part for part in parts if not (hospitals and part == TEST)]
    wanted = {person for part in own for person in of_healthy[part]} | {
        person for people in of_hospitals.values() for part in parts for person in people[part]
    }
    names = [*healthy, *(name for name in hospitals if name not in healthy)]
    chosen = cohort.of_hospitals(names)
    # Refuses a patient id that two hospitals share: the two people would be merged here.
    split_patients(chosen.patients, SplitConfig(validation=0.0, test=0.0))
    people = People(healthy=of_healthy, hospitals=of_hospitals, scale=chosen.scale)
    return people, pairs_dataset(chosen, wanted)


def collect_shared(cohort: Cohort, **chosen: Any) -> Participants:
    """The people of :func:`choose_people` with their pairs, in the memory of this process.

    Raises:
        CohortError, ConfigError, DataError: see there; also if no pair has both homologs.
    """
    people, pairs = choose_people(cohort, **chosen)
    return Participants(**vars(people), bank=collect_bank(pairs))


def collect_bank(source: Dataset) -> PairBank:
    """Collects all rows of a dataset into one bank.

    Raises:
        DataError: there is no pair with both homologs.
    """
    # Whole blocks of any size: they are concatenated anyway.
    batches: Iterable[Any] = source.iter_batches(batch_size=cast(int, None), batch_format="pyarrow")
    return PairBank.from_table(pa.concat_tables(batches))


def stored_bank(source: Dataset) -> Any:
    """A reference to the bank of all rows of a dataset, in the object store.

    A task builds it, so the pairs do not pass through this process. Getting it raises DataError if
    no pair has both homologs.
    """
    return _bank_of.remote(*source.to_arrow_refs())


@ray.remote(num_cpus=1)
def _bank_of(*tables: pa.Table) -> PairBank:
    return PairBank.from_table(pa.concat_tables(tables))


@ray.remote(num_cpus=1)
def require_validation(bank: PairBank, stages: Sequence[Stage]) -> int:
    """A task that checks before several trainings that each can be validated.

    Returns the number of pairs of the bank.

    Raises:
        DataError: a training lacks pairs, or all its validation bags have the same class.
    """
    for stage in stages:
        stage.require_validation(bank)
    return len(bank)
