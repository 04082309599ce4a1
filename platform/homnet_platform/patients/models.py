"""The models of a run of verdicts: loaded and checked by the driver, and once by each worker."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from homnet.calibration.patients import NO_READER_USED, PatientCalibration
from homnet.errors import CheckpointError
from homnet.locations import Location, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.shipped import reader_beside
from homnet.patients.diagnostician import Diagnostician
from homnet.patients.verdict import VerdictConfig
from homnet.reader.network import ReaderConfig
from homnet.reader.reading import CalibratedReader


@dataclass(frozen=True)
class JudgingModels:
    """The models of a run and its reader, checked."""

    paths: Mapping[str, Location]
    """Checkpoints by hospital."""
    checkpoints: Mapping[Location, Checkpoint]
    findings: str
    """Absolute path or URI of the reader; empty if there is none."""
    reader: Checkpoint | None
    judges: Mapping[Location, Diagnostician]

    @property
    def reader_version(self) -> str:
        """Version of the reader, by which calibrations name it."""
        return NO_READER_USED if self.reader is None else self.reader.version

    @property
    def calibrations(self) -> dict[str, PatientCalibration | None]:
        """Calibrations for patients, by hospital."""
        return {
            hospital: self.judges[path].calibration_of(hospital)
            for hospital, path in self.paths.items()
        }

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the models and the reader by their places, which workers compare."""
        found = {str(path): one.digest for path, one in self.checkpoints.items()}
        return found if self.reader is None else {**found, self.findings: self.reader.digest}


def load_models(
    checkpoint: str, findings: str, verdict: VerdictConfig, paths: Mapping[str, Location]
) -> JudgingModels:
    """Loads the models of the hospitals, and the reader.

    Args:
        checkpoint: what was asked for, as in messages.
        findings: the reader; empty for the one that was calibrated with the models, if any.
        verdict: settings of the verdicts.
        paths: checkpoints by hospital.

    Raises:
        CheckpointError: one cannot be read, or no model is calibrated for patients, or one was
            with another reader.
    """
    place = findings or reader_beside(checkpoint)
    reader = Checkpoint.load(place, ReaderConfig.of_json) if place else None
    version = NO_READER_USED if reader is None else reader.version
    checkpoints = {path: Checkpoint.load(path) for path in set(paths.values())}
    loaded = JudgingModels(
        paths,
        checkpoints,
        str(to_location(place).absolute()) if place else "",
        reader,
        {path: _diagnostician(path, one, verdict, version) for path, one in checkpoints.items()},
    )
    if not any(loaded.calibrations.values()):
        raise CheckpointError(
            f"{checkpoint}: not calibrated for whole patients, or was by another version; "
            "run jobs/diagnose.py calibrate first and give its output"
        )
    return loaded


@cache
def loaded_once(
    path: Location, digest: str, verdict: VerdictConfig, findings: str, reader_digest: str
) -> tuple[Diagnostician, Predictor, CalibratedReader | None]:
    """Model and reader, loaded once per process.

    Raises:
        CheckpointError: one is no longer that of the run.
    """
    reader = reader_once(findings, reader_digest) if findings else None
    checkpoint = Checkpoint.load(path)
    _require_unchanged(path, checkpoint, digest)
    version = NO_READER_USED if reader is None else reader.version
    return (
        _diagnostician(path, checkpoint, verdict, version),
        Predictor.of_checkpoint(checkpoint),
        reader,
    )


@cache
def predictor_once(path: Location, digest: str) -> Predictor:
    """A model, loaded once per process; raises CheckpointError if it is not that of the run."""
    checkpoint = Checkpoint.load(path)
    _require_unchanged(path, checkpoint, digest)
    return Predictor.of_checkpoint(checkpoint)


@cache
def reader_once(path: str, digest: str) -> CalibratedReader:
    """A reader, loaded once per process; raises CheckpointError if it is not that of the run."""
    stored = Checkpoint.load(path, ReaderConfig.of_json)
    _require_unchanged(path, stored, digest)
    return CalibratedReader.of_checkpoint(stored)


def _require_unchanged(where: object, checkpoint: Checkpoint, digest: str) -> None:
    # Of what this version reads: an older file may hold more, and then has another digest.
    if checkpoint.digest != digest:
        raise CheckpointError(
            f"{where}: was replaced since this run began, and its verdicts would be of two models; "
            "restore it, or remove the unfinished output, then repeat the command"
        )


def _diagnostician(
    path: Location, checkpoint: Checkpoint, verdict: VerdictConfig, reader: str
) -> Diagnostician:
    try:
        return Diagnostician(checkpoint, verdict, reader=reader)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
