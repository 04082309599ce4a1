"""Calibration for whole patients on a cluster: scores validation patients, then fits."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from homnet.bags.assessment import assess
from homnet.calibration.labelled_scores import LabelledScores
from homnet.calibration.patients import (
    ALL_HOSPITALS,
    NO_READER_USED,
    READ_SHARE,
    SPECIFICITY,
    PatientCalibration,
    fit_hospitals,
)
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.files import require_writable
from homnet.locations import Location, to_location
from homnet.model.checkpoint import HASHES, Checkpoint, patient_digests
from homnet.model.registry import Registry
from homnet.patients.diagnostician import read_types
from homnet.patients.scores import labelled_scores, read_log_odds, score_patients
from homnet.reader.network import ReaderConfig
from homnet_platform.blocks import process_blocks
from homnet_platform.patients.blocks import PatientBlock, patient_blocks, read_block
from homnet_platform.patients.models import predictor_once, reader_once
from homnet_platform.runs import models_of, portable, refuse_known
from homnet_platform.runtime import local_or_cluster


@dataclass(frozen=True)
class CalibrateConfig:
    """Fits thresholds and scales of evidence for whole patients on validation patients."""

    cohort: str = "cohorts/simulated"
    """Cohort with truth. Specificity is measured on its healthy referrals: the patients of each
    hospital without an abnormal pair. A specificity of 0.99 needs 99 of them among a hospital's
    validation patients; with fewer, the threshold is above all of them, and the output reports the
    specificity that they support."""
    checkpoint: str = "runs/fine_tune"
    """A checkpoint, or the output of fine-tuning to score each hospital with its own model."""
    findings: str = ""
    """Checkpoint of a reader of findings, whose score of each type is combined with the model's.
    Verdicts then need the same reader. If empty, verdicts use the model only."""
    output: str = "runs/calibrate"
    """Output directory, with one calibrated checkpoint per hospital. An earlier calibration of the
    same hospitals is replaced; one of others, or a reader that this one has not, is refused."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to calibrate; by default those that have a model."""
    split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Split whose validation patients are used. Training patients are refused."""
    specificity: float = SPECIFICITY
    """Share of healthy referrals to be called normal."""
    min_cells: int = 2
    """Minimum number of cells for a type to count."""
    read_share: float = READ_SHARE
    """Share of the types of healthy referrals that the reader reads, those that HomNet finds most
    suspicious; the others are excluded without it. 1 reads all, and takes five times as long."""
    min_patients: int = 5
    """Minimum number of healthy referrals, and of carriers, for a hospital's own calibration; with
    fewer, it gets the calibration of all hospitals together."""
    registry: str = ""
    """Registry to add every calibrated model to as a candidate of its hospital, with the reader;
    empty for none."""

    def __post_init__(self) -> None:
        """Checks ranges; raises ConfigError."""
        if not 0 < self.specificity < 1:
            raise ConfigError(f"specificity is {self.specificity}; give a share below 1")
        if not 0 < self.read_share <= 1:
            raise ConfigError(f"read_share is {self.read_share}; give a share above 0, at most 1")
        if self.min_cells < 1:
            raise ConfigError(f"min_cells is {self.min_cells}; give at least 1")


def calibrate(config: CalibrateConfig) -> dict[str, Location]:
    """Calibrates for whole patients; returns the new checkpoint locations by hospital.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError, StoreError: see their messages.
    """
    output = to_location(config.output)
    registry = Registry(config.registry) if config.registry else None
    cohort = Cohort.open(config.cohort)
    models = models_of(config.checkpoint, cohort.scale, config.hospitals)
    cohort = cohort.of_hospitals(models)
    split = split_patients(cohort.patients, config.split)
    checkpoints = {path: Checkpoint.load(path) for path in set(models.values())}
    origins = {path: one.provenance for path, one in checkpoints.items()}
    digests = {str(path): one.digest for path, one in checkpoints.items()}
    reader, findings = NO_READER_USED, ""
    if config.findings:
        above = Checkpoint.load(config.findings, ReaderConfig.of_json)
        origins[to_location(config.findings)], reader = above.provenance, above.version
        findings = str(to_location(config.findings).absolute())
        digests[findings] = above.digest
    for path, origin in origins.items():
        refuse_known(path, origin, split[VALIDATION], "learnt_from")
    _refuse_others(output, models, reads=bool(config.findings))
    replaced = {(output / name / "checkpoint").resolve() for name in models}
    replaced.add((output / "reader").resolve())
    for path in sorted(origins, key=str):
        if path.resolve() in replaced:
            raise ConfigError(
                f"{path}: is read, and would be replaced by what is calibrated; choose another "
                "--output"
            )
    require_writable(output)
    blocks = patient_blocks(cohort, split[VALIDATION])
    with local_or_cluster():
        texts = process_blocks(
            len(blocks),
            partial(
                _score_block,
                cohort=cohort,
                blocks=blocks,
                models=models,
                findings=findings,
                digests=digests,
            ),
            title="calibrate",
            total=len(split[VALIDATION]),
            unit=" patients",
        )
    # Results are passed as text: logits of a thousand patients are a few megabytes.
    scores = LabelledScores.concatenate([LabelledScores.from_json(json.loads(t)) for t in texts])
    found = fit_hospitals(
        scores,
        min_cells=config.min_cells,
        specificity=config.specificity,
        reader=reader,
        read_share=config.read_share,
        min_patients=config.min_patients,
    )
    for name, one in found.items():
        # The scale that its hospitals have in common, if they have one.
        own = {cohort.scale[hospital] for hospital in one.hospitals}
        found[name] = dataclasses.replace(one, samples_per_px=own.pop() if len(own) == 1 else None)
    fitted = {hospital: found.get(hospital, found[ALL_HOSPITALS]) for hospital in models}
    calibrated = {}
    for hospital, path in models.items():
        checkpoint = checkpoints[path]
        provenance = {
            **checkpoint.provenance,
            "calibrated_on": patient_digests(split[VALIDATION]),
            "calibration": {"cohort": cohort.fingerprint, "config": portable(config)},
        }
        calibrated[hospital] = dataclasses.replace(
            checkpoint,
            patients={hospital: fitted[hospital], ALL_HOSPITALS: found[ALL_HOSPITALS]},
            provenance=provenance,
        )
    published = {hospital: output / hospital / "checkpoint" for hospital in calibrated}
    # Models of two calibrations do not belong together: the earlier ones end before the first new
    # one begins.
    for place in (*published.values(), output / "reader"):
        (place / HASHES).unlink(missing_ok=True)
    if config.findings:
        # Beside the models, so that diagnosis finds the reader that belongs to them.
        above.save(output / "reader")
        if registry is not None:
            # Before the models that name it.
            registry.keep_reader(above)
    for hospital, model in calibrated.items():
        model.save(published[hospital])
        if registry is not None:
            registry.publish(model, hospital)
    print(_calibration_lines(fitted))
    print(f"calibrated checkpoints: {config.output}")
    return published


def _refuse_others(output: Location, hospitals: Collection[str], *, reads: bool) -> None:
    """Refuses an output where something of an earlier calibration would stay beside the new one.

    Raises:
        ConfigError: other hospitals are there, or a reader although this calibration has none.
    """
    there = [one.name for one in output.iterdir()] if output.is_dir() else []
    others = {name for name in there if (output / name / "checkpoint").is_dir()} - set(hospitals)
    found = [f"a calibration of {name}" for name in sorted(others)]
    if not reads and (output / "reader" / HASHES).is_file():
        found.append("a reader")
    if found:
        raise ConfigError(
            f"{output}: holds {found[0]} from an earlier run, which would stay beside this one; "
            "choose another --output, or remove it"
        )


def _score_block(
    number: int,
    *,
    cohort: Cohort,
    blocks: Sequence[PatientBlock],
    models: Mapping[str, Location],
    findings: str,
    digests: Mapping[str, str],
) -> tuple[int, str]:
    """Scores and truth of a block's patients, as JSON."""
    table = read_block(cohort, blocks[number])
    path = models[cohort.files[blocks[number].file].hospital]
    predictor = predictor_once(path, digests[str(path)])
    assessment = assess(table)
    everything_G = np.arange(len(assessment.types))
    reader = reader_once(findings, digests[findings]) if findings else None
    read = {} if reader is None else read_types(reader, assessment, everything_G)
    read_G = read_log_odds(len(everything_G), read, reads=bool(findings))
    evidence = predictor.evidence(assessment.bags)
    scores = labelled_scores(score_patients(assessment, evidence), read_G, table)
    return len(blocks[number].patients), json.dumps(scores.to_json())


def _calibration_lines(found: Mapping[str, PatientCalibration]) -> str:
    """The calibrations as a text table."""
    lines = [
        f"{'hospital':14}{'healthy':>9}{'carriers':>9}{'threshold':>10}{'specificity':>12}"
        f"{'supported':>11}{'temperature':>12}  fitted on"
    ]
    for hospital, one in found.items():
        lines.append(
            f"{hospital:14}{one.num_normal:>9}{one.num_abnormal:>9}{one.threshold:>10.2f}"
            f"{one.specificity:>12.3f}{one.supported_specificity:>11.3f}"
            f"{one.type_scale.temperature:>12.2f}  {', '.join(one.hospitals)}"
        )
        if not one.supported:
            lines.append(
                f"{'':14}{one.num_normal} healthy referrals cannot support "
                f"{one.specificity:.1%}; the threshold is above all of them"
            )
    return "\n".join(lines)
