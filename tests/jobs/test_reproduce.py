"""The job of the paper's tables: its lines, and what it writes."""

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
from homnet.records.beside_paper import PAPER_FORM
from homnet.records.rendering import result_tables
from homnet.results import Record
from homnet_platform.job import run_job
from homnet_platform.records.plan import RECIPES, ReproduceConfig

ROOT = Path(__file__).parents[2]


def _job(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "jobs" / "records" / f"{name}.py")
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    return job


@pytest.fixture(scope="module")
def job() -> ModuleType:
    return _job("reproduce")


def test_all_lines_of_the_paper_are_there_and_tried_alike(job: ModuleType) -> None:
    methods = job.methods_of(RECIPES["2"])
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
        assert len({tuple(sorted(trial.items())) for trial in method.trials}) == 4
    facts = job.facts(RECIPES["2"])
    assert facts["trials"] == "52 of 5 minutes of one core"
    # 13 methods learn: 52 trials and 13 trainings, and two more of one method or of all.
    assert facts["hours of one core"].startswith("at most 9.3, or 17.3 if all run")
    assert job.facts(RECIPES["5"])["trials"].startswith("0 of")
    variants = replace(RECIPES["4"], methods=("HomNet", "w/o bag"))
    assert job.facts(variants)["methods"] == "HomNet, w/o bag"
    assert job.facts(variants)["hours of one core"].startswith("at most 1.3, or 2.0 if all")


def test_settings_reach_baselines_and_variants(job: ModuleType) -> None:
    views = {
        setting: (
            job.methods_of(replace(RECIPES["2"], setting=setting))["ResNet"].form.view,
            job.methods_of(replace(RECIPES["ablate"], setting=setting))["w/o bag"].form.view,
        )
        for setting in ("best", "paper")
    }
    assert views == {"best": ("stretched",) * 2, "paper": ("absolute",) * 2}


def test_the_command_line_sets_what_methods_share(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[ReproduceConfig] = []
    options = ["--cohort", "c", "--minutes", "0.5", "--training.batch-size", "3", "--seeds", "4"]
    run_job(RECIPES, seen.append, description=None, args=["3", *options, "--methods", "HomNet"])
    comparison = RECIPES["3"].comparison
    assert seen == [
        replace(
            RECIPES["3"],
            methods=("HomNet",),
            comparison=replace(
                comparison,
                cohort="c",
                minutes=0.5,
                seeds=(4,),
                training=replace(comparison.training, batch_size=3),
            ),
        )
    ]
    with pytest.raises(SystemExit):
        run_job(RECIPES, seen.append, description=None, args=["2", "--minutes", "-1"])
    assert capsys.readouterr().err.startswith("error: minutes must be 0 or more")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_table_and_its_record_and_picture(
    job: ModuleType,
    table_of: Callable[..., pa.Table],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables = [
        table_of("healthy-1", num_patients=8, chromosomes=("1", "13")),
        table_of("h1", num_patients=8, abnormal="13", chromosomes=("1", "13")),
    ]
    write_cohort(tmp_path / "cohort", tables, scale={"healthy-1": 3.0, "h1": 3.0}, provenance={})
    shares = SplitConfig(validation=0.25, test=0.5)  # one of each class in each part of "h1"
    recipe = RECIPES["2"]
    config = replace(
        recipe,
        comparison=replace(
            recipe.comparison,
            cohort=str(tmp_path / "cohort"),
            minutes=0.001,
            seeds=(0,),
            split=shares,
            hospital_split=shares,
            num_bootstrap=60,
        ),
        methods=("Length ratio", "OC-SVM"),
        output=str(tmp_path / "table"),
        picture=tmp_path / "docs" / "table-2.png",
        record=Record("a claim", tmp_path / "table-2.json"),
    )
    monkeypatch.setattr("sys.argv", ["jobs/records/reproduce.py"])
    job.main(config)
    table = (tmp_path / "table" / "table-2.md").read_text()
    assert "| Method | AUC, h1 | paper, Hos#1 |" in table
    assert "Best validation AUC by features: OC-SVM" in table
    assert (tmp_path / "docs" / "table-2.png").stat().st_size > 10_000
    result = json.loads((tmp_path / "table-2.json").read_text())
    assert result["recipe"] == "table 2, best setting, 0.001 minutes"
    figures = result["figures"]["reproduction"]
    assert figures["peak_memory_gib"] > 0
    assert [row["method"] for row in figures["rows"]] == list(config.methods)
    assert {row["hospital"] for row in figures["rows"]} == {"h1"}
    assert result_tables(result["figures"]) == table


@pytest.mark.parametrize(
    ("table", "function", "record", "kind", "heading"),
    [
        ("4", "reproduce", "table-4", "ablation", "| Minus HomNet | hospital-1: AUC |"),
        ("5", "time_methods", "table-5", "running_time", "| Method | Parameters |"),
        ("ablate", "reproduce", "ablate-images", "ablation", "| Variant | pki3: AUC |"),
    ],
)
def test_every_table_of_record_is_written_and_drawn(
    job: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    function: str,
    record: str,
    kind: str,
    heading: str,
) -> None:
    content = json.loads((ROOT / "results" / f"{record}.json").read_text())
    figures = {"failed": [], **content["figures"][kind]}
    monkeypatch.setattr(job, function, lambda *_: figures)
    job.main(replace(RECIPES[table], output=str(tmp_path)))
    assert heading in (tmp_path / f"table-{table}.md").read_text()
    assert (tmp_path / f"table-{table}.png").stat().st_size > 10_000
    kept = json.loads((tmp_path / f"table-{table}.json").read_text())
    assert kept == figures
