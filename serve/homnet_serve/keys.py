"""API keys with the hospitals that they permit. Only digests are stored.

A key is 32 random bytes, too long to guess, so one round of SHA-256 is enough.
"""

import errno
import fcntl
import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from homnet.errors import ConfigError
from homnet.files import make_folder, parse_json, replacing
from homnet_serve.errors import RequestError

ENVIRONMENT: Final = "HOMNET_API_KEYS"
"""Environment variable with the content of a key file; used if no file is named."""
_LOG: Final = logging.getLogger(__name__)
_PREFIX: Final = "homnet-"
_ADVICE: Final = "make it with jobs/endpoint.py"
_ACCESS_LIST: Final = "system.posix_acl_access"
"""Attribute of a file on Linux that holds its access list, if it has one."""


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
    """Creates a key and returns the secret, which is not stored, and the stored key.

    Raises:
        ConfigError: the id is empty, or the id or a hospital is not UTF-8.
    """
    hospitals = tuple(hospitals)
    if not id:
        raise ConfigError("the id of a key is empty; give it a name, which the logs will show")
    for name in (id, *hospitals):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"the id or hospital {name!r} is not UTF-8; choose another") from None
    secret = _PREFIX + secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return secret, Key(id, digest, hospitals)


class KeyFile:
    """Keys in a JSON file; a change takes effect at the next request.

    If the file is gone there are no keys. If it cannot be read for another reason, the last keys
    that could be read stay valid.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file.

        Raises:
            ConfigError: the file is missing or is not a list of keys.
        """
        self.path = path
        self._seen = self._stamp()
        self._keys = read_keys(path)
        self._fault = ""

    def __iter__(self) -> Iterator[Key]:
        stamp = self._stamp()
        if stamp is None:
            # Whoever takes the file away wants its keys to open nothing.
            self._keys, self._seen = (), None
            self._log_once(f"{self.path}: the key file is gone; no key is valid until it is back")
        elif stamp != self._seen:
            try:
                self._keys = read_keys(self.path)
                self._seen, self._fault = stamp, ""
            except ConfigError as error:
                # Keep the last valid keys, and read again at the next request: the disk may only
                # have failed for a moment.
                self._log_once(str(error))
        return iter(self._keys)

    def _log_once(self, reason: str) -> None:
        if reason != self._fault:
            self._fault = reason
            _LOG.error("keys_unreadable", extra={"reason": reason})

    def _stamp(self) -> tuple[int, int, int] | None:
        """What changes whenever the file does; None if there is no file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def open_keys(path: str) -> Iterable[Key]:
    """Opens a key file, or reads the environment variable if no file is named or none is there.

    The variable is read here and never again: a key in it stays valid as long as the process runs.

    Raises:
        ConfigError: neither exists, or the content is not a list of keys.
    """
    content = os.environ.get(ENVIRONMENT)
    if path and (content is None or Path(path).exists()):
        return KeyFile(Path(path))
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
    """Writes a key file atomically.

    A new file can be read by its owner only. An existing one keeps its owner, group, mode and
    access list, so that the endpoint can still read it. A symbolic link keeps pointing to it.

    Raises:
        ConfigError: the keys could not be read again, the file cannot be written, or its owner or
            group cannot be kept; an existing file stays as it is.
    """
    content = (json.dumps({"keys": [vars(key) for key in keys]}, indent=2) + "\n").encode()
    _parse(content, str(path))
    try:
        path = path.resolve()
        before = path.stat() if path.exists() else None
        mode = 0o600 if before is None else stat.S_IMODE(before.st_mode) & 0o777
        with replacing(path, mode=mode) as temporary:
            temporary.write_bytes(content)
            if before is not None:
                _keep_owner(path, before, temporary)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{path}: the key file cannot be written ({error})") from None


def _keep_owner(path: Path, before: os.stat_result, temporary: Path) -> None:
    """Gives a file the owner, group and access list of the one that it replaces."""
    made = temporary.stat()
    if (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.chown(temporary, before.st_uid, before.st_gid)
        except OSError as error:
            raise ConfigError(
                f"{path}: the key file belongs to user {before.st_uid} and group {before.st_gid}, "
                f"which cannot be kept ({error.strerror}); run this as that user or as root"
            ) from None
    access = _access_list(path)
    if access is not None:
        os.setxattr(temporary, _ACCESS_LIST, access)
    elif _access_list(temporary) is not None:  # of the folder: it could let others read
        os.removexattr(temporary, _ACCESS_LIST)


def _access_list(path: Path) -> bytes | None:
    """The access list of a file; None if it has none, or if there are none on this system."""
    if sys.platform != "linux":
        return None
    try:
        return os.getxattr(path, _ACCESS_LIST)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Has other commands that change the same key file wait.

    Raises:
        ConfigError: the lock beside the file cannot be taken.
    """
    try:
        path = path.resolve()
        lock = path.with_name(f".{path.name}.lock")
        make_folder(lock.parent)
        while True:
            held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            fcntl.flock(held, fcntl.LOCK_EX)
            # Whoever held it before removed it: then others lock another file of this name.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(held), lock.lstat()):
                    break
            os.close(held)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"{path}: the key file cannot be locked ({error}); make its folder writable, or wait "
            "for the other command"
        ) from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(held)


def add_key(path: Path, id: str, hospitals: Iterable[str], *, renew: bool = False) -> str:
    """Adds a new key to a key file and returns the secret. Creates the file if it is missing.

    Args:
        path: the key file.
        id: name of the key.
        hospitals: hospitals that it permits.
        renew: whether it replaces a key with the same id.

    Raises:
        ConfigError: the key id exists or is empty, the file is not a list of keys, or it cannot be
            written.
    """
    secret, key = new_key(id, hospitals)
    with _alone(path):
        keys = read_keys(path) if path.exists() else ()
        others = [one for one in keys if one.id != id]
        if len(others) < len(keys) and not renew:
            raise ConfigError(f"{path}: has a key {id!r} already; choose another id")
        write_keys(path, [*others, key])
    return secret


def revoke_key(path: Path, id: str) -> None:
    """Marks a key in a key file as revoked.

    Raises:
        ConfigError: the file has no key with this id, is not a list of keys, or cannot be written.
    """
    read_keys(path)  # a file that is missing or damaged is named before anything is locked
    with _alone(path):
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
