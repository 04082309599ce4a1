"""Rates of bare models and readers."""

from collections.abc import Sequence

import pytest

from homnet.patients.finding import Finding
from homnet_serve.batching import ReadWork, read
from homnet_serve.records import bare
from homnet_serve.records.bare import SCORES, VERDICTS, _patients, _verdicts, bare_rates
from homnet_serve.records.material import Material, verdict_of
from homnet_serve.records.steady_clients import TOLERANCE, difference


def test_bare_rates_name_what_they_measured(
    material: Material, read_material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []

    def read_and_count(works: Sequence[ReadWork]) -> list[list[Finding]]:
        together.append(len(works))
        return read(works)

    monkeypatch.setattr(bare, "read", read_and_count)
    for one in (material, read_material):
        # Models without a reader come first.
        assert not together
        rates = bare_rates(one, num_threads=1, patients_per_pass=4, seconds=0.05)
        assert list(rates) == [SCORES, VERDICTS]
        for by_size in rates.values():
            assert list(by_size) == ["1 patient a pass", "4 patients a pass"]
            assert min(by_size.values()) > 0
    # Patients with nothing to read are left out.
    assert 1 < max(together) <= 4


def test_what_is_measured_are_the_verdicts_of_batch_evaluation(
    material: Material, read_material: Material
) -> None:
    for one in (material, read_material):
        verdicts = [verdict.to_json() for verdict in _verdicts(_patients(one))]
        models = [one.checkpoints[hospital] for hospital in one.hospital_of]
        expected = [
            verdict_of(model, one.reader_of(model), table)
            for model, table in zip(models, one.tables, strict=True)
        ]
        assert difference(expected, verdicts, TOLERANCE) == ""
