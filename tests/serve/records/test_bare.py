"""Rates of bare models."""

from homnet_serve.records.bare import bare_rates
from homnet_serve.records.material import (
    Material,
)


def test_bare_rates_name_what_they_measured(material: Material) -> None:
    options = {"num_threads": 1, "patients_per_pass": 4, "seconds": 0.05}
    rates = bare_rates(material, **options)  # type: ignore[arg-type]
    assert list(rates) == ["1 patient a pass", "4 patients a pass"]
