"""Example pairs of a cohort, for reports."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import SINGLE_HOMOLOG, pairs_of
from homnet.cohorts.summary import has_flag
from homnet.karyotype.chromosomes import CHROMOSOMES


@dataclass(frozen=True)
class Example:
    """A pair to draw."""

    pair: NDArray[np.uint8]
    """Darkness (2, 2, 512): homolog, chromatid, position; 0 is background."""
    hospital: str
    """Hospital of the pair."""
    chromosome: str
    """Chromosome type."""
    band_level: int
    """Bands per haploid set in its cell."""
    samples_per_px: float
    """Samples of its sequences per image pixel."""
    kind: str | None = None
    """Kind of abnormality, ``"abnormal"`` if unknown; None for a normal pair."""
    homolog: int | None = None
    """Index of the abnormal homolog (0 or 1), if known."""
    start: int | None = None
    """First position of the event, if known."""
    stop: int | None = None
    """Position after the event, if known."""


def draw_examples(cohort: Cohort, num_examples: int, rng: np.random.Generator) -> list[Example]:
    """Chooses pairs to draw: alternately one normal and one abnormal pair per hospital.

    Args:
        cohort: source of pairs; one file per hospital is read, with abnormal pairs if possible.
        num_examples: maximum number of pairs; fewer if the hospitals have fewer.
        rng: random generator.
    """
    found: list[Example] = []
    tables = []
    for hospital in cohort.hospitals:
        files = cohort.of_hospitals([hospital]).files
        files = tuple(one for one in files if one.num_abnormal != 0) or files
        table = cohort.read(files[rng.integers(len(files))])
        whole = pc.invert(has_flag(pc.struct_field(table["quality"], "flags"), SINGLE_HOMOLOG))
        table = table.filter(whole)
        labels = table["abnormal"].to_numpy()
        tables.append(
            (table, [rng.permutation(np.flatnonzero(labels == b)) for b in (False, True)])
        )
    for turn in range(num_examples):
        for table, orders in tables:
            rows = [order[turn] for order in orders if turn < len(order)]
            found += [_example(table.slice(int(row), 1), cohort) for row in rows]
        if len(found) >= num_examples:
            break
    found = found[:num_examples]
    return sorted(found, key=lambda one: (one.hospital, CHROMOSOMES.index(one.chromosome)))


def pairs_by_cell(table: pa.Table, patient_id: str) -> dict[str, dict[str, NDArray[np.uint8]]]:
    """Returns a patient's sequences (2, 2, 512) by cell and type."""
    found: dict[str, dict[str, NDArray[np.uint8]]] = {}
    if table.num_rows == 0:
        return found
    rows = zip(
        *(table[name].to_pylist() for name in ("patient_id", "cell_id", "chromosome")),
        pairs_of(table),
        strict=True,
    )
    for patient, cell, chromosome, pair_PCL in rows:
        if patient == patient_id:
            found.setdefault(cell, {})[chromosome] = pair_PCL
    return found


def _example(row: pa.Table, cohort: Cohort) -> Example:
    values = row.drop_columns(["pair"]).to_pylist()[0]
    names = ("hospital", "chromosome", "band_level", "homolog", "start", "stop")
    return Example(
        pair=pairs_of(row)[0],
        samples_per_px=cohort.scale[values["hospital"]],
        kind=(values["kind"] or "abnormal") if values["abnormal"] else None,
        **{name: values[name] for name in names},
    )
