"""Makes, lists and revokes API keys of an endpoint.

python jobs/keys.py new --file keys.json --id lab-1 --hospitals hospital-1 hospital-2
python jobs/keys.py new --file keys.json --id prometheus --operator
python jobs/keys.py list --file keys.json
python jobs/keys.py revoke --file keys.json --id lab-1
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from homnet.errors import ConfigError
from homnet_platform.job import run_job
from homnet_serve.keys import Key, new_key, read_keys, write_keys


@dataclass(frozen=True)
class KeysConfig:
    """What to do with which key file."""

    action: tyro.conf.Positional[Literal["new", "list", "revoke"]]
    """What to do. A new key is printed once and kept nowhere."""
    file: Path = Path("keys.json")
    """The key file; it holds digests only. Endpoints see a change at once."""
    id: str = ""
    """Name of the key."""
    hospitals: tuple[str, ...] = ()
    """Hospitals that a new key may ask for."""
    operator: bool = False
    """Whether a new key may read the metrics."""

    def __post_init__(self) -> None:
        if self.action != "list" and not self.id:
            raise ConfigError(f"{self.action} needs --id")


def main(config: KeysConfig) -> None:
    """Does it, and prints the keys that the file then holds."""
    keys: list[Key] = []
    if config.action != "new" or config.file.exists():
        keys = list(read_keys(config.file))
    ids = [key.id for key in keys]
    if config.action == "new":
        if config.id in ids:
            raise ConfigError(f"{config.file}: has a key {config.id!r} already; choose another id")
        secret, key = new_key(config.id, config.hospitals, operator=config.operator)
        keys.append(key)
        write_keys(config.file, keys)
        print(f"key: {secret}")
    elif config.action == "revoke":
        if config.id not in ids:
            raise ConfigError(f"{config.file}: has no key {config.id!r}, but {', '.join(ids)}")
        keys = [replace(k, revoked=True) if k.id == config.id else k for k in keys]
        write_keys(config.file, keys)
    for key in keys:
        role = "operator" if key.operator else ", ".join(key.hospitals) or "no hospital"
        print(f"{key.id}  {role}{'  revoked' if key.revoked else ''}")


if __name__ == "__main__":
    run_job(KeysConfig, main, description=__doc__)
