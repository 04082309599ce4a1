"""Diagnosis of patients as the job calls it: verdicts, pages, and interruptions."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, split_patients
from homnet.errors import CheckpointError, CohortError, ConfigError, DataError
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.patients.diagnostician import Diagnostician
from homnet.patients.diagnostician import diagnose as verdicts_of
from homnet.patients.verdict import VerdictConfig
from homnet.simulator.cohort import simulate_person
from homnet.simulator.karyograms import KaryogramStyle, draw_karyogram
from homnet.simulator.laboratory import HospitalConfig, Laboratory
from homnet_platform.data import rows_of
from homnet_platform.ingest import KEY_VARIABLE, report_of
from homnet_platform.karyograms import KaryogramConfig
from homnet_platform.patients import diagnosis
from homnet_platform.patients.diagnosis import DiagnoseConfig, _require_file_names, diagnose
from homnet_platform.simulate import SimulateConfig, simulate

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def test_every_test_patient_has_a_verdict_and_the_flagged_a_page(diagnosed: Any) -> None:
    output = diagnosed.output
    patients = pd.read_parquet(output / "patients.parquet")
    assert (
        set(patients["patient_id"])
        == split_patients(diagnosed.cohort.patients, diagnosed.calibration.split)[TEST]
    )
    assert len(pd.read_parquet(output / "types.parquet")) == 10 * 23
    for row in patients.to_dict("records"):
        place = output / "patients" / row["hospital"] / row["patient_id"]
        verdict = json.loads(place.with_suffix(".json").read_text())
        assert verdict["decision"] == row["decision"]
        shown = place.with_suffix(".html").exists()
        assert shown == (row["decision"] != "no_abnormality_found")
        link = f'href="patients/{row["hospital"]}/{row["patient_id"]}.html"'
        assert (link in (output / "index.html").read_text()) == shown


def test_verdicts_follow_the_settings_of_the_run(diagnosed: Any, tmp_path: Path) -> None:
    config = replace(
        diagnosed.diagnosis,
        output=str(tmp_path / "rare"),
        verdict=VerdictConfig(prevalence=0.01, min_band_level=850),
    )
    output = diagnose(config)
    patients = pd.read_parquet(str(output / "patients.parquet"))
    usual = pd.read_parquet(diagnosed.output / "patients.parquet")
    assert set(patients["prevalence"]) == {0.01}
    assert patients["score"].tolist() == usual["score"].tolist()
    assert (patients["probability"] < usual["probability"]).all()
    assert set(patients["decision"]) == {"not_assessed"}  # no cell has such bands
    for row in patients.to_dict("records"):
        place = output / "patients" / row["hospital"] / f"{row['patient_id']}.json"
        verdict = json.loads(place.read_text())
        assert verdict["prevalence"] == 0.01
        assert verdict["probability"] == row["probability"]


def test_each_hospital_is_judged_by_its_own_model(diagnosed: Any, tmp_path: Path) -> None:
    first, second = (
        Checkpoint.load(diagnosed.calibrated / name / "checkpoint") for name in ("h1", "h2")
    )
    # Weights of its own, and a calibration of its own, which is that of h1 with another threshold.
    own = replace(first.patients["h1"], hospitals=("h2",), threshold=-7.0)
    second = replace(second, weights=second.config.build().state_dict(), patients={"h2": own})
    for name, model in (("h1", first), ("h2", second)):
        model.save(tmp_path / "models" / name / "checkpoint")
    config = replace(
        diagnosed.diagnosis,
        checkpoint=str(tmp_path / "models"),
        output=str(tmp_path / "out"),
        pages="none",
    )
    patients = pd.read_parquet(str(diagnose(config) / "patients.parquet"))
    test = split_patients(diagnosed.cohort.patients, config.split)[TEST]
    for name, model in (("h1", first), ("h2", second)):
        table = rows_of(diagnosed.cohort.of_hospitals([name]).read(), test)
        verdicts = verdicts_of(Diagnostician(model), Predictor.of_checkpoint(model), table)
        rows = patients[patients["hospital"] == name].set_index("patient_id")
        assert set(rows.index) == {one.patient_id for one in verdicts}
        for one in verdicts:
            assert rows["score"][one.patient_id] == pytest.approx(one.score, abs=1e-5)
            assert rows["threshold"][one.patient_id] == one.threshold
            assert rows["decision"][one.patient_id] == one.decision


def test_an_interrupted_run_keeps_what_it_had(
    diagnosed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(diagnosed.diagnosis, output=str(tmp_path / "again"))

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
        pd.read_parquet(diagnosed.output / "patients.parquet"),
    )
    with pytest.raises(DataError, match="exists already"):
        diagnose(config)


def test_a_folder_of_images_becomes_verdicts(
    diagnosed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    config = replace(
        diagnosed.diagnosis,
        manifest=tmp_path / "images" / "manifest.csv",
        checkpoint=str(diagnosed.calibrated / "h1" / "checkpoint"),
        output=str(tmp_path / "diagnosed"),
        patients="all",
        pages="all",
    )
    rows = config.manifest.read_text()
    named = config.manifest.with_name("named.csv")
    named.write_text(re.sub(",[^,]*(,[^,]*,(?:[0-9]+|X|Y),[01])", r",2023/4\1", rows))
    with pytest.raises(DataError, match="patient_id '2023/4' is not a valid page name"):
        diagnose(replace(config, manifest=named))
    with pytest.raises(CheckpointError, match=r"for sequences of 3 .* have 1\.5;"):
        diagnose(replace(config, samples_per_px=1.5))
    output = diagnose(config)
    patients = pd.read_parquet(output / "patients.parquet")
    assert len(patients) == 1
    (page,) = (output / "patients").rglob("*.html")
    assert page.stat().st_size > 50_000

    with pytest.raises(DataError, match="exists already; remove it or choose another --output"):
        diagnose(config)
    shutil.rmtree(output)
    with pytest.raises(ConfigError, match="another --output"):
        diagnose(replace(config, band_level=400))
    with monkeypatch.context() as patch:
        patch.setenv(KEY_VARIABLE, "a key of sixteen bytes")
        with pytest.raises(ConfigError, match=r"\(no\) pseudonym key; remove"):
            diagnose(config)
    with monkeypatch.context() as patch:
        patch.setattr(diagnosis, "PROGRAM", 0)
        with pytest.raises(ConfigError, match="by another version"):
            diagnose(config)
    cohort = tmp_path / "diagnosed-cohort"
    report = report_of(cohort).rename(tmp_path / "aside")
    with pytest.raises(DataError, match=r"diagnosed-cohort-extraction\.csv: there is no such file"):
        diagnose(config)
    report.rename(report_of(cohort))
    image = sorted(config.manifest.parent.rglob("*.png"))[0]
    Image.fromarray(255 - (255 - np.asarray(Image.open(image))) // 2).save(image)
    old = f"remove {cohort} and {report_of(cohort)}, or choose another --output"
    with pytest.raises(ConfigError, match=f"measured from another manifest or other images.*{old}"):
        diagnose(config)


def test_a_model_that_is_replaced_during_a_run_ends_it(
    diagnosed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = shutil.copytree(diagnosed.calibrated, tmp_path / "calibrated")

    def replaced_meanwhile(num_blocks: int, work: Callable[[int], object], **_: object) -> None:
        for place in models.glob("*/checkpoint"):
            before = Checkpoint.load(place)
            replace(before, metrics={**before.metrics, "again": 1}).save(place)
        work(0)

    monkeypatch.setattr(diagnosis, "process_blocks", replaced_meanwhile)
    config = replace(diagnosed.diagnosis, checkpoint=str(models), output=str(tmp_path / "out"))
    with pytest.raises(CheckpointError, match="checkpoint: was replaced since this run began"):
        diagnose(config)


@pytest.mark.parametrize(
    ("rows", "settings", "kind", "message"),
    [
        ("a.png,p 1,1,\n", {}, DataError, "patient_id 'p 1' is not a valid page name"),
        ("a.png,p,1,\nb.png,p,2,h2\n", {}, CohortError, "patient p is in hospital 'h1' and in"),
        ("a.png,p,1,\nb.png,P,2,\n", {}, DataError, "differ in upper and lower case only"),
        ("a.png,p,1,\n", {"checkpoint": "none"}, CheckpointError, "neither a checkpoint nor"),
        ("a.png,p,1,\n", {"checkpoint": ""}, CheckpointError, "not calibrated for whole patients"),
        ("a.png,p,1,\n", {"output": "."}, DataError, "exists already"),
    ],
)
def test_mistakes_are_found_before_karyograms_are_cut(
    diagnosed: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: str,
    settings: dict[str, str],
    kind: type[Exception],
    message: str,
) -> None:
    def cut(*_: object, **__: object) -> NoReturn:
        raise AssertionError("pages were cut")

    monkeypatch.setattr(diagnosis, "cut_karyograms", cut)
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    cells = tmp_path / "cells.csv"
    cells.write_text(f"path,patient_id,cell_id,hospital\n{rows}")
    places = {name: str(tmp_path / value) for name, value in settings.items()}
    if settings.get("checkpoint") == "":
        places["checkpoint"] = str(diagnosed.model)
    config = replace(
        diagnosed.diagnosis,
        karyograms=tmp_path,
        karyogram=KaryogramConfig(cells=cells),
        hospital="h1",
        output=str(tmp_path / "out"),
    )
    with pytest.raises(kind, match=message):
        diagnose(replace(config, **places))


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ([("h", "a" * 201)], "patient_id 'a{20}...' has 201 bytes, and the name .* at most 200"),
        ([("h", "Q1"), ("h", "p"), ("h", "q1")], "'Q1' and 'q1' of hospital 'h' differ in upper"),
        ([("H", "p"), ("h", "P")], "differ in upper and lower case only"),
        ([("h", "../p")], "is not a valid page name"),
    ],
)
def test_names_that_cannot_be_those_of_pages(people: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _require_file_names(people)
    _require_file_names([("h", "a" * 200), ("h", "p"), ("n", "q"), ("h", "p")])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hospital": "north"}, "--hospital is for images .*; --hospitals selects"),
        ({"band_level": 400}, "--band-level is for images"),
        ({"samples_per_px": 3.0}, "--samples-per-px is for images"),
        ({"turn": "never"}, "of a cohort are not turned"),
        ({"karyogram": KaryogramConfig(px_per_um=20.0)}, r"--karyogram\.\* is for --karyograms"),
        (
            {"manifest": Path("m.csv"), "karyogram": KaryogramConfig(px_per_um=20.0)},
            r"--karyogram\.\* is for --karyograms",
        ),
        ({"karyograms": Path("k"), "hospital": "St. Mary"}, r"--hospital is 'St\. Mary'; use"),
        ({"manifest": Path("m.csv"), "band_level": 500}, "--band-level is 500; give one of"),
    ],
)
def test_options_that_are_wrong_or_without_a_use(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DiagnoseConfig(**settings)


@pytest.mark.slow
def test_a_folder_of_karyograms_becomes_verdicts(
    diagnosed: Any,
    tmp_path: Path,
    images_of_cell: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One patient has a page that can be read and one that cannot, others only blank ones."""
    folder = tmp_path / "karyograms"
    folder.mkdir()
    laboratory = replace(Laboratory(), band_levels=(0.0, 0.0, 1.0, 0.0), bend=0.2)
    person = simulate_person(11, HospitalConfig("h", laboratory, abnormal_fraction=0.0), 0, 2.0)
    images = images_of_cell(person, person["cell_id"][0].as_py(), seed=1)
    drawn = draw_karyogram(images, KaryogramStyle(width_px=1000), np.random.default_rng(0))
    Image.fromarray(drawn.image).save(folder / "p_1.png")
    for name in ("p_2.png", "q_1.png", "r_1.png"):
        Image.new("L", (400, 300), 255).save(folder / name)
    cells = tmp_path / "cells.csv"
    cells.write_text(
        "path,patient_id,cell_id,hospital\n"
        "p_1.png,p,1,\np_2.png,p,2,\nq_1.png,q,1,\nr_1.png,r,1,north\n"
    )
    config = replace(
        diagnosed.diagnosis,
        karyograms=folder,
        karyogram=KaryogramConfig(cells=cells),
        checkpoint=str(diagnosed.calibrated / "h1" / "checkpoint"),
        output=str(tmp_path / "diagnosed"),
        patients="all",
        pages="all",
    )
    output = diagnose(config)
    assert "no picture of north could be used" in capsys.readouterr().out
    made = Cohort.open(tmp_path / "diagnosed-cohort").provenance
    assert made["settings"]["turn"] == "karyograms"
    verdict = json.loads((output / "patients/hospital/q.json").read_text())
    assert verdict["decision"] == "not_assessed"
    assert verdict["notes"][-1] == "A picture could not be used: q_1.png (the page is blank)."
    page = (output / "patients/hospital/p.html").read_text()
    assert "Pictures that were sent" in page
    assert "<strong>Not used:</strong> the page is blank" in page
    listed = (output / "index.html").read_text()
    assert "Pictures not used" in listed
    assert re.findall(r'<td class="num">(\d)</td>\s*</tr>', listed) == ["1", "1"]
    shutil.rmtree(output)
    with pytest.raises(ConfigError, match="turn, samples_per_px or"):
        diagnose(replace(config, turn="never"))
    Image.new("L", (400, 500), 255).save(folder / "q_1.png")
    old = "diagnosed-cohort and .*diagnosed-cohort-extraction.csv, or choose"
    with pytest.raises(
        DataError, match=f"cut from other pictures.*remove .*-chromosomes and .*{old}"
    ):
        diagnose(config)
    # With pseudonyms nobody is listed under a name that was sent.
    monkeypatch.setenv(KEY_VARIABLE, "a key of sixteen bytes")
    output = diagnose(replace(config, output=str(tmp_path / "pseudonyms")))
    assert len(pd.read_parquet(output / "patients.parquet")) == 1
