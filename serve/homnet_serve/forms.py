"""Where the forms of other models come from: named in the settings, not imported here."""

import importlib
from collections.abc import Callable
from typing import Any

from homnet.errors import ConfigError
from homnet.model.contract import Form
from homnet.model.network import HomNetConfig


def reader_of_forms(name: str) -> Callable[..., Form]:
    """What makes a form out of what a checkpoint holds.

    Args:
        name: ``module:function``, for example ``homnet_baselines.methods:read_form``; nothing
            for HomNet alone.

    Raises:
        ConfigError: there is no such function.
    """
    if not name:
        return HomNetConfig
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"forms: {name!r} cannot be read ({error}); give module:function, for example "
            "homnet_baselines.methods:read_form"
        ) from None
    reader: Callable[..., Form] = found
    return reader
