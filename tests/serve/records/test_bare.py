"""Rates of bare models."""

import pytest

from homnet_serve.records.bare import bare_rates, head_rates
from homnet_serve.records.material import (
    Material,
)


def test_bare_rates_name_what_they_measured(material: Material) -> None:
    options = {"num_threads": 1, "patients_per_pass": 4, "seconds": 0.05}
    rates = bare_rates(material, **options)  # type: ignore[arg-type]
    assert list(rates) == ["1 patient a pass", "4 patients a pass"]
    heads = head_rates(material, **options)  # type: ignore[arg-type]
    assert list(heads) == ["2 patients a pass", "4 patients a pass"]
    for one in heads.values():
        ratio = one["one trunk"] / one["a model per hospital"]
        assert one["times_as_fast"] == pytest.approx(ratio, abs=1e-3)
