"""Parts of a load test, and what they need of one another."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from homnet.errors import ConfigError, DataError
from homnet_serve.records import load_test
from homnet_serve.records.bare import SCORES, VERDICTS
from homnet_serve.records.load_test import LoadTestConfig, measure
from homnet_serve.records.material import MaterialConfig


def test_a_soak_needs_the_capacity(tmp_path: Path) -> None:
    small = MaterialConfig(num_patients=1, num_cells=1, form="paper", findings=False)
    with pytest.raises(DataError, match="measure the part 'endpoint'"):
        measure(LoadTestConfig(material=small, parts=("soak",), work=tmp_path))
    with pytest.raises(ConfigError, match="expected one of python"):
        LoadTestConfig(proxy="nginx")


class _Endpoint:
    """Answers half as many patients of JSON as of Arrow."""

    def deploy(self) -> None:
        pass

    def ask(self, what: str, form: str, num_clients: int) -> dict[str, Any]:
        return {"patients_per_second": 20.0 if form == "arrow" else 10.0}


@contextmanager
def _serve(*_: Any) -> Iterator[_Endpoint]:
    yield _Endpoint()


def test_the_endpoint_is_measured_against_what_it_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = iter([30.0, 50.0, *[40.0] * 99])
    monkeypatch.setattr(load_test, "_server", _serve)
    monkeypatch.setattr(
        load_test,
        "bare_rates",
        lambda *_, **__: {
            SCORES: {"1": 99.0, "8": 90.0},
            VERDICTS: {"1": 1.0, "8": next(verdicts)},
        },
    )
    small = MaterialConfig(num_patients=1, num_cells=1)
    config = LoadTestConfig(material=small, parts=("endpoint",), work=tmp_path)
    figures = measure(config)["endpoint"]
    assert list(figures["arrow"]) == list(figures["json"]) == ["1", "4", "16", "64"]
    first = figures["arrow"]["1"]
    assert first["bare"] == {"before": {"1": 1.0, "8": 30.0}, "after": {"1": 1.0, "8": 50.0}}
    assert first["bare_scores"]["after"] == {"1": 99.0, "8": 90.0}
    assert first["share_of_bare"] == 0.5
    assert figures["share_of_bare"] == 0.5
    assert figures["json"]["64"]["share_of_bare"] == 0.25
