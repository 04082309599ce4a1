"""Rules of a verdict."""

import numpy as np
import pytest

from homnet.bags.assessment import NotAssessed
from homnet.errors import ConfigError
from homnet.patients.verdict import VerdictConfig, abstain, explain, flag_types, karyotype_types


def test_flagged_are_the_types_that_would_do_alone() -> None:
    assert flag_types(np.array([9.0, -3.0, 8.0]), 5.0).tolist() == [True, False, True]
    # Together they pass, none alone: the strongest is named.
    assert flag_types(np.array([3.0, 2.9, -9.0]), 2.5).tolist() == [True, False, False]


def test_a_womans_missing_x_is_no_male_x() -> None:
    left_out = [NotAssessed("X", ("c1", "c2"), "single_homolog")]
    assert explain(left_out, {"X"}) == {"X": ("one homolog only in 2 cells, left out",)}
    assert "male X" in explain(left_out, {"1"})["X"][0]


def test_a_patient_is_not_assessed_with_too_few_types_or_poor_bands() -> None:
    config = VerdictConfig(min_types=18, min_band_level=400)

    def codes(levels: list[int], num_counted: int) -> list[str]:
        cells = {f"c{n}": level for n, level in enumerate(levels)}
        found = abstain(cells=cells, num_counted=num_counted, min_cells=2, config=config)
        return [one.code for one in found]

    assert codes([], 0) == ["nothing_to_compare"]
    assert codes([400, 550], 17) == ["too_few_cells"]
    assert codes([300, 400], 18) == []
    assert codes([300, 300, 400], 18) == ["poor_bands"]
    assert codes([300], 0) == ["too_few_cells", "poor_bands"]


def test_a_y_is_reported_only_where_there_is_one() -> None:
    assert karyotype_types(["1", "X"])[-2:] == ("22", "X")
    assert karyotype_types(["1", "Y"])[-2:] == ("X", "Y")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"prevalence": 1.0}, "prevalence is 1.0"), ({"min_types": 24}, "min_types is 24")],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VerdictConfig(**settings)  # type: ignore[arg-type]
