"""Inputs of load tests and drills: models and readers, patients, request bodies, a key."""

import base64
import itertools
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from homnet.bags.assessment import assess
from homnet.calibration.likelihood_ratios import Scale
from homnet.calibration.patients import (
    ALL_HOSPITALS,
    NO_READER_USED,
    READ_SHARE,
    PatientCalibration,
    combine,
)
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import MEASURED, pair_table
from homnet.errors import ConfigError
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, best_form, paper_form
from homnet.model.predictor import Predictor
from homnet.model.registry import Registry
from homnet.model.search import FAMILIES
from homnet.patients.diagnostician import Diagnostician, diagnose
from homnet.patients.finding import FindingReader
from homnet.patients.scores import score_patients
from homnet.reader.network import Reader, ReaderConfig
from homnet.reader.reading import CalibratedReader
from homnet_serve.arrow_stream import write_stream
from homnet_serve.bodies import ARROW_TYPE, JSON_TYPE
from homnet_serve.keys import new_key, write_keys
from homnet_serve.records.generator import Question

NUM_TYPES: Final = 23
"""Number of chromosome types of a patient without Y."""


@dataclass(frozen=True)
class MaterialConfig:
    """Models to load or make, and the size of a patient."""

    registry: str = ""
    """Registry of the promoted models to use, with their readers; by default one random model per
    hospital, calibrated so that about a fifth of the types are read and a fifth of the patients
    are called abnormal."""
    form: Literal["best", "paper"] = "best"
    """Form of random models."""
    findings: bool = True
    """Whether random models get a random reader, too; only those of the best form can."""
    cohort: str = ""
    """Cohort with patients of the models' hospitals; by default the patients are noise."""
    num_hospitals: int = 4
    """Number of hospitals with random models. Patients alternate between hospitals."""
    num_cells: int = 5
    """Number of cells per patient of noise, and of pairs per type; there are 23 types."""
    num_patients: int = 16
    """Number of patients, requested in turn; at most those of the cohort."""
    seed: int = 0
    """Seed of random weights and of noise."""

    @property
    def recipe(self) -> str:
        """Name of the models in results of record."""
        return self.registry or f"random {self.form}"

    def __post_init__(self) -> None:
        for name in ("num_hospitals", "num_cells", "num_patients"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.findings and self.form == "paper" and not self.registry:
            raise ConfigError("models of the paper's form have no reader; set findings to false")


@dataclass(frozen=True)
class Material:
    """Models, readers and patients."""

    checkpoints: dict[str, Checkpoint]
    """The model of each hospital."""
    readers: dict[str, Checkpoint]
    """The readers that the models' calibrations name, by version."""
    tables: list[pa.Table]
    """One patient each, columns of :data:`homnet.cohorts.pairs.MEASURED`."""

    @property
    def hospital_of(self) -> list[str]:
        """The hospital of each patient."""
        return [table["hospital"][0].as_py() for table in self.tables]

    def reader_of(self, checkpoint: Checkpoint) -> CalibratedReader | None:
        """The reader that a model's calibrations name, built once; None if they name none."""
        named = _named_readers(checkpoint)
        return self._built_readers[named.pop()] if named else None

    @cached_property
    def _built_readers(self) -> dict[str, CalibratedReader]:
        return {
            version: CalibratedReader.of_checkpoint(one) for version, one in self.readers.items()
        }

    def bodies(self, form: Literal["arrow", "json"]) -> list[Question]:
        """One request for each patient."""
        if form == "arrow":
            return [Question(write_stream(table), ARROW_TYPE) for table in self.tables]
        return [Question(_json(table), JSON_TYPE) for table in self.tables]

    def publish(self, work: Path) -> tuple[str, dict[str, Any]]:
        """Writes a registry of the models and their readers, and a key file for an endpoint.

        Args:
            work: an empty or new directory.

        Returns:
            The key, and endpoint settings with the paths.
        """
        registry = Registry(work / "registry")
        for reader in self.readers.values():
            registry.keep_reader(reader)
        for hospital, checkpoint in self.checkpoints.items():
            registry.promote(hospital, registry.publish(checkpoint, hospital))
        secret, key = new_key("load", self.checkpoints)
        write_keys(work / "keys.json", [key])
        names = {"registry": "registry", "audit": "audit", "keys": "keys.json"}
        return secret, {name: str((work / place).resolve()) for name, place in names.items()}


def make_material(config: MaterialConfig) -> Material:
    """Loads or makes models and patients.

    Raises:
        ConfigError: no model is promoted in the registry.
        RegistryError, CheckpointError: the registry cannot be read.
        CohortError: the cohort cannot be read, or has no patients of a model's hospital.
    """
    if config.registry:
        checkpoints, readers = _promoted(config.registry)
        tables = _patients(config, list(checkpoints))
        # A model that nobody asks would never be seen to take over.
        asked = {table["hospital"][0].as_py() for table in tables}
        return Material({h: c for h, c in checkpoints.items() if h in asked}, readers, tables)
    hospitals = [f"hospital-{number + 1}" for number in range(config.num_hospitals)]
    tables = _patients(config, hospitals)
    return Material(*_random(config, hospitals, pa.concat_tables(tables)), tables)


def judge_of(checkpoint: Checkpoint, reader: FindingReader | None) -> Diagnostician:
    """The judge of a model and the reader that makes the findings, if there is one."""
    return Diagnostician(checkpoint, reader=NO_READER_USED if reader is None else reader.version)


def verdict_of(
    checkpoint: Checkpoint, reader: FindingReader | None, table: pa.Table
) -> dict[str, Any]:
    """JSON of the verdict of batch evaluation on one patient, which an endpoint must return."""
    predictor = Predictor.of_checkpoint(checkpoint)
    (verdict,) = diagnose(judge_of(checkpoint, reader), predictor, table, reader)
    return verdict.to_json()


def altered(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """A copy with small random changes to the parameters that fine-tuning trains."""
    model = checkpoint.build()
    _alter(model, seed)
    return replace(checkpoint, weights={k: v.clone() for k, v in model.state_dict().items()})


def _promoted(root: str) -> tuple[dict[str, Checkpoint], dict[str, Checkpoint]]:
    """The promoted model of each hospital, and their readers by version."""
    registry = Registry(root)
    lines = registry.lines()
    if not lines:
        raise ConfigError(f"{root}: no model is promoted in this registry; promote one")
    models = {hospital: registry.checkpoint(line[-1]) for hospital, line in sorted(lines.items())}
    versions = sorted(set().union(*map(_named_readers, models.values())))
    return models, {one: registry.reader(one, ReaderConfig.of_json) for one in versions}


def _named_readers(checkpoint: Checkpoint) -> set[str]:
    """Versions of the readers that a model's calibrations name; a usable model has at most one."""
    return {one.reader for one in checkpoint.patients.values()} - {NO_READER_USED}


def _random(
    config: MaterialConfig, hospitals: list[str], patients: pa.Table
) -> tuple[dict[str, Checkpoint], dict[str, Checkpoint]]:
    """Random models that differ only in what fine-tuning trains, and their reader by version."""
    torch.manual_seed(config.seed)
    form = {"best": best_form, "paper": paper_form}[config.form]()
    random = HomNet(form)
    if random.search is not None:
        # As in a model that was trained, the search counts.
        random.search.weigh(torch.ones(len(FAMILIES)))
    weights = random.state_dict()
    readers: dict[str, Checkpoint] = {}
    if config.findings:
        reader_form = ReaderConfig(model=form)
        reader: Reader = reader_form.build()
        reader.take_homnet(weights)
        metrics = {"calibration": {"kind": 1.0, "segment": 1.0, "cell": 1.0}}
        checkpoint = Checkpoint(reader_form, reader.state_dict(), metrics=metrics)
        readers[checkpoint.version] = checkpoint
    version = next(iter(readers), NO_READER_USED)
    models: dict[str, Checkpoint] = {}
    for number, name in enumerate(hospitals):
        model = altered(Checkpoint(form, weights), config.seed + number)
        calibration = _calibration(model, version, patients)
        models[name] = replace(model, patients={ALL_HOSPITALS: calibration})
    return models, readers


def _calibration(model: Checkpoint, reader: str, patients: pa.Table) -> PatientCalibration:
    """A calibration that leaves scores as they are.

    Of these patients' types, :data:`READ_SHARE` are read; the same share of the patients is called
    abnormal.
    """
    assessment = assess(patients)
    evidence = Predictor.of_checkpoint(model).evidence(assessment.bags)
    logit_G = score_patients(assessment, evidence).logit_G
    read_from = None if reader == NO_READER_USED else _exceeded_by(logit_G, READ_SHARE)
    names = [(who.hospital, who.patient_id) for who in assessment.types]
    number = {name: j for j, name in enumerate(dict.fromkeys(names))}
    unread = -np.inf if read_from is None else read_from
    score_J = combine(
        np.maximum(logit_G, unread), np.array([number[name] for name in names]), len(number)
    )
    return PatientCalibration(
        hospitals=tuple(sorted({hospital for hospital, _ in names})),
        num_normal=120,
        num_abnormal=30,
        type_scale=Scale(),
        type_offsets=(0.0,) * len(CHROMOSOMES),
        cell_scale=Scale(),
        patient_scale=Scale(),
        threshold=_exceeded_by(score_J, READ_SHARE),
        specificity=0.99,
        types_per_patient=1.0,
        min_cells=1,
        reader=reader,
        read_from=read_from,
        unread_evidence=0.0 if read_from is None else read_from,
    )


def _exceeded_by(values: NDArray[np.float64], share: float) -> float:
    """A number exceeded by a share of the values, half-way between two: rounding changes none."""
    ordered = np.sort([*values, values.max() + 1])
    below = round((1 - share) * len(values))
    return float(ordered[max(below, 1) - 1 : below + 1].mean())


def _alter(model: Any, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    model.freeze_for_fine_tuning()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=random))


def _patients(config: MaterialConfig, hospitals: list[str]) -> list[pa.Table]:
    """One table per patient; hospitals alternate as long as they have patients."""
    if not config.cohort:
        return [
            _noise(config, number, hospitals[number % len(hospitals)])
            for number in range(config.num_patients)
        ]
    whole = Cohort.open(config.cohort)
    # A registry may also have models of hospitals that this cohort lacks.
    hospitals = [name for name in hospitals if name in whole.hospitals] or hospitals
    cohort = whole.of_hospitals(hospitals)
    rounds = itertools.zip_longest(*(cohort.patients[name] for name in hospitals))
    names = [name for one in rounds for name in one if name is not None][: config.num_patients]
    files = [file for file in cohort.files if not set(names).isdisjoint(file.patients)]
    table = pa.concat_tables([cohort.read(file, MEASURED.names) for file in files]).cast(MEASURED)
    return [table.filter(pc.equal(table["patient_id"], name)).combine_chunks() for name in names]


def _noise(config: MaterialConfig, number: int, hospital: str) -> pa.Table:
    """All pairs of one patient: noise inside chromosomes of plausible lengths."""
    rng = np.random.default_rng([config.seed, number])
    keys = [(t, c) for t in range(NUM_TYPES) for c in range(config.num_cells)]
    pair = rng.integers(1, 256, (len(keys), 2, 2, 512), np.uint8)
    for row, (kind, _) in enumerate(keys):
        pair[row, ..., 340 - 10 * kind :] = 0
    return pair_table(
        hospital=[hospital] * len(keys),
        patient_id=[f"patient-{number}"] * len(keys),
        cell_id=[f"cell-{c}" for _, c in keys],
        chromosome=[CHROMOSOMES[t] for t, _ in keys],
        band_level=[550] * len(keys),
        pair=pair,
        abnormal=[False] * len(keys),
    ).select(MEASURED.names)


def _json(table: pa.Table) -> bytes:
    rows = table.to_pylist()
    pairs = [
        {
            **{name: row[name] for name in ("cell_id", "chromosome", "band_level")},
            "pair": base64.b64encode(row["pair"]).decode(),
        }
        for row in rows
    ]
    who = {name: rows[0][name] for name in ("hospital", "patient_id")}
    return json.dumps({"patients": [{**who, "pairs": pairs}]}).encode()
