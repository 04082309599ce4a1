"""Manages the API keys of an endpoint, and checks its config and its audit log.

python jobs/endpoint.py new-key --file keys.json --id lab-1 --hospitals hospital-1 hospital-2
python jobs/endpoint.py list-keys --file keys.json
python jobs/endpoint.py revoke-key --file keys.json --id lab-1
python jobs/endpoint.py verify-audit --directory audit --key audit.key --anchor /other/anchor
python jobs/endpoint.py check-config --file serve/config.yaml
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from homnet.errors import DataError
from homnet.secret_key import read_secret_key
from homnet_platform.job import run_job
from homnet_serve.audit import KEY_VARIABLE, verify_audit
from homnet_serve.keys import add_key, read_keys, revoke_key


@dataclass(frozen=True)
class ListKeys:
    """Lists the keys of a file."""

    file: Path = Path("keys.json")
    """The key file. It holds digests, no secrets. A running endpoint that was given its path
    (``keys:``) sees every change at the next request; one that was given its content in
    HOMNET_API_KEYS sees none until it is started again."""


@dataclass(frozen=True)
class RevokeKey(ListKeys):
    """Revokes a key: it stays in the file and opens nothing. Prints the keys of the file.

    An endpoint whose keys came from HOMNET_API_KEYS accepts the key until it is started again with
    the new content.
    """

    id: str = tyro.MISSING
    """Name of the key in logs."""


@dataclass(frozen=True)
class NewKey(ListKeys):
    """Makes a key, which is printed once and kept nowhere. Prints the keys of the file."""

    id: str = tyro.MISSING
    """Name of the key in logs."""
    hospitals: tuple[str, ...] = ()
    """Hospitals that the key may ask for."""


@dataclass(frozen=True)
class VerifyAudit:
    """Checks every file of an audit log."""

    directory: str = "audit"
    """Directory or URI of the audit log."""
    key: str = ""
    """File with the key of the log; if empty, the environment variable HOMNET_AUDIT_KEY, if set."""
    anchor: str = ""
    """Directory or URI of the anchor, if the endpoint has one."""


@dataclass(frozen=True)
class CheckConfig:
    """Checks a config for ``serve run`` and ``serve deploy``, which ignore misspelt names."""

    file: Path = Path("serve/config.yaml")
    """The config."""


def main(config: ListKeys | VerifyAudit | CheckConfig) -> None:
    """Does what was asked for; prints the keys of the file, or the files of the audit log."""
    if isinstance(config, VerifyAudit):
        _verify(config)
        return
    if isinstance(config, CheckConfig):
        from homnet_serve.deployment import check_config  # the other commands need no Ray

        check_config(config.file)
        print(f"{config.file}: Serve and the endpoint know every name")
        return
    if isinstance(config, NewKey):
        secret = add_key(config.file, config.id, config.hospitals)
        print(f"key: {secret}")
    elif isinstance(config, RevokeKey):
        revoke_key(config.file, config.id)
    for key in read_keys(config.file):
        hospitals = ", ".join(key.hospitals) or "no hospital"
        print(f"{key.id}  {hospitals}{'  revoked' if key.revoked else ''}")


def _verify(config: VerifyAudit) -> None:
    key = read_secret_key(config.key, KEY_VARIABLE)
    try:
        files = verify_audit(config.directory, key=key, anchor=config.anchor or None)
    except DataError as error:
        # A line for each fault: run_job prints the first only.
        for fault in str(error).splitlines():
            print(f"error: {fault}", file=sys.stderr)
        sys.exit(2)
    if not files:
        raise DataError(f"{config.directory}: there is no audit log here")
    for name, file in files.items():
        lost = f"; {file.num_lost} could not be written" if file.num_lost else ""
        held = f"; {file.num_withheld} were not anchored, nor answered" if file.num_withheld else ""
        rest = "; its process ended while it wrote one more" if file.is_cut_off else ""
        print(f"{name}  {file.num_lines} lines, whole{lost}{held}{rest}")
    if not config.anchor:
        print("without --anchor: lines cut off at the end of the newest log would not be noticed")
    if key is None:
        print("without --key: a log computed anew would not be noticed")


if __name__ == "__main__":
    commands: dict[str, ListKeys | VerifyAudit | CheckConfig] = {
        "new-key": NewKey(),
        "list-keys": ListKeys(),
        "revoke-key": RevokeKey(),
        "verify-audit": VerifyAudit(),
        "check-config": CheckConfig(),
    }
    run_job(commands, main, description=__doc__)
