"""People, budget and seeds of a comparison."""

from dataclasses import replace
from pathlib import Path

import pytest

from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import TEST
from homnet.errors import ConfigError, DataError
from homnet_platform.data import Participants
from homnet_platform.records.plan import RECIPES, Comparison, ReproduceConfig, collect


def test_trials_take_a_quarter_of_the_minutes() -> None:
    comparison = Comparison(minutes=6.0)
    assert comparison.trial_minutes == 1.5
    assert comparison.pretraining(7) == replace(comparison.training, max_epochs=100, seed=7)


def test_mistakes_are_refused() -> None:
    with pytest.raises(ConfigError, match="minutes must be 0 or more"):
        Comparison(minutes=-1.0)
    with pytest.raises(ConfigError, match="at least one seed"):
        Comparison(seeds=())
    with pytest.raises(ConfigError, match="num_batches and cpus_per_run must be at least 1"):
        ReproduceConfig(num_batches=0)


def test_tables_of_images_have_no_patients_and_the_others_do() -> None:
    assert {name: recipe.table for name, recipe in RECIPES.items()} == {n: n for n in RECIPES}
    for name, recipe in RECIPES.items():
        comparison = recipe.comparison
        assert comparison.fine_tuned == (name not in ("3", "ablate"))
        over = "patient" if comparison.fine_tuned else "people"
        assert comparison.bags.over == comparison.training.bags.over == over
        # People mixed in a bag show where a segment was inserted, unless shams do so too.
        assert (comparison.training.events.sham_share > 0) == (over == "people")
        assert comparison.fine_tuning.labels == "cohort"


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_only_people_of_the_comparison_are_read(
    comparison: Comparison, cohort: Cohort, shared: Participants, tmp_path: Path
) -> None:
    found = collect(cohort, comparison)
    assert found.healthy[TEST] == shared.healthy[TEST]
    assert found.hospitals == shared.hospitals
    # Nobody is read who is neither learnt from nor judged.
    assert not found.healthy[TEST] & set(found.bank.frame["patient_id"])

    healthy = cohort.of_hospitals(["healthy-1"])
    tables = [healthy.read(entry) for entry in healthy.files]
    normal = write_cohort(
        tmp_path / "normal", tables, scale={"healthy-1": 3.0}, provenance={"made by": "test"}
    )
    with pytest.raises(DataError, match="no hospital has abnormal pairs"):
        collect(normal, comparison)
    found = collect(normal, replace(comparison, fine_tuned=False))
    assert found.hospitals == {}
    assert found.healthy == shared.healthy
    assert len(found.bank.frame) == 8 * 3 * 4
