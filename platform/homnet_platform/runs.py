"""A run's directory, and the provenance of its checkpoint.

A run claims its directory before it starts, so the same command resumes interrupted work and any
other is refused. Runs are compared by settings and digests, never by paths, so they have the same
versions on every machine.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from homnet import PROGRAM, __version__
from homnet.cohorts.split import TEST, TRAIN, VALIDATION
from homnet.errors import CheckpointError, ConfigError
from homnet.files import is_published, replacing_directory
from homnet.locations import Location, RemotePath, to_location
from homnet.model.checkpoint import HASHES, Checkpoint, patient_digests
from homnet.model.contract import settings_of
from homnet.model.shipped import place_of
from homnet.results import read_json, write_json, write_result

_PLACES: Final = frozenset(
    {
        *("checkpoint", "cohort", "diagnosis", "findings", "manifest", "output", "reader", "start"),
        *("karyogram", "karyograms", "record", "registry", "scaling", "tracking"),
        *("cpus", "cpus_per_trial", "gpus_per_trial", "max_concurrent", "use_gpu"),
        "workers_per_pretraining",
    }
)
"""Config fields for paths and hardware, which do not affect the result. The content of these paths
is compared by digest."""


def portable(config: Any) -> dict[str, Any]:
    """A config after a JSON round trip, without paths, hardware and records."""
    content = {k: v for k, v in settings_of(config).items() if k not in _PLACES}
    kept: dict[str, Any] = json.loads(json.dumps(content))
    return kept


@dataclass(frozen=True)
class Run:
    """The directory of one run, which the run can resume."""

    output: Location
    """The directory, absolute because tasks have other working directories, or its URI."""
    claimed: Mapping[str, Any]
    """Everything the run depends on, JSON-serialisable."""

    @classmethod
    def of(cls, output: str | Location, config: Any, **content: str | None) -> Self:
        """Makes a run from a config.

        Args:
            output: the directory; not created yet.
            config: the settings.
            content: digests of the run's inputs, which may not change.
        """
        return cls.claiming(output, {"settings": portable(config), **content})

    @classmethod
    def claiming(cls, output: str | Location, claimed: Mapping[str, Any]) -> Self:
        """Makes a run from JSON-serialisable values that it depends on, beside the program."""
        claimed = {"program": PROGRAM, **claimed}
        return cls(to_location(output).absolute(), json.loads(json.dumps(claimed)))

    @property
    def checkpoint(self) -> Location:
        """Location of the final checkpoint."""
        return self.output / "checkpoint"

    @property
    def finished(self) -> bool:
        """Whether this run, with these settings, is finished, by whichever program."""
        return is_published(self.checkpoint) and self._is_of_these_settings(self._kept())

    def claim(self) -> None:
        """Creates the directory, or resumes this run in it.

        Raises:
            ConfigError: the run is finished, or the directory belongs to another run.
        """
        if is_published(self.checkpoint):
            raise ConfigError(
                f"{self.output}: this run is finished; choose another --output, or remove it"
            )
        kept = self._kept()
        if kept is not None and not self._is_of_these_settings(kept):
            raise ConfigError(
                f"{self.output}: an interrupted run with other settings or another cohort is here; "
                "choose another --output, or give its settings to go on"
            )
        if kept not in (None, self.claimed):
            raise ConfigError(
                f"{self.output}: a run of another version of this program is here; choose another "
                "--output, or go on with that version"
            )
        write_json(self.output / "config.json", self.claimed)

    def publish(self, checkpoint: Checkpoint) -> Location:
        """Writes the final checkpoint and its history, and returns the checkpoint's path.

        Raises:
            CheckpointError: the directory cannot be written, or a value is not finite.
            DataError: another run with this output was faster.
        """
        path = self.checkpoint
        try:
            with replacing_directory(path, last=HASHES, new=True) as made:
                checkpoint.save(made)
        except OSError as error:
            raise CheckpointError(
                f"{path}: cannot write the checkpoint ({error}); free space or choose another place"
            ) from None
        write_json(self.output / "history.json", {"history": checkpoint.metrics["history"]})
        print(f"checkpoint: {path} (version {checkpoint.version[:12]})")
        return path

    def record(self, claim: str, figures: Mapping[str, Any], *, recipe: str, seed: int) -> None:
        """Writes the costs of the run to ``run.json``."""
        write_result(
            self.output / "run.json", claim=claim, figures=figures, recipe=recipe, seed=seed
        )

    def _is_of_these_settings(self, kept: Mapping[str, Any] | None) -> bool:
        return {**(kept or {}), "program": PROGRAM} == self.claimed

    def _kept(self) -> dict[str, Any] | None:
        file = self.output / "config.json"
        return read_json(file) if file.is_file() else None


def ray_storage(location: Location) -> dict[str, Any]:
    """Arguments of Ray's ``RunConfig`` for a location: its path and, at a URI, its file system."""
    if isinstance(location, RemotePath):
        return {"storage_path": location.key, "storage_filesystem": location.system}
    return {"storage_path": str(location)}


