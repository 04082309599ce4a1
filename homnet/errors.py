"""Errors that a user can cause. Each message says what was found, where, and what to do."""

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints


class HomNetError(Exception):
    """Base of every error that a user of the platform can cause."""


class CohortError(HomNetError):
    """A cohort on disk does not follow the format; the message names file, row and column."""


class ManifestError(HomNetError):
    """An image manifest is wrong; the message names file and row."""


class ManifestTooLargeError(ManifestError):
    """An image manifest has more rows than are allowed."""


class CheckpointError(HomNetError):
    """A checkpoint is incomplete, altered or not of this format."""


class ConfigError(HomNetError):
    """Settings are invalid, contradict each other or do not work on this machine."""


class DataError(HomNetError):
    """The data are invalid or insufficient, for example a split without patients."""


class DivergedError(DataError):
    """A training run produced values that are not finite; its learning rate was too high."""


class RegistryError(HomNetError):
    """The registry has no such model or does not allow the request."""


class StoreError(HomNetError, OSError):
    """An object store does not answer or gives no access; caught wherever a disk's error is."""


def check_choices(config: Any) -> None:
    """Checks the fields of a config that have a list of choices; others are not looked at.

    Args:
        config: an instance of a dataclass.

    Raises:
        ConfigError: a field has a value that is no choice.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, choices = getattr(config, field.name), get_args(hints[field.name])
        if get_origin(hints[field.name]) is Literal and value not in choices:
            raise ConfigError(
                f"{field.name} is {value!r}; give {' or '.join(repr(one) for one in choices)}"
            )


def first_line(error: BaseException) -> str:
    """First line of the message of an error, or its kind if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
