"""Results of record: one JSON file per measured claim, with what is needed to reproduce it.

Tables and plots are rendered from these files. A number without a file is not claimed.
"""

import importlib.metadata
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from homnet.errors import ConfigError, DataError
from homnet.files import parse_json, write_whole
from homnet.locations import Location, to_location

_PACKAGES: Final = (
    "homnet",
    "torch",
    "ray",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "scikit-image",
    "scikit-learn",
)
_FIELDS: Final = ("claim", "figures", "command", "recipe", "seed", "packages", "machine", "date")


@dataclass(frozen=True)
class Record:
    """Result of record that a job writes; none by default."""

    claim: str = ""
    """What the figures show, in one sentence."""
    file: Path | None = None
    """Output file, by convention ``results/<job>-<what>.json``."""

    def __post_init__(self) -> None:
        if (self.file is None) != (not self.claim):
            raise ConfigError("a result of record needs both --record.claim and --record.file")

    def write(self, figures: Mapping[str, Any], *, recipe: str, seed: int) -> None:
        """Writes the figures if a file is set; see :func:`write_result`."""
        if self.file is not None:
            write_result(self.file, claim=self.claim, figures=figures, recipe=recipe, seed=seed)


def _command() -> str:
    """The command line; a job by its path in the project, wherever that lies on this machine."""
    program, *rest = sys.argv
    return shlex.join(["python", re.sub(r"^.*/(?=jobs/)", "", program), *rest])


def write_result(
    path: str | Location,
    *,
    claim: str,
    figures: Mapping[str, Any],
    recipe: str,
    seed: int,
) -> dict[str, Any]:
    """Writes one measured claim atomically, replacing an earlier measurement.

    Command, package versions, machine and date are taken from this process, so call it where the
    figures were measured.

    Args:
        path: the file, by convention ``results/<job>-<what>.json``; its folder is created.
        claim: what the figures show, in one sentence.
        figures: the measured values, JSON-serialisable, without NaN.
        recipe: name of the configuration.
        seed: of the run.

    Returns:
        The content of the file.

    Raises:
        DataError: the claim is empty or a figure cannot be stored as JSON.
    """
    path = to_location(path)
    if not claim.strip():
        raise DataError(f"{path}: a result needs a claim; say in one sentence what was measured.")
    result = {
        "claim": claim,
        "figures": dict(figures),
        "command": _command(),
        "recipe": recipe,
        "seed": seed,
        "packages": package_versions(),
        "machine": describe_machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_json(path, result)
    return result


def read_result(path: str | Location) -> dict[str, Any]:
    """Reads a result of record.

    Raises:
        DataError: the file is missing, damaged, or lacks a field.
    """
    result = read_json(path)
    missing = [name for name in _FIELDS if name not in result]
    if missing:
        raise DataError(f"{path}: the result has no '{missing[0]}'; measure it again.")
    return result


def write_json(path: str | Location, content: Mapping[str, Any]) -> None:
    """Writes a JSON object atomically; see :func:`homnet.files.write_whole`.

    Raises:
        DataError: a value cannot be stored as JSON, for example NaN or infinity.
    """
    path = to_location(path)
    try:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        if "\\ud" in text:  # an escape, maybe of half a character, which nobody could read
            json.dumps(content, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: a value cannot be stored as JSON ({error}); use finite numbers and text."
        ) from None
    write_whole(path, text)


def read_json(path: str | Location) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        DataError: the file is missing, unreadable, or not a JSON object; see
            :func:`homnet.files.parse_json`.
    """
    try:
        content = to_location(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; run the job that writes it.") from None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); give access to it."
        ) from None
    return parse_json(content, path)


def package_versions() -> dict[str, str]:
    """Versions of Python and of installed packages that affect the figures."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def describe_machine() -> dict[str, Any]:
    """This machine: usable cores, memory in GiB, CPU and GPU models."""
    # Here and not above: jobs and workers without a model do not import it otherwise.
    import torch

    cores = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    return {
        "num_cores": len(cores),
        "cpu": _cpu_model(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "num_gpus": torch.cuda.device_count(),
        "system": platform.system(),
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