def provenance(
    fingerprint: str,
    scale: Mapping[str, float],
    config: Any,
    split: Mapping[str, frozenset[str]],
    parent: Checkpoint | None = None,
) -> dict[str, Any]:
    """Provenance of a checkpoint, so that evaluation can refuse its training people.

    Args:
        fingerprint: of the cohort.
        scale: samples per image pixel of the hospitals it is trained on.
        config: of the job.
        split: its people; those of the parent are added.
        parent: checkpoint it starts from.

    Raises:
        CheckpointError: the parent has learnt from sequences of another scale.
    """
    if parent is not None:
        parent.require_scale(scale)
    known = {} if parent is None else parent.provenance
    return {
        "cohort": fingerprint,
        "hospitals": list(scale),
        "samples_per_px": {**known.get("samples_per_px", {}), **scale},
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
    """Refuses patients that a checkpoint has used, whatever the split of a config.

    Args:
        by: name of the checkpoint in errors.
        provenance: of the checkpoint.
        patients: patients to be scored.
        uses: any of ``"learnt_from"``, ``"validated_on"`` and ``"calibrated_on"``.

    Raises:
        CheckpointError: the provenance does not list the patients of a use.
        ConfigError: the checkpoint has used some of the patients.
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
                f"{use.replace('_', ' ')} by {by}; give the --split of its run, and score its "
                "held-out patients"
            )


def refuse_split(
    split: Mapping[str, frozenset[str]], origins: Mapping[Location, Mapping[str, Any]]
) -> None:
    """Refuses scoring of training patients, and testing on validation patients.

    ``origins`` is the provenance of each checkpoint, by path.

    Raises:
        CheckpointError, ConfigError: see :func:`refuse_known`.
    """
    for path, origin in origins.items():
        refuse_known(path, origin, split[VALIDATION] | split[TEST], "learnt_from")
        refuse_known(path, origin, split[TEST], "validated_on")


def models_of(
    root: str | Location, scale: Mapping[str, float], required: Sequence[str] = ()
) -> dict[str, Location]:
    """Like :func:`paths_of_models`, for the hospitals of a cohort, whose scale is compared.

    Raises:
        CheckpointError: a required hospital, or every hospital, has no model, or a model has
            another scale than its hospital.
    """
    found = paths_of_models(root, list(scale), required)
    for hospital in sorted(found.keys() & scale.keys()):
        path = found[hospital]
        Checkpoint.load(path).require_scale({hospital: scale[hospital]}, str(path))
    return found


def paths_of_models(
    root: str | Location, hospitals: Sequence[str], required: Sequence[str] = ()
) -> dict[str, Location]:
    """Absolute location of the checkpoint of each hospital.

    Args:
        root: a checkpoint, a directory with ``<hospital>/checkpoint`` for each hospital, or the
            word ``shipped``.
        hospitals: those without a model are left out.
        required: the hospitals to score, which must have a model; all if empty.

    Raises:
        CheckpointError: a required hospital, or every hospital, has no model.
    """
    hospitals = list(required or hospitals)
    root = place_of(root)
    found = {hospital: root / hospital / "checkpoint" for hospital in hospitals}
    if (root / HASHES).is_file():
        found = dict.fromkeys(hospitals, root)
    found = {hospital: path for hospital, path in found.items() if path.is_dir()}
    missing = sorted(set(required) - set(found))
    if missing or not found:
        raise CheckpointError(
            f"{root}: neither a checkpoint nor the output of fine-tuning for "
            f"{', '.join(missing or hospitals)}; train first, or choose --checkpoint"
        )
    return found
