"""JSON file of a fitted laboratory and of the people it was fitted to."""

import dataclasses
import math
from dataclasses import dataclass, replace
from typing import Any, Final

from homnet.errors import ConfigError, DataError
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.locations import Location
from homnet.results import read_json, write_json
from homnet.simulator.atlas import BandAppearance, band_lengths
from homnet.simulator.laboratory import Laboratory

_PATTERN: Final = Laboratory()
_ADVICE: Final = "make the file again with jobs/fit_laboratory.py"


@dataclass(frozen=True)
class FittedLaboratory:
    """Content of a laboratory file."""

    laboratory: Laboratory
    """Fitted settings."""
    patients: tuple[str, ...]
    """Digests (:func:`homnet.model.checkpoint.patient_digests`) of the people it was fitted to.
    They must not be used to evaluate it."""


def write_laboratory(path: str | Location, fitted: FittedLaboratory) -> None:
    """Writes a laboratory file atomically, replacing an earlier one.

    Raises:
        DataError: a setting is not finite.
    """
    write_json(path, dataclasses.asdict(fitted))


def read_laboratory(path: str | Location) -> FittedLaboratory:
    """Reads a laboratory file.

    Raises:
        ConfigError: the file is missing or damaged; a field is missing, unknown or mistyped.
    """
    try:
        content = read_json(path)
    except DataError as error:
        raise ConfigError(str(error)) from None
    _require_fields(path, "", content, FittedLaboratory)
    settings = content["laboratory"]
    bands = settings.get("bands") if isinstance(settings, dict) else None
    pattern = _PATTERN if bands is None else replace(_PATTERN, bands=_band_pattern())
    laboratory: Laboratory = _read(path, "laboratory", settings, pattern)
    if laboratory.samples_per_px <= 0:
        raise _error(
            path, "laboratory.samples_per_px", laboratory.samples_per_px, "a number above 0"
        )
    levels = laboratory.band_levels
    if min(levels) < 0 or abs(sum(levels) - 1) > 1e-6:
        raise _error(path, "laboratory.band_levels", levels, "shares that add up to 1")
    for number, row in enumerate(laboratory.bands.stretch if laboratory.bands else ()):
        if min(row) <= 0:
            raise _error(
                path, f"laboratory.bands.stretch[{number}]", min(row), "numbers above 0 only"
            )
    patients = content["patients"]
    if not isinstance(patients, list) or not all(isinstance(one, str) for one in patients):
        raise _error(path, "patients", patients, "a list of digests")
    return FittedLaboratory(laboratory, tuple(patients))


def _band_pattern() -> BandAppearance:
    """Returns an appearance with one number per band of each type."""
    rows = tuple((0.0,) * len(band_lengths(name)) for name in CHROMOSOMES)
    return BandAppearance(rows, rows)


def _read(path: str | Location, where: str, value: Any, pattern: Any) -> Any:
    """Returns a value checked against a pattern: number, None, tuple or dataclass."""
    if pattern is None and value is None:
        return None
    if dataclasses.is_dataclass(pattern) and not isinstance(pattern, type):
        _require_fields(path, f"{where}.", value, type(pattern))
        return type(pattern)(
            **{
                name: _read(path, f"{where}.{name}", value[name], part)
                for name, part in vars(pattern).items()
            }
        )
    if isinstance(pattern, tuple):
        if not isinstance(value, list) or len(value) != len(pattern):
            parts = "lists" if isinstance(pattern[0], tuple) else "numbers"
            raise _error(path, where, value, f"a list of {len(pattern)} {parts}")
        return tuple(
            _read(path, f"{where}[{number}]", *both)
            for number, both in enumerate(zip(value, pattern, strict=True))
        )
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _error(path, where, value, "a finite number")
    return float(value)


def _require_fields(path: str | Location, where: str, content: Any, form: type) -> None:
    names = [field.name for field in dataclasses.fields(form)]
    if not isinstance(content, dict):
        raise _error(path, where.rstrip("."), content, "an object")
    missing = [name for name in names if name not in content]
    if missing:
        raise ConfigError(f"{path}: field '{where}{missing[0]}' is missing; {_ADVICE}")
    unknown = sorted(set(content) - set(names))
    if unknown:
        raise ConfigError(f"{path}: unknown field '{where}{unknown[0]}'; {_ADVICE}")


def _error(path: str | Location, where: str, value: Any, expected: str) -> ConfigError:
    text = repr(value)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return ConfigError(f"{path}: field '{where}' is {shown}, expected {expected}; {_ADVICE}")
