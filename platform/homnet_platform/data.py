"""Cohorts through Ray Data: files are read and checked in parallel, whole files at a time."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import ray
from ray.data import DataIterator, Dataset

from homnet.bags import PairBank
from homnet.cohort import Cohort


def pairs_dataset(cohort: Cohort, patients: Iterable[str] | None = None) -> Dataset:
    """The rows of a cohort, one block per file.

    Files are read by our own strict reader rather than ``read_parquet``: it names file, row and
    column of a bad value, and it costs a tenth of the start-up time on a small cluster.

    Args:
        cohort: the opened cohort.
        patients: keep only these; files without any of them are not read.
    """
    wanted = None if patients is None else sorted(set(patients))
    chosen = set(wanted or ())
    numbers = [
        number
        for number, entry in enumerate(cohort.files)
        if wanted is None or chosen.intersection(entry.patients)
    ]
    dataset = ray.data.from_items(
        [{"file": number} for number in numbers], override_num_blocks=len(numbers)
    )
    read: Any = functools.partial(_read_file, cohort=cohort, patients=wanted)
    return dataset.map_batches(read, batch_size=1, batch_format="pyarrow")


def _read_file(batch: Any, cohort: Cohort, patients: Sequence[str] | None) -> Any:
    table = cohort.read(cohort.files[batch["file"][0].as_py()])
    if patients is None:
        return table
    return table.filter(pc.is_in(table["patient_id"], pa.array(patients)))


def collect_bank(source: Dataset | DataIterator) -> PairBank:
    """Takes all rows of a dataset, or of a Train worker's shard of it, into one bank.

    Raises:
        DataError: no pair with both homologs is there.
    """
    # Whole blocks, whatever their size: the rows are put together anyway.
    batches: Iterable[Any] = source.iter_batches(batch_size=cast(int, None), batch_format="pyarrow")
    return PairBank.from_table(pa.concat_tables(batches))
