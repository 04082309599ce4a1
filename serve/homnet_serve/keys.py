"""API keys with the hospitals that they permit. Only digests are stored.

A key is 32 random bytes, too long to guess, so one round of SHA-256 is enough.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from homnet.errors import ConfigError
from homnet.files import parse_json, write_whole
from homnet_serve.errors import RequestError

ENVIRONMENT: Final = "HOMNET_API_KEYS"
"""Environment variable with the content of a key file; used if no file is named."""
_LOG: Final = logging.getLogger(__name__)
_PREFIX: Final = "homnet-"
_ADVICE: Final = "make it with jobs/endpoint.py"


@dataclass(frozen=True)
class Key:
    """A stored key."""

    id: str
    """Name of the key in logs; not secret."""
    sha256: str
    """SHA-256 of the secret, hexadecimal."""
    hospitals: tuple[str, ...] = ()
    """Hospitals that the key permits."""
    revoked: bool = False
    """Whether the key is refused."""


def check_key(keys: Iterable[Key], authorization: str | None) -> Key:
    """Finds the key of an ``Authorization`` header.

    Missing, wrong and revoked keys get the same answer, and every stored digest is compared, so
    neither the answer nor its timing distinguishes them.

    Raises:
        RequestError: 401.
    """
    scheme, _, presented = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        presented = ""
    digest = hashlib.sha256(presented.strip().encode("utf-8", "surrogatepass")).hexdigest()
    found = None
    for key in keys:
        if hmac.compare_digest(digest, key.sha256) and not key.revoked:
            found = key
    if found is None or not presented:
        raise RequestError(
            401, "unauthorized", "give a valid API key in the header 'Authorization: Bearer KEY'"
        )
    return found


def new_key(id: str, hospitals: Iterable[str]) -> tuple[str, Key]:
    """Creates a key and returns the secret, which is not stored, and the stored key."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return secret, Key(id, digest, tuple(hospitals))


class KeyFile:
    """Keys in a JSON file; a change takes effect at the next request."""

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            ConfigError: the file is missing or is not a list of keys.
        """
        self.path = path
        self._seen = self._stamp()
        self._keys = read_keys(path)

    def __iter__(self) -> Iterator[Key]:
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._keys = read_keys(self.path)
            except ConfigError as error:
                # Damaged or missing file: keep the last valid keys, and log the error.
                _LOG.error("keys_unreadable", extra={"reason": str(error)})
        return iter(self._keys)

    def _stamp(self) -> tuple[int, int, int]:
        try:
            stat = self.path.stat()
        except OSError:
            return (0, 0, 0)
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def open_keys(path: str) -> Iterable[Key]:
    """Opens a key file, or reads the environment variable if no file is named.

    Raises:
        ConfigError: neither exists, or the content is not a list of keys.
    """
    if path:
        return KeyFile(Path(path))
    content = os.environ.get(ENVIRONMENT)
    if content is None:
        raise ConfigError(
            f"no API keys: name a key file (jobs/endpoint.py makes one), or set {ENVIRONMENT} to "
            "its content"
        )
    return _parse(os.fsencode(content), ENVIRONMENT)


def read_keys(path: Path) -> tuple[Key, ...]:
    """Reads a key file.

    Raises:
        ConfigError: the file is missing or is not a list of keys.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: the key file cannot be read ({type(error).__name__}); {_ADVICE}"
        ) from None
    return _parse(content, str(path))


def write_keys(path: Path, keys: Iterable[Key]) -> None:
    """Writes a key file atomically, readable by its owner only.

    Raises:
        ConfigError: the file cannot be written.
    """
    content = json.dumps({"keys": [vars(key) for key in keys]}, indent=2)
    try:
        write_whole(path, content + "\n", mode=0o600)
    except OSError as error:
        raise ConfigError(f"{path}: the key file cannot be written ({error})") from None


def add_key(path: Path, id: str, hospitals: Iterable[str]) -> str:
    """Adds a new key to a key file and returns the secret. Creates the file if it is missing.

    Raises:
        ConfigError: the key id exists, the file is not a list of keys, or it cannot be written.
    """
    keys = read_keys(path) if path.exists() else ()
    if id in [key.id for key in keys]:
        raise ConfigError(f"{path}: has a key {id!r} already; choose another id")
    secret, key = new_key(id, hospitals)
    write_keys(path, [*keys, key])
    return secret


def revoke_key(path: Path, id: str) -> None:
    """Marks a key in a key file as revoked.

    Raises:
        ConfigError: the file has no key with this id, is not a list of keys, or cannot be written.
    """
    keys = read_keys(path)
    ids = [key.id for key in keys]
    if id not in ids:
        raise ConfigError(f"{path}: has no key {id!r}, but {', '.join(ids)}")
    write_keys(path, [replace(key, revoked=True) if key.id == id else key for key in keys])


def _parse(content: bytes, where: str) -> tuple[Key, ...]:
    try:
        found = parse_json(content, where, error=ConfigError, advice=_ADVICE)
        keys = tuple(_key(item) for item in found["keys"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{where}: not a list of keys ({type(error).__name__}); {_ADVICE}"
        ) from None
    if len({key.id for key in keys}) < len(keys):
        raise ConfigError(f"{where}: two keys have one id; give each its own")
    return keys


def _key(item: Mapping[str, Any]) -> Key:
    hospitals = item.get("hospitals", [])
    # Files of before may say who could read /metrics, a route that is no more.
    kept = {name: value for name, value in item.items() if name != "operator"}
    key = Key(**{**kept, "hospitals": tuple(hospitals)})
    if (
        len(bytes.fromhex(key.sha256)) != 32
        or not isinstance(hospitals, list)
        or not all(type(one) is str for one in (key.id, *hospitals))
    ):
        raise ValueError("a digest, an id or a hospital is wrong")
    if type(key.revoked) is not bool or not key.id:
        raise ValueError("revoked is not a boolean, or the id is empty")
    return key
