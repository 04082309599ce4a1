"""Calibration, diagnosis and measurement of patients as the job calls them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import torch

from homnet.calibration.patients import ALL_HOSPITALS
from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.split import TEST, VALIDATION, SplitConfig, split_patients
from homnet.errors import CheckpointError, ConfigError, DataError
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.model.network import HomNet, HomNetConfig
from homnet.model.registry import Registry
from homnet.report.cohort_page import verdicts_markdown
from homnet.results import Record, read_result
from homnet_platform.patients import diagnosis
from homnet_platform.patients.calibration import CalibrateConfig, calibrate
from homnet_platform.patients.diagnosis import DiagnoseConfig, diagnose
from homnet_platform.patients.measurement import MeasureConfig, measure
from homnet_platform.simulate import SimulateConfig, simulate

TableOf = Callable[..., pa.Table]
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

FORM = HomNetConfig(width=8, pair_width=12, num_heads=2)
SPLIT = SplitConfig(validation=0.4, test=0.5)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, table_of: TableOf) -> Path:
    """Two hospitals of ten patients, half of them carriers, and a model that learnt nothing."""
    work = tmp_path_factory.mktemp("diagnosis")
    tables = [
        table_of(name, num_patients=10, num_cells=3, abnormal=abnormal, seed=seed)
        for seed, (name, abnormal) in enumerate((("h1", "3"), ("h2", "5")))
    ]
    write_cohort(work / "cohort", tables, scale={"h1": 3.0, "h2": 3.0}, provenance={})
    torch.manual_seed(1)
    provenance = {"learnt_from": [], "validated_on": []}
    Checkpoint(FORM, HomNet(FORM).state_dict(), provenance=provenance).save(work / "model")
    calibrate(_calibrate(work))
    diagnose(_diagnose(work))
    return work


def _calibrate(work: Path, **changes: object) -> CalibrateConfig:
    config = CalibrateConfig(
        cohort=str(work / "cohort"),
        checkpoint=str(work / "model"),
        output=str(work / "calibrated"),
        split=SPLIT,
        min_patients=1,
    )
    return replace(config, **changes)


def _diagnose(work: Path, **changes: object) -> DiagnoseConfig:
    config = DiagnoseConfig(
        cohort=str(work / "cohort"),
        checkpoint=str(work / "calibrated"),
        output=str(work / "diagnosed"),
        patients="test",
        split=SPLIT,
        pages="flagged",
    )
    return replace(config, **changes)


def test_calibration_is_kept_in_checkpoints_and_names_its_patients(work: Path) -> None:
    checkpoint = Checkpoint.load(work / "calibrated" / "h1" / "checkpoint")
    own = checkpoint.patients["h1"]
    assert own.hospitals == ("h1",)
    assert checkpoint.patients[ALL_HOSPITALS].hospitals == ("h1", "h2")
    cohort = Cohort.open(work / "cohort")
    validation = split_patients(cohort.patients, SPLIT)[VALIDATION]
    assert checkpoint.provenance["calibrated_on"] == patient_digests(validation)
    assert own.num_normal + own.num_abnormal == 4
    assert not own.supported
    assert checkpoint.version == Checkpoint.load(work / "model").version


def test_every_test_patient_has_a_verdict_and_the_flagged_a_page(work: Path) -> None:
    output = work / "diagnosed"
    patients = pd.read_parquet(output / "patients.parquet")
    cohort = Cohort.open(work / "cohort")
    assert set(patients["patient_id"]) == split_patients(cohort.patients, SPLIT)[TEST]
    assert len(pd.read_parquet(output / "types.parquet")) == 10 * 23
    for row in patients.to_dict("records"):
        place = output / "patients" / row["hospital"] / row["patient_id"]
        verdict = json.loads(place.with_suffix(".json").read_text())
        assert verdict["decision"] == row["decision"]
        shown = place.with_suffix(".html").exists()
        assert shown == (row["decision"] != "no_abnormality_found")
        link = f'href="patients/{row["hospital"]}/{row["patient_id"]}.html"'
        assert (link in (output / "index.html").read_text()) == shown


def test_an_interrupted_run_keeps_what_it_had(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _diagnose(work, output=str(tmp_path / "again"))

    def first_only(num_blocks: int, work: Callable[[int], object], **_: object) -> list[str]:
        work(0)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(diagnosis, "process_blocks", first_only)
        with pytest.raises(KeyboardInterrupt):
            diagnose(config)
    partial = tmp_path / ".again.partial" / "content" / "blocks"
    kept = {path.name: path.stat().st_mtime_ns for path in partial.iterdir()}
    assert len(kept) == 2
    diagnose(config)
    blocks = tmp_path / "again" / "blocks"
    assert {n: (blocks / n).stat().st_mtime_ns for n in kept} == kept
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "again" / "patients.parquet"),
        pd.read_parquet(work / "diagnosed" / "patients.parquet"),
    )
    with pytest.raises(DataError, match="exists already"):
        diagnose(config)


def test_measuring_leaves_figures_a_page_and_a_record(work: Path, tmp_path: Path) -> None:
    config = MeasureConfig(
        diagnosis=work / "diagnosed",
        cohort=str(work / "cohort"),
        output=tmp_path,
        num_bootstrap=60,
        record=Record("a test", tmp_path / "result.json"),
    )
    figures = measure(config)
    assert figures["overall"]["num_patients"] == 10
    assert set(figures["hospitals"]) == {"h1", "h2"}
    assert read_result(tmp_path / "result.json")["figures"] == json.loads(json.dumps(figures))
    page = (tmp_path / "index.html").read_text()
    assert "Detection limit" in page
    assert page.count("<table>") == 9
    beside = verdicts_markdown({"one": figures, "other": figures}).splitlines()
    sensitivity = figures["hospitals"]["h2"]["sensitivity"]["value"]
    assert beside[2].split(" | ")[2] == beside[3].split(" | ")[2] == f"{sensitivity:.3f}"
    overlooked = figures["overall"]["sensitivity"]
    assert page.count("<h3>overlooked") == min(4, overlooked["total"] - overlooked["count"])


def test_patients_who_chose_anything_are_not_measured(work: Path, tmp_path: Path) -> None:
    diagnose(_diagnose(work, output=str(tmp_path / "all"), patients="all", pages="none"))
    assert not list((tmp_path / "all" / "patients").rglob("*.html"))
    with pytest.raises(ConfigError, match="calibrated on"):
        measure(MeasureConfig(diagnosis=tmp_path / "all", cohort=str(work / "cohort")))
    narrowed = diagnose(
        _diagnose(work, output=str(tmp_path / "h1"), hospitals=("h1",), pages="none")
    )
    own = MeasureConfig(diagnosis=narrowed, cohort=str(work / "cohort"), num_bootstrap=0)
    assert set(measure(own)["hospitals"]) == {"h1"}
    provenance = json.loads((narrowed / "provenance.json").read_text())
    (narrowed / "provenance.json").write_text(json.dumps({**provenance, "cohort": "x"}))
    with pytest.raises(ConfigError, match="another cohort"):
        measure(own)


def test_who_was_learnt_from_calibrates_nothing(work: Path, tmp_path: Path) -> None:
    cohort = Cohort.open(work / "cohort")
    known = sorted(split_patients(cohort.patients, SPLIT)[VALIDATION])[:1]
    model = Checkpoint.load(work / "model")
    provenance = {"learnt_from": patient_digests(known), "validated_on": []}
    replace(model, provenance=provenance).save(tmp_path / "model")
    with pytest.raises(ConfigError, match="learnt from"):
        calibrate(_calibrate(work, checkpoint=str(tmp_path / "model")))
    with pytest.raises(CheckpointError, match="calibrate first"):
        diagnose(_diagnose(work, checkpoint=str(work / "model")))


def test_a_hospital_left_out_is_calibrated_on_the_others_and_registered(
    work: Path, tmp_path: Path
) -> None:
    calibrate(
        _calibrate(
            work, output=str(tmp_path / "left"), leave_out=True, registry=str(tmp_path / "registry")
        )
    )
    checkpoint = Checkpoint.load(tmp_path / "left" / "h1" / "checkpoint")
    assert checkpoint.patients["h1"].hospitals == ("h2",)
    (entry,) = Registry(tmp_path / "registry").entries("h1")
    assert entry.version == checkpoint.digest


def test_a_folder_of_images_becomes_verdicts(work: Path, tmp_path: Path) -> None:
    simulate(
        SimulateConfig(
            output=tmp_path / "cohort",
            images=tmp_path / "images",
            num_healthy=1,
            num_patients=(0, 0, 0, 0),
            healthy_cells=2.0,
            num_files=1,
        )
    )
    output = diagnose(
        _diagnose(
            work,
            manifest=tmp_path / "images" / "manifest.csv",
            checkpoint=str(work / "calibrated" / "h1" / "checkpoint"),
            output=str(tmp_path / "diagnosed"),
            patients="all",
            pages="all",
        )
    )
    patients = pd.read_parquet(output / "patients.parquet")
    assert len(patients) == 1
    (page,) = (output / "patients").rglob("*.html")
    assert page.stat().st_size > 50_000
