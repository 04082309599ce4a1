"""People, budget and seeds of a comparison."""

from dataclasses import replace
from pathlib import Path

import pytest

from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import TEST, TRAIN, VALIDATION
from homnet.errors import ConfigError, DataError
from homnet_platform.data import Participants, fewer_people
from homnet_platform.records.plan import RECIPES, Comparison, ReproduceConfig, collect


def test_scale_shrinks_epochs_and_then_people() -> None:
    full = Comparison(scale=1.0)
    assert (full.epochs, full.share_of_people) == (100, 1.0)
    assert (replace(full, scale=0.1).epochs, replace(full, scale=0.1).share_of_people) == (10, 1)
    tiny = replace(full, scale=0.002)
    assert tiny.epochs == 4
    assert tiny.share_of_people == pytest.approx(0.05)
    assert tiny.pretraining(7) == replace(tiny.training, max_epochs=4, seed=7)
    people = frozenset(f"p{n:02}" for n in range(40))
    split = dict.fromkeys((TRAIN, VALIDATION, TEST), people)
    fewer = fewer_people(split, 0.1)
    assert [len(fewer[part]) for part in (TRAIN, VALIDATION, TEST)] == [4, 16, 40]
    assert fewer[TRAIN] < fewer_people(split, 0.2)[TRAIN]


def test_mistakes_are_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        Comparison(scale=0.0)
    with pytest.raises(ConfigError, match="at least one seed"):
        Comparison(seeds=())
    with pytest.raises(ConfigError, match="num_batches must be at least 1"):
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
def test_scale_leaves_the_judged_people_alone(
    comparison: Comparison, cohort: Cohort, shared: Participants, tmp_path: Path
) -> None:
    found = collect(cohort, replace(comparison, scale=0.0001))
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
