"""Says and decides which model answers for each hospital.

python jobs/registry.py list --registry registry
python jobs/registry.py publish --registry registry --hospital h1 --checkpoint runs/h1/checkpoint
python jobs/registry.py promote --registry registry --hospital h1 --version 3fa9
python jobs/registry.py roll-back --registry registry --hospital h1
python jobs/registry.py retire --registry registry --hospital h1 --version 3fa9
"""

from dataclasses import dataclass
from typing import Final, Literal

import tyro

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.pairs import MEASURED
from homnet.errors import ConfigError, RegistryError
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import reference_bags
from homnet.model.registry import Registry
from homnet.model.shipped import place_of, reader_beside
from homnet.reader.network import ReaderConfig
from homnet_baselines.methods import read_form
from homnet_platform.job import run_job

_OPTIONS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "list": ((), ("hospital",)),
    "publish": (("hospital", "checkpoint"), ("reference",)),
    "promote": (("hospital", "version"), ()),
    "roll-back": (("hospital",), ()),
    "retire": (("hospital", "version"), ()),
}
"""Options that each action needs, and those that it takes."""


@dataclass(frozen=True)
class RegistryConfig:
    """What to do with which registry."""

    action: tyro.conf.Positional[Literal["list", "publish", "promote", "roll-back", "retire"]]
    """What to do."""
    registry: str = "registry"
    """Directory or URI of the registry."""
    hospital: str = ""
    """Whose models; all for list."""
    version: str = ""
    """Model to promote or retire: its version, or as many leading letters as are unique."""
    checkpoint: str = ""
    """Checkpoint to publish, or "shipped"; a reader that was stored with it comes along."""
    reference: str = ""
    """Cohort whose first patient's pairs are kept with a published model as reference bags. An
    endpoint scores them again before the model answers. They are kept as they are: prefer a
    simulated cohort."""

    def __post_init__(self) -> None:
        needed, allowed = _OPTIONS[self.action]
        for name in ("hospital", "version", "checkpoint", "reference"):
            given = getattr(self, name)
            if name in needed and not given:
                raise ConfigError(f"{self.action} needs --{name}")
            if given and name not in (*needed, *allowed):
                raise ConfigError(f"{self.action} has no use for --{name}; remove it")


def main(config: RegistryConfig) -> None:
    """Does it, and prints what the registry then holds.

    Raises:
        RegistryError: it cannot be done, or afterwards a decision is damaged; says which.
    """
    registry = Registry(config.registry, read_form)
    match config.action:
        case "publish":
            _publish(registry, config)
        case "promote":
            registry.promote(config.hospital, config.version)
        case "roll-back":
            registry.roll_back(config.hospital)
        case "retire":
            registry.retire(config.hospital, config.version)
        case "list":
            pass
    standing = registry.standing()
    asked = config.hospital
    for entry in standing.entries:
        if asked in ("", entry.hospital):
            print(f"{entry.hospital}  {entry.version[:12]}  {entry.status:9}  {entry.published}")
    damage = [
        f"{hospital or 'unknown hospital'}: {reason}"
        for hospital, own in sorted(standing.problems.items())
        for reason in own.values()
        if asked in ("", hospital)
    ]
    if damage:
        raise RegistryError(f"{config.registry}: {'; '.join(damage)}")


def _publish(registry: Registry, config: RegistryConfig) -> None:
    # Comparators can be published too: an endpoint may have them as shadows.
    checkpoint = Checkpoint.load(place_of(config.checkpoint), read_form)
    reader = reader_beside(config.checkpoint)
    reference = None
    if config.reference:
        cohort = Cohort.open(config.reference)
        pairs = cohort.read(cohort.files[0], MEASURED.names)
        reference = reference_bags(Predictor.of_checkpoint(checkpoint), pairs)
    if reference is not None:
        # A promotion holds the digest of the bags, which all hospitals with the model share.
        broken = registry.hospitals_with_other_bags(checkpoint.digest, reference)
        if others := [name for name in broken if name != config.hospital]:
            raise RegistryError(
                f"{config.registry}: {', '.join(others)} promoted this model with other "
                "reference bags and could not load it with these; publish without --reference, "
                "which keeps the bags, or retire it there first, after promoting another"
            )
        if broken:
            print(
                f"{config.hospital} promoted this model with other reference bags: promote it "
                "again, or its endpoint does not load it"
            )
    if reader is not None:
        registry.keep_reader(Checkpoint.load(reader, ReaderConfig.of_json))
    if reference is not None:
        # Before the decision: an endpoint looks for them as soon as it sees the candidate.
        registry.keep_reference_bags(checkpoint.digest, reference)
    registry.publish(checkpoint, config.hospital)


if __name__ == "__main__":
    run_job(RegistryConfig, main, description=__doc__)
