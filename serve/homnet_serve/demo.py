"""Prepares an endpoint on this machine: the shipped model for every hospital, a key, an example."""

import shlex
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
from homnet_serve.keys import add_key

GENERIC: Final = "generic"
"""Hospital for laboratories without a calibration of their own: that of all hospitals is used."""


def prepare(work: Path) -> tuple[str, dict[str, str], Path]:
    """Makes a registry with the shipped model, a key for its hospitals, and an example.

    A hospital with a promoted model keeps it, also if it is the shipped model of an earlier
    version: the registry does not say who promoted it. If it is another model than the shipped one,
    this is printed, with the commands that change it. Other keys stay in the key file.

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
    in_use = {hospital: registry.promoted(hospital) for hospital in hospitals}
    for hospital in (name for name, entry in in_use.items() if entry is None):
        version = registry.publish(checkpoint, hospital)
        if registry.reference_bags(version) is None:
            with pa.ipc.open_stream(EXAMPLE) as stream:
                bags = reference_bags(Predictor.of_checkpoint(checkpoint), stream.read_all())
            registry.keep_reference_bags(version, bags)
        registry.promote(hospital, version)
    for hospital, entry in in_use.items():
        if entry is not None and entry.version != checkpoint.digest:
            print(_other_model(registry, hospital, entry.version, checkpoint.digest))
    permitted = sorted({*hospitals, *registry.lines()})
    secret = add_key(work / "keys.json", "demo", permitted, renew=True)
    example = work / EXAMPLE.name
    shutil.copyfile(EXAMPLE, example)
    names = {"registry": "registry", "keys": "keys.json", "audit": "audit"}
    return secret, {name: str((work / file).resolve()) for name, file in names.items()}, example


def _other_model(registry: Registry, hospital: str, version: str, shipped: str) -> str:
    """What to print of a hospital for which another model than the shipped one answers."""
    where = f"--registry {shlex.quote(registry.root)} --hospital {shlex.quote(hospital)}"
    return (
        f"{hospital}: the model {version[:12]} answers, which was promoted earlier, not the "
        f"shipped {shipped[:12]}; to change that:\n"
        f"  python jobs/registry.py publish {where} --checkpoint {SHIPPED}\n"
        f"  python jobs/registry.py promote {where} --version {shipped[:12]}"
    )
