"""Prepares an endpoint for a demonstration: promoted models, a key and an example."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import MEASURED
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import reference_bags
from homnet.model.registry import Registry
from homnet_serve.arrow_stream import write_stream
from homnet_serve.keys import new_key, write_keys


def prepare(work: Path) -> tuple[str, dict[str, str], Path]:
    """Promotes the models of a finished demonstration and creates a key and an example.

    Args:
        work: directory of the demonstration, with ``cohort`` and ``fine_tune``.

    Returns:
        The secret of a new key, the settings of the endpoint that name its files, and an Arrow
        stream with the pairs of a patient with an abnormality.
    """
    cohort = Cohort.open(work / "cohort")
    hospitals = sorted(path.parent.name for path in work.glob("fine_tune/*/checkpoint"))
    for hospital in hospitals:
        _promote(Registry(work / "registry"), work / "fine_tune" / hospital, cohort, hospital)
    secret, key = new_key("demo", hospitals)
    write_keys(work / "keys.json", [key])
    example = work / "example.arrow"
    example.write_bytes(_first_abnormal(cohort.of_hospitals(hospitals[:1]).read()))
    names = {"registry": "registry", "keys": "keys.json", "audit": "audit"}
    return secret, {name: str((work / file).resolve()) for name, file in names.items()}, example


def _promote(registry: Registry, run: Path, cohort: Cohort, hospital: str) -> None:
    """Publishes and promotes a checkpoint with reference bags, unless it is already promoted."""
    checkpoint = Checkpoint.load(run / "checkpoint")
    promoted = registry.promoted(hospital)
    if promoted is not None and promoted.version == checkpoint.digest:
        return
    version = registry.publish(checkpoint, hospital)
    people = cohort.of_hospitals([hospital]).read(columns=MEASURED.names)
    bags = reference_bags(Predictor.of_checkpoint(checkpoint), people)
    registry.keep_reference_bags(version, bags)
    registry.promote(hospital, version)


def _first_abnormal(table: pa.Table) -> bytes:
    """The pairs of the first patient with an abnormality."""
    patient = table.filter(table["abnormal"])["patient_id"][0]
    rows = table.filter(pc.equal(table["patient_id"], patient)).select(MEASURED.names)
    return write_stream(rows.cast(MEASURED))
