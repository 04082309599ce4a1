"""Fine-tuning of hospitals: continued, with few abnormal patients, and without the own ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homnet.cohorts.cohort import write_cohort
from homnet.cohorts.split import SplitConfig, split_patients
from homnet.errors import ConfigError, DataError
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.model.registry import Registry
from homnet_platform.fine_tuning import fine_tune

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_fine_tuning_continues_with_the_hospitals_that_are_missing(
    lineage: Any, tmp_path: Path
) -> None:
    digests = lineage.tuned / "h1" / "checkpoint" / "sha256.json"
    before = digests.stat().st_mtime_ns
    registry = str(tmp_path / "registry")
    assert set(fine_tune(replace(lineage.fine_tuning, registry=registry))) == {"h1", "h2"}
    candidates = {entry.hospital: entry for entry in Registry(registry).entries()}
    assert set(candidates) == {"h1", "h2"}
    tuned = Checkpoint.load(lineage.tuned / "h1" / "checkpoint")
    assert candidates["h1"].version == tuned.digest
    assert digests.stat().st_mtime_ns == before


def test_few_abnormal_patients_are_learnt_from_and_all_healthy_ones(
    lineage: Any, tmp_path: Path
) -> None:
    split = SplitConfig(validation=0.25, test=0.25, seed=2)
    few = replace(
        lineage.fine_tuning,
        output=str(tmp_path / "few"),
        hospitals=("h1",),
        split=split,
        max_abnormal=1,
    )
    checkpoint = Checkpoint.load(fine_tune(few)["h1"])
    every = split_patients(lineage.cohort.of_hospitals(["h1"]).patients, split)
    learnt = {
        p for p in every["train"] if patient_digests([p])[0] in checkpoint.provenance["learnt_from"]
    }
    # Every second patient of the fixture is abnormal: those with an even number.
    carriers = {p for p in every["train"] if int(p[-1]) % 2 == 0}
    assert len(carriers) > 1
    assert len(learnt & carriers) == 1
    assert learnt - carriers == every["train"] - carriers
    with pytest.raises(DataError, match="max_abnormal asks for 9"):
        fine_tune(replace(few, output=str(tmp_path / "many"), max_abnormal=9))


def test_people_without_abnormalities_are_no_teachers(lineage: Any, tmp_path: Path) -> None:
    healthy = write_cohort(
        tmp_path / "healthy",
        [lineage.cohort.of_hospitals(["healthy"]).read()],
        scale={"healthy": 3.0},
        provenance={},
    )
    config = replace(lineage.fine_tuning, cohort=str(healthy.root), output=str(tmp_path / "tuned"))
    with pytest.raises(DataError, match="no hospital has abnormal pairs to fine-tune on"):
        fine_tune(config)


def test_a_hospital_can_be_left_out_of_its_own_model(lineage: Any, tmp_path: Path) -> None:
    left_out = replace(lineage.fine_tuning, output=str(tmp_path / "others"), leave_one_out=True)
    paths = fine_tune(left_out)
    assert set(paths) == {"h1", "h2"}
    cohort = lineage.cohort
    for hospital, other in (("h1", "h2"), ("h2", "h1")):
        provenance = Checkpoint.load(paths[hospital]).provenance
        assert provenance["hospitals"] == [other]
        split = split_patients(cohort.of_hospitals([other]).patients, left_out.split)
        assert set(provenance["learnt_from"]) >= set(patient_digests(split["train"]))
        own = patient_digests(cohort.of_hospitals([hospital]).patients[hospital])
        assert not set(provenance["learnt_from"]) & set(own)
    with pytest.raises(ConfigError, match="takes no max_abnormal"):
        replace(left_out, max_abnormal=1)
