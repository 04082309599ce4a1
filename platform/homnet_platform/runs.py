"""A run's directory: whose it is, whom its checkpoint knows, and what is left in it.

A run claims its directory before it works, so that the same command continues what was interrupted
and another one is refused. What a run depends on is compared by settings and digests, never by the
places of one machine: a run and its versions are the same wherever they are made.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from homnet import __version__
from homnet.cohorts.split import TEST, TRAIN, VALIDATION
from homnet.errors import CheckpointError, ConfigError
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.results import read_json, write_json, write_result

_PLACES: Final = frozenset(
    {
        *("checkpoint", "cohort", "diagnosis", "findings", "manifest", "output", "reader", "start"),
        *("record", "registry", "scaling", "tracking"),
    }
)
"""Fields of a config that say where and with what a run works, not what comes of it. What lies at
these places is compared by digest."""


def portable(config: Any) -> dict[str, Any]:
    """A config as JSON gives it back, without places, hardware and records."""
    content = {k: v for k, v in dataclasses.asdict(config).items() if k not in _PLACES}
    kept: dict[str, Any] = json.loads(json.dumps(content))
    return kept


@dataclass(frozen=True)
class Run:
    """A directory that one run works in, and finds again after an interruption."""

    output: Path
    """The directory, absolute: tasks on other nodes work in other folders."""
    claimed: Mapping[str, Any]
    """What the run depends on, JSON-able."""

    @classmethod
    def of(
        cls, output: str | Path, config: Any, *, ignored: Iterable[str] = (), **content: str | None
    ) -> Self:
        """A run of a config.

        Args:
            output: the directory; nothing is made yet.
            config: the settings.
            ignored: fields of the config that may change when the run is continued.
            content: digests of what the run reads, which may not.
        """
        settings = {k: v for k, v in portable(config).items() if k not in set(ignored)}
        return cls.claiming(output, {"settings": settings, **content})

    @classmethod
    def claiming(cls, output: str | Path, claimed: Mapping[str, Any]) -> Self:
        """A run that depends on JSON-able values."""
        return cls(Path(output).absolute(), json.loads(json.dumps(claimed)))

    @property
    def checkpoint(self) -> Path:
        """Where the run's checkpoint is when the run is finished."""
        return self.output / "checkpoint"

    @property
    def finished(self) -> bool:
        """Whether this very run is finished."""
        return self.checkpoint.exists() and self._kept() == self.claimed

    def claim(self) -> None:
        """Makes the directory, or recognises it as one that this run was interrupted in.

        Raises:
            ConfigError: the run is finished, or another one is there.
        """
        if self.checkpoint.exists():
            raise ConfigError(
                f"{self.output}: this run is finished; choose another --output, or remove it"
            )
        if self._kept() not in (None, self.claimed):
            raise ConfigError(
                f"{self.output}: an interrupted run with other settings or another cohort is here; "
                "choose another --output, or give the same ones to continue it"
            )
        write_json(self.output / "config.json", self.claimed)

    def publish(self, checkpoint: Checkpoint) -> Path:
        """Writes the final checkpoint and its history, and gives the checkpoint's place."""
        path = checkpoint.save(self.checkpoint)
        write_json(self.output / "history.json", {"history": checkpoint.metrics["history"]})
        print(f"checkpoint: {path} (version {checkpoint.version[:12]})")
        return path

    def record(self, claim: str, figures: Mapping[str, Any], *, recipe: str, seed: int) -> None:
        """Writes ``run.json``: what the run took."""
        write_result(
            self.output / "run.json", claim=claim, figures=figures, recipe=recipe, seed=seed
        )

    def _kept(self) -> dict[str, Any] | None:
        file = self.output / "config.json"
        return read_json(file) if file.is_file() else None


def provenance(
    fingerprint: str,
    hospitals: Sequence[str],
    config: Any,
    split: Mapping[str, frozenset[str]],
    parent: Checkpoint | None = None,
) -> dict[str, Any]:
    """What a checkpoint says of its origin: enough for evaluation to refuse whom it knows.

    Args:
        fingerprint: of the cohort.
        hospitals: whose people it learns from.
        config: of the job.
        split: its people; whom the parent knew are added.
        parent: checkpoint it starts from.
    """
    known = {} if parent is None else parent.provenance
    return {
        "cohort": fingerprint,
        "hospitals": list(hospitals),
        "config": portable(config),
        "package": __version__,
        "parent": None if parent is None else parent.version,
        **{
            use: sorted({*known.get(use, ()), *patient_digests(split[part])})
            for use, part in (("learnt_from", TRAIN), ("validated_on", VALIDATION))
        },
    }


def refuse_known(
    by: object, provenance: Mapping[str, Any], patients: Iterable[str], *uses: str
) -> None:
    """Refuses patients whom a checkpoint knows, whatever split a config asks for.

    Args:
        by: the checkpoint, as errors name it.
        provenance: what it says of its origin.
        patients: who are to be scored.
        uses: of ``"learnt_from"``, ``"validated_on"`` and ``"calibrated_on"``.

    Raises:
        CheckpointError: the checkpoint does not say whom it knows.
        ConfigError: it was used on some of them.
    """
    everybody = sorted(patients)
    digests = [patient_digests([patient])[0] for patient in everybody]
    for use in uses:
        if use not in provenance:
            raise CheckpointError(f"{by}: does not say whom it was {use}; train it again")
        used = set(provenance[use])
        known = [name for name, digest in zip(everybody, digests, strict=True) if digest in used]
        if known:
            raise ConfigError(
                f"{len(known)} of the patients to be scored, {known[0]} among them, were "
                f"{use.replace('_', ' ')} by {by}; give the --split of its run, and score the "
                "patients whom it holds out"
            )


def refuse_split(
    split: Mapping[str, frozenset[str]], origins: Mapping[Path, Mapping[str, Any]]
) -> None:
    """Nobody who was learnt from is scored, nobody who chose the model is tested.

    Args:
        split: patients of validation and test.
        origins: provenance of each checkpoint, by its path.

    Raises:
        CheckpointError, ConfigError: see :func:`refuse_known`.
    """
    for path, origin in origins.items():
        refuse_known(path, origin, split[VALIDATION] | split[TEST], "learnt_from")
        refuse_known(path, origin, split[TEST], "validated_on")


def models_of(
    root: str | Path, hospitals: Sequence[str], required: Sequence[str] = ()
) -> dict[str, Path]:
    """The checkpoint that scores each hospital; absolute paths.

    Args:
        root: a checkpoint, or a directory with ``<hospital>/checkpoint`` for each hospital.
        hospitals: those of the cohort; the ones without a model are left out.
        required: hospitals that must have one.

    Raises:
        CheckpointError: a required hospital has none, or nobody has.
    """
    root = Path(root).absolute()
    if (root / "sha256.json").is_file():
        return dict.fromkeys(hospitals, root)
    own = {hospital: root / hospital / "checkpoint" for hospital in hospitals}
    found = {hospital: path for hospital, path in own.items() if path.is_dir()}
    missing = sorted(set(required) - set(found))
    if missing or not found:
        raise CheckpointError(
            f"{root}: neither a checkpoint nor the output of fine-tuning for "
            f"{', '.join(missing or hospitals)}; train first, or choose --checkpoint"
        )
    return found
