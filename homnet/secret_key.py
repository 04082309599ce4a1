"""Secret keys: from a file or the environment, never from a command line, which others can see."""

import os
from pathlib import Path
from typing import Final

from homnet.errors import ConfigError

_MIN_BYTES: Final = 16


def read_secret_key(file: str | Path | None, variable: str) -> bytes | None:
    """Reads a key from a file or from an environment variable.

    Args:
        file: a file with the key, without the newline at its end; None or empty for none.
        variable: the environment variable that can hold the key instead.

    Returns:
        The key; None if there is neither a file nor the variable.

    Raises:
        ConfigError: both are given, the file cannot be read, or the key is shorter than 16 bytes.
    """
    source, value = str(file or variable), os.environ.get(variable)
    if file and value is not None:
        raise ConfigError(f"{variable} and a key file ({file}) are both given; give one of them")
    try:
        key = Path(file).read_bytes() if file else os.fsencode(value or "")
    except OSError as error:
        raise ConfigError(
            f"{file}: the key cannot be read ({error.strerror}); give a file that holds it"
        ) from None
    if not file and value is None:
        return None
    key = key.removesuffix(b"\n").removesuffix(b"\r")
    if len(key.strip()) < _MIN_BYTES:
        raise ConfigError(
            f"{source}: the key has {len(key.strip())} bytes; give at least {_MIN_BYTES}, for "
            "example from: openssl rand -hex 32"
        )
    return key
