"""Prepares an endpoint on this machine: the shipped model for every hospital, a key, an example."""

import shutil
from pathlib import Path
from typing import Final

import pyarrow as pa

from homnet.calibration.patients import ALL_HOSPITALS
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import reference_bags
from homnet.model.registry import Registry
from homnet.model.shipped import EXAMPLE, SHIPPED, place_of, reader_beside
from homnet.reader.network import ReaderConfig
from homnet_serve.keys import new_key, write_keys

GENERIC: Final = "generic"
"""Hospital for laboratories without a calibration of their own: that of all hospitals is used."""


def prepare(work: Path) -> tuple[str, dict[str, str], Path]:
    """Makes a registry with the shipped model, a key for its hospitals, and an example.

    A hospital whose model was promoted by somebody keeps that model.

    Args:
        work: directory of the endpoint.

    Returns:
        The secret of a new key, the settings of the endpoint that name its files, and an Arrow
        stream with the pairs of a simulated patient with an abnormality.
    """
    checkpoint = Checkpoint.load(place_of(SHIPPED))
    hospitals = [*sorted(set(checkpoint.patients) - {ALL_HOSPITALS}), GENERIC]
    registry = Registry(work / "registry")
    reader = reader_beside(SHIPPED)
    if reader is not None:
        registry.keep_reader(Checkpoint.load(reader, ReaderConfig.of_json))
    free = [hospital for hospital in hospitals if registry.promoted(hospital) is None]
    for hospital in free:
        version = registry.publish(checkpoint, hospital)
        if registry.reference_bags(version) is None:
            with pa.ipc.open_stream(EXAMPLE) as stream:
                bags = reference_bags(Predictor.of_checkpoint(checkpoint), stream.read_all())
            registry.keep_reference_bags(version, bags)
        registry.promote(hospital, version)
    secret, key = new_key("demo", sorted({*hospitals, *registry.lines()}))
    write_keys(work / "keys.json", [key])
    example = work / EXAMPLE.name
    shutil.copyfile(EXAMPLE, example)
    names = {"registry": "registry", "keys": "keys.json", "audit": "audit"}
    return secret, {name: str((work / file).resolve()) for name, file in names.items()}, example
