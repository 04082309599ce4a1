"""The paper's tables with real methods, at a size of seconds."""

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from homnet.cohorts.cohort import write_cohort
from homnet.cohorts.split import SplitConfig
from homnet.records import paper
from homnet.records.beside_paper import HOMNET, PAPER_FORM
from homnet.records.rendering import table_of
from homnet_platform.records.paper_table import TableConfig

JOBS = Path(__file__).parents[2] / "jobs"


def _job(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, JOBS / f"{name}.py")
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    return job


@pytest.fixture(scope="module")
def job() -> ModuleType:
    return _job("reproduce")


@pytest.fixture
def config(tmp_path: Path, table_of: Callable[..., pa.Table]) -> TableConfig:
    few = ("1", "2", "13")
    tables = [
        table_of("healthy-1", num_patients=8, chromosomes=few),
        table_of("h1", num_patients=8, abnormal="13", chromosomes=few),
    ]
    write_cohort(tmp_path / "cohort", tables, scale={"healthy-1": 3.0, "h1": 3.0}, provenance={})
    shares = SplitConfig(validation=0.25, test=0.5)  # one of each class in each part of "h1"
    return TableConfig(
        table=2,
        cohort=str(tmp_path / "cohort"),
        output=str(tmp_path / "table"),
        scale=0.01,
        seeds=(0,),
        split=shares,
        hospital_split=shares,
        fine_tuning_epochs=1,
        num_bootstrap=60,
        num_batches=1,
        estimate=False,
    )


def test_all_lines_of_the_paper_are_there_and_tried_alike(
    job: ModuleType, config: TableConfig
) -> None:
    methods = job.methods_of(config)
    assert set(paper.TABLE_2) | {PAPER_FORM, "Length ratio", "Aligned correlation"} == set(methods)
    learn = {name: m for name, m in methods.items() if m.pretraining}
    assert set(methods) - set(learn) == {"Length ratio", "Aligned correlation"}
    assert {len(m.pretraining) for m in learn.values()} == {4}
    with_labels = {name: m for name, m in learn.items() if m.fine_tuning}
    assert set(learn) - set(with_labels) == {"OC-SVM", "Deep-SVDD", "AE"}
    assert {len(m.fine_tuning) for m in with_labels.values()} == {2}
    for name in ("OC-SVM", "Deep-SVDD", "AE"):
        assert [trial["features"] for trial in methods[name].pretraining].count("raw") == 2
    for method in learn.values():
        forms = [method.at(trial, job.plan_of(config).training) for trial in method.trials]
        assert len(set(forms)) == 4


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_table_and_its_record_and_picture(
    job: ModuleType, config: TableConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(
        config,
        methods=("Length ratio", "OC-SVM", HOMNET),
        picture=tmp_path / "docs" / "table-2.png",
        result=tmp_path / "table-2.json",
        claim="a claim",
    )
    monkeypatch.setattr("sys.argv", ["jobs/records/reproduce.py"])
    job.main(config)
    table = (tmp_path / "table" / "table-2.md").read_text()
    assert "| Method | AUC, h1 | paper, Hos#1 |" in table
    assert "Best validation AUC by features: OC-SVM" in table
    assert (tmp_path / "docs" / "table-2.png").stat().st_size > 10_000
    result = json.loads((tmp_path / "table-2.json").read_text())
    figures = result["figures"]["reproduction"]
    assert figures["peak_memory_gib"] > 0
    assert [row["method"] for row in figures["rows"]] == list(config.methods)
    assert {row["hospital"] for row in figures["rows"]} == {"h1"}
    assert table_of(result["figures"]) == table


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_ablations_and_times_as_tables(
    job: ModuleType, config: TableConfig, tmp_path: Path
) -> None:
    job.main(
        replace(config, table=4, output=str(tmp_path / "four"), variants=("HomNet", "w/o bag"))
    )
    table = (tmp_path / "four" / "table-4.md").read_text()
    assert "| Minus HomNet | h1: AUC | h1: F1 |" in table
    assert f"| {paper.TABLE_4['w/o bag'][0][0] / 100:.3f} |" in table
    assert (tmp_path / "four" / "table-4.png").is_file()
    job.main(replace(config, table=5, output=str(tmp_path / "five"), methods=("AE", "MobileNet")))
    table = (tmp_path / "five" / "table-5.md").read_text()
    assert table.count("| AE |") == table.count("| MobileNet |") == 1
    assert (tmp_path / "five" / "table-5.png").is_file()


def test_paper_samples_for_the_baselines(job: ModuleType, config: TableConfig) -> None:
    views = {
        setting: job.methods_of(replace(config, setting=setting))["ResNet"].form.view
        for setting in ("best", "paper")
    }
    assert views == {"best": "stretched", "paper": "absolute"}
