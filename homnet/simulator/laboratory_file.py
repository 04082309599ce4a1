"""Laboratories at rest: a JSON file of a fitted laboratory and of the people it was fitted to."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from homnet.errors import ConfigError, DataError
from homnet.karyotype.bands import band_table
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.results import read_json, write_json
from homnet.simulator.atlas import APPEARANCE_LEVEL, BandAppearance
from homnet.simulator.laboratory import Laboratory

_DEFAULT: Final = Laboratory()
_ADVICE: Final = "make the file again with jobs/fit_laboratory.py"


@dataclass(frozen=True)
class FittedLaboratory:
    """What a laboratory file holds."""

    laboratory: Laboratory
    """The settings."""
    patients: tuple[str, ...]
    """Digests (:func:`homnet.model.checkpoint.patient_digests`) of the people it was fitted to, who
    must not judge it."""


def write_laboratory(path: str | Path, fitted: FittedLaboratory) -> None:
    """Writes a laboratory file, replacing an earlier one; it appears whole or not at all.

    Raises:
        DataError: a setting is not finite.
    """
    write_json(path, dataclasses.asdict(fitted))


def read_laboratory(path: str | Path) -> FittedLaboratory:
    """Reads a laboratory file.

    Raises:
        ConfigError: it is missing or damaged, or a field is missing, unknown or of another kind.
    """
    try:
        content = read_json(path)
    except DataError as error:
        raise ConfigError(str(error)) from None
    names = [field.name for field in dataclasses.fields(FittedLaboratory)]
    _require_fields(path, "", content, names)
    settings = content["laboratory"]
    _require_fields(
        path, "laboratory.", settings, [field.name for field in dataclasses.fields(Laboratory)]
    )
    found: dict[str, Any] = {}
    for name, value in settings.items():
        where = f"laboratory.{name}"
        default = getattr(_DEFAULT, name)
        if name == "bands":
            found[name] = _bands(path, value)
        elif isinstance(default, tuple):
            found[name] = _numbers(path, where, value, len(default))
        else:
            found[name] = _number(path, where, value)
    if found["samples_per_px"] <= 0:
        raise _error(path, "laboratory.samples_per_px", found["samples_per_px"], "a number above 0")
    levels = found["band_levels"]
    if min(levels) < 0 or abs(sum(levels) - 1) > 1e-6:
        raise _error(path, "laboratory.band_levels", levels, "shares that add up to 1")
    patients = content["patients"]
    if not isinstance(patients, list) or not all(isinstance(one, str) for one in patients):
        raise _error(path, "patients", patients, "a list of digests")
    return FittedLaboratory(Laboratory(**found), tuple(patients))


def _bands(path: str | Path, value: Any) -> BandAppearance | None:
    if value is None:
        return None
    names = [field.name for field in dataclasses.fields(BandAppearance)]
    _require_fields(path, "laboratory.bands.", value, names)
    table = band_table(APPEARANCE_LEVEL)
    found = {}
    for name in names:
        rows, where = value[name], f"laboratory.bands.{name}"
        if not isinstance(rows, list) or len(rows) != len(CHROMOSOMES):
            raise _error(path, where, rows, f"a list of {len(CHROMOSOMES)} lists")
        found[name] = tuple(
            _numbers(path, f"{where}[{number}]", row, len(table[chromosome].bands))
            for number, (chromosome, row) in enumerate(zip(CHROMOSOMES, rows, strict=True))
        )
    for number, row in enumerate(found["stretch"]):
        if min(row) <= 0:
            raise _error(
                path, f"laboratory.bands.stretch[{number}]", min(row), "numbers above 0 only"
            )
    return BandAppearance(**found)


def _numbers(path: str | Path, where: str, value: Any, length: int) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != length:
        raise _error(path, where, value, f"a list of {length} numbers")
    return tuple(_number(path, f"{where}[{i}]", one) for i, one in enumerate(value))


def _number(path: str | Path, where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _error(path, where, value, "a finite number")
    return float(value)


def _require_fields(path: str | Path, where: str, content: Any, names: Sequence[str]) -> None:
    if not isinstance(content, dict):
        raise _error(path, where.rstrip("."), content, "an object")
    missing = [name for name in names if name not in content]
    if missing:
        raise ConfigError(f"{path}: field '{where}{missing[0]}' is missing; {_ADVICE}")
    unknown = sorted(set(content) - set(names))
    if unknown:
        raise ConfigError(f"{path}: unknown field '{where}{unknown[0]}'; {_ADVICE}")


def _error(path: str | Path, where: str, value: Any, expected: str) -> ConfigError:
    text = repr(value)
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return ConfigError(f"{path}: field '{where}' is {shown}, expected {expected}; {_ADVICE}")
