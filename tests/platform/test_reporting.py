import json
from pathlib import Path

import pandas as pd
import pytest

from homnet.errors import DataError
from homnet.evaluation.metrics import evaluate
from homnet.results import write_json
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
