"""Fine-tuning of hospitals: continued, with few abnormal patients, and without the own ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError, DataError
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.model.network import HomNetConfig
from homnet.model.registry import Registry
from homnet.training.stage import Stage
from homnet_platform import fine_tuning
from homnet_platform.fine_tuning import FineTuneConfig, fine_tune
from homnet_platform.tracking import TrackingOptions
from homnet_platform.training import ScalingOptions, Trained

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


def test_several_workers_take_one_hospital_after_the_other(
    hospitals: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = HomNetConfig(width=8, pair_width=12, num_heads=2)
    parent = Checkpoint(form, form.build().state_dict())
    config = FineTuneConfig(
        cohort=str(hospitals.root),
        checkpoint=str(parent.save(tmp_path / "parent")),
        output=str(tmp_path / "tuned"),
        split=SplitConfig(validation=0.25, test=0.5),
        scaling=ScalingOptions(num_workers=3),
        tracking=TrackingOptions(tensorboard=False),
    )
    seen: dict[str, dict[str, Any]] = {}

    def run(cohort: Cohort, stage: Stage, **options: Any) -> Trained:
        (hospital,) = cohort.hospitals
        seen[hospital] = {"stage": stage, **options}
        metrics = {"history": [], "hospital": hospital}
        return Trained(Checkpoint(form, form.build().state_dict(), metrics=metrics), {})

    monkeypatch.setattr(fine_tuning, "run_stage", run)
    monkeypatch.delattr(fine_tuning, "_side_by_side")
    paths = fine_tune(config)
    assert list(seen) == ["h1", "h2"]
    for hospital, asked in seen.items():
        assert asked["storage"] == tmp_path / "tuned" / hospital / "ray"
        assert (asked["scaling"], asked["tracking"]) == (config.scaling, config.tracking)
        split = split_patients(hospitals.of_hospitals([hospital]).patients, config.split)
        stage = asked["stage"]
        assert (stage.train_patients, stage.validation_patients) == (
            split[TRAIN],
            split[VALIDATION],
        )
        assert (stage.parent, stage.training) == (config.checkpoint, config.training)
        assert paths[hospital] == tmp_path / "tuned" / hospital / "checkpoint"
        assert Checkpoint.load(paths[hospital]).metrics["hospital"] == hospital


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
