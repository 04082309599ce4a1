"""Inputs of load tests and drills: models of hospitals, patients, request bodies, a key."""

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from homnet.bags.assessment import assess
from homnet.calibration.bags import Calibration
from homnet.cohorts.pairs import MEASURED, pair_table
from homnet.errors import ConfigError
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNet, best_form, paper_form
from homnet.model.predictor import Predictor
from homnet.model.registry import Registry
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
    """Registry of the promoted models to use; by default one random model per hospital, because
    speed does not depend on the weights."""
    form: Literal["best", "paper"] = "best"
    """Form of random models."""
    num_hospitals: int = 4
    """Number of hospitals with random models. Patients alternate between hospitals."""
    num_cells: int = 5
    """Number of cells per patient, and of pairs per type; there are 23 types."""
    num_patients: int = 16
    """Number of patients, requested in turn."""
    seed: int = 0
    """Seed of random weights and of the patients' pairs, which are noise."""

    @property
    def recipe(self) -> str:
        """Name of the models in results of record."""
        return self.registry or f"random {self.form}"

    def __post_init__(self) -> None:
        for name in ("num_hospitals", "num_cells", "num_patients"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Material:
    """Models and patients."""

    checkpoints: dict[str, Checkpoint]
    """The model of each hospital."""
    tables: list[pa.Table]
    """One patient each, columns of :data:`homnet.cohorts.pairs.MEASURED`."""

    @property
    def hospital_of(self) -> list[str]:
        """The hospital of each patient."""
        return [table["hospital"][0].as_py() for table in self.tables]

    def bodies(self, form: Literal["arrow", "json"]) -> list[Question]:
        """One request for each patient."""
        if form == "arrow":
            return [Question(write_stream(table), ARROW_TYPE) for table in self.tables]
        return [Question(_json(table), JSON_TYPE) for table in self.tables]

    def publish(self, work: Path) -> tuple[str, dict[str, Any]]:
        """Writes a registry of the models and a key file for an endpoint.

        Args:
            work: an empty or new directory.

        Returns:
            The key, and endpoint settings with the paths.
        """
        registry = Registry(work / "registry")
        for hospital, checkpoint in self.checkpoints.items():
            registry.promote(hospital, registry.publish(checkpoint, hospital))
        secret, key = new_key("load", self.checkpoints)
        write_keys(work / "keys.json", [replace(key, operator=True)])
        names = {"registry": "registry", "audit": "audit", "keys": "keys.json"}
        return secret, {name: str((work / place).resolve()) for name, place in names.items()}


def make_material(config: MaterialConfig) -> Material:
    """Loads or makes models, and makes patients.

    Raises:
        ConfigError: no model is promoted in the registry.
        RegistryError, CheckpointError: the registry cannot be read.
    """
    checkpoints = _promoted(config.registry) if config.registry else _random(config)
    hospitals = list(checkpoints)
    tables = [
        _patient(config, number, hospitals[number % len(hospitals)])
        for number in range(config.num_patients)
    ]
    return Material(checkpoints, tables)


def logits_of(checkpoint: Checkpoint, table: pa.Table) -> NDArray[np.float64]:
    """The logits that an endpoint must return for a patient, one per assessed type."""
    assessment = assess(table)
    return assessment.of_types(Predictor.of_checkpoint(checkpoint).flat_logits(assessment.bags))


def altered(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """A copy with small random changes to the parameters that fine-tuning trains."""
    model = checkpoint.build()
    _alter(model, seed)
    return replace(checkpoint, weights={k: v.clone() for k, v in model.state_dict().items()})


def _promoted(root: str) -> dict[str, Checkpoint]:
    registry = Registry(root)
    lines = registry.lines()
    if not lines:
        raise ConfigError(f"{root}: no model is promoted in this registry; promote one")
    return {hospital: registry.checkpoint(line[-1]) for hospital, line in sorted(lines.items())}


def _random(config: MaterialConfig) -> dict[str, Checkpoint]:
    """Random models that differ only in the parameters that fine-tuning trains."""
    torch.manual_seed(config.seed)
    form = {"best": best_form, "paper": paper_form}[config.form]()
    weights = HomNet(form).state_dict()
    names = [f"hospital-{number + 1}" for number in range(config.num_hospitals)]
    return {
        name: altered(
            Checkpoint(form, weights, calibration={name: Calibration(0.5)}), config.seed + number
        )
        for number, name in enumerate(names)
    }


def _alter(model: Any, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    model.freeze_for_fine_tuning()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=random))


def _patient(config: MaterialConfig, number: int, hospital: str) -> pa.Table:
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
