"""Variants of HomNet, the lines of the paper's Table 4, as methods without trials."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNetConfig
from homnet.records.beside_paper import HOMNET
from homnet_platform.records.method_trials import Method

_CHANGES: Final[Mapping[str, Mapping[str, Any]]] = {
    HOMNET: {},
    "w/o pair": {"homologs": "single", "partner": False, "symmetric": False},
    "w/o bag": {},
    "align → MLP": {"alignment": "mlp"},
    "align → CNN": {"alignment": "convolution"},
    **{f"range {merge}": {"merge_range": merge} for merge in (8, 16, 48, 64)},
}
"""Changed fields of the form, by line; HomNet has merge range 32. All are without the search,
which the paper lacks: it compares homologs by itself and would hide what the parts bring."""
_WITH_SEARCH: Final = "with the search"


def variants_of(form: HomNetConfig, fit: Callable[..., Checkpoint]) -> dict[str, Method]:
    """HomNet without the search, without a further part, or with another merge range.

    A form that searches for events is a line of its own.

    Args:
        form: the full form.
        fit: see :class:`homnet_platform.records.method_trials.Method`.
    """
    plain = dataclasses.replace(form, search_positions=0)
    lines = {
        name: Method(dataclasses.replace(plain, **changes), fit, one_pair=name == "w/o bag")
        for name, changes in _CHANGES.items()
    }
    return lines if form == plain else lines | {_WITH_SEARCH: Method(form, fit)}
