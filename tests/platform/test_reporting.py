import json
import re
from pathlib import Path

import pandas as pd
import pytest

from homnet.errors import DataError
from homnet.evaluation.metrics import evaluate
from homnet.files import digest_of
from homnet.patients.metrics import share
from homnet.results import read_json, write_json
from homnet_platform.reporting import ReportConfig, report


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    scores = pd.DataFrame(
        {
            "bag": i,
            "hospital": "north",
            "patients": [f"{split}-{i}"],
            "chromosome": "3",
            "num_pairs": 5,
            "band_level": 400,
            "kind": "ring" if i % 2 else "normal",
            "abnormal": bool(i % 2),
            "event_fraction": 0.2 if i % 2 else None,
            "size_mb": 20.0 if i % 2 else None,
            "score": i / 20,
            "split": split,
        }
        for split in ("validation", "test")
        for i in range(14)
    )
    folder = tmp_path / "evaluation"
    write_json(folder / "evaluation.json", evaluate(scores, seed=0, num_bootstrap=50))
    counts = {"validation": {"pairs": 9, "not assessed": 0}, "test": {"not assessed": 17}}
    write_json(folder / "provenance.json", {"cohort": "ab12", "counts": counts})
    scores.to_parquet(folder / "scores.parquet")
    return folder


def test_job_writes_the_page_and_prints_tables(
    evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = [{"epoch": 0, "train_loss": 0.5, "validation_auc": 0.75}]
    for stage in ("pretrain/checkpoint", "fine_tune/north/checkpoint"):
        write_json(evaluation.parent / stage / "metrics.json", {"history": history})
    runs = evaluation.parent
    checkpoints = (runs / "pretrain/checkpoint", runs / "fine_tune/north/checkpoint")
    report(ReportConfig(evaluation=evaluation, checkpoints=checkpoints))
    page = evaluation / "report" / "index.html"
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"report: {page}"
    assert "| north |" in printed
    text = page.read_text()
    assert "one homolog only, test people: 17 pairs" in text
    assert "validation people" not in text
    assert '<th scope="row">pretrain</th>' in text
    assert '<th scope="row">fine_tune/north</th>' in text


def test_missing_and_damaged_parts_give_one_sentence(evaluation: Path) -> None:
    config = ReportConfig(evaluation=evaluation)
    scores = evaluation / "scores.parquet"
    scores.write_bytes(scores.read_bytes()[:200])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        report(config)
    scores.unlink()
    with pytest.raises(DataError, match=r"no scores here; run jobs/evaluate\.py"):
        report(config)
    (evaluation / "evaluation.json").write_text(json.dumps([1]))
    with pytest.raises(DataError, match="expected a JSON object"):
        report(config)


def test_scores_of_another_evaluation_are_refused(evaluation: Path) -> None:
    """Also those of the same people, of whom as many are abnormal."""
    config = ReportConfig(evaluation=evaluation)
    scores, metrics = evaluation / "scores.parquet", evaluation / "evaluation.json"
    write_json(metrics, {**read_json(metrics), "scores_sha256": digest_of(scores)})
    report(config)
    pd.read_parquet(scores).assign(score=0.5).to_parquet(scores)
    with pytest.raises(DataError, match=r"scores\.parquet: the scores are not those of .*again"):
        report(config)


def test_a_diagnosis_comes_first_with_one_who_was_found_and_one_who_was_missed(
    evaluation: Path,
) -> None:
    diagnosis = evaluation.parent / "diagnosis"
    # Who, truth, verdict and score; the clearest found and the nearest missed are linked.
    people = [
        ("a", True, "abnormal", 2.0),
        ("b", True, "abnormal", 9.0),
        ("c", True, "no_abnormality_found", -3.0),
        ("d", True, "no_abnormality_found", 0.9),
        ("e", False, "abnormal", 30.0),
        ("f", True, "not_assessed", 40.0),
    ]
    joined = pd.DataFrame(people, columns=["patient_id", "true_abnormal", "decision", "score"])
    joined = joined.assign(hospital="north", true_iscn="del(5)(q31)", true_kind="deletion")
    joined["called"] = joined["decision"] == "abnormal"
    joined.loc[joined["patient_id"] == "d", "true_iscn"] = None  # has only a kind, as real ones do
    write = diagnosis / "measured" / "patients.parquet"
    write.parent.mkdir(parents=True)
    joined.to_parquet(write)
    for name in joined["patient_id"]:
        page = diagnosis / "patients" / "north" / f"{name}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(f"page of {name}")
    part = {
        "num_abnormal": 5,
        "num_normal": 1,
        "sensitivity": share(2, 5),
        "cleared": share(0, 1),
        "specificity_of_assessed": share(0, 1),
        "abstained": {"abnormal": {"count": 1}, "normal": {"count": 0}},
    }
    figures = {
        "overall": part,
        "hospitals": {"north": part},
        "specificity": 0.99,
        "calibrations": {"north": {"num_normal": 12}},
    }
    write_json(diagnosis / "measured" / "evaluation.json", figures)
    page = report(ReportConfig(evaluation=evaluation, diagnosis=diagnosis))
    text = page.read_text()
    assert text.index("Of 5 patients") < text.index("tells bags")
    assert text.index('id="patients"') < text.index('id="hospitals"')
    assert "(12 and more)" in text
    links = re.findall(r'<a href="(patients/[^"]+)">([^<]+)</a>', text)
    assert [name for name, _ in links] == ["patients/north/b.html", "patients/north/d.html"]
    assert links[0][1] == "A patient who was found; in truth del(5)(q31)"
    assert links[1][1] == "A patient who was missed; in truth deletion"
    assert [(page.parent / name).read_text() for name, _ in links] == ["page of b", "page of d"]
