"""Checks that nobody changed the audit log of an endpoint.

python jobs/audit.py --directory audit
"""

from dataclasses import dataclass
from pathlib import Path

from homnet.errors import DataError
from homnet_platform.job import run_job
from homnet_serve.audit import verify_audit


@dataclass(frozen=True)
class AuditConfig:
    """Which audit log."""

    directory: Path = Path("audit")
    """Where its files are."""


def main(config: AuditConfig) -> None:
    """Checks every file, and prints how many lines each has."""
    lines = verify_audit(config.directory)
    if not lines:
        raise DataError(f"{config.directory}: there is no audit log here")
    for name, number in lines.items():
        print(f"{name}  {number} lines, whole")


if __name__ == "__main__":
    run_job(AuditConfig, main, description=__doc__)
