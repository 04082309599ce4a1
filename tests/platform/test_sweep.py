"""What a sweep may be asked for."""

import pytest

from homnet.errors import ConfigError
from homnet_platform import sweep
from homnet_platform.sweep import TuneConfig


@pytest.mark.parametrize(
    "change",
    [
        {"merge_ranges": ()},
        {"num_finalists": 0},
        {"cpus_per_trial": 0},
        {"reduction_factor": 1},
        {"num_samples": 1},
        {"workers_per_pretraining": 2, "gpus_per_trial": 0.5},
    ],
)
def test_impossible_sweeps_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        TuneConfig(**change)  # type: ignore[arg-type]


def test_a_searcher_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install optuna, or use grid"):
        TuneConfig(searcher="optuna")
