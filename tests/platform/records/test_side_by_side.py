"""Directories, scores and rows of a comparison."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from homnet.bags.draw import BagConfig
from homnet.cohorts.split import TEST, VALIDATION
from homnet.errors import DataError
from homnet.model.network import HomNetConfig
from homnet.model.predictor import Predictor
from homnet.records.beside_paper import HOMNET
from homnet_platform.data import Participants
from homnet_platform.records.side_by_side import (
    METHODS,
    VARIANTS,
    refuse_failed,
    rows_of,
    scored,
    write_scores,
)


@pytest.fixture
def paths(shared: Participants, small: HomNetConfig, tmp_path: Path) -> dict[str, list[Path]]:
    """Scores of two seeds of two forms."""
    found: dict[str, list[Path]] = {}
    for name, form in ((HOMNET, small), ("other", replace(small, width=4))):
        for seed in range(2):
            torch.manual_seed(seed)
            predictor = Predictor(form.build(), {}, version="")
            split = shared.hospitals["h1"]
            frames = scored(shared.bank, split, predictor, BagConfig(num_cells=3), None)
            path = tmp_path / name / f"{seed}.parquet"
            # Six times as many people, so that no replicate lacks a class.
            copies = [
                frame.assign(patients=[[f"{p}-{copy}" for p in bag] for bag in frame["patients"]])
                for copy in range(6)
                for frame in frames
            ]
            write_scores(copies, path)
            found.setdefault(name, []).append(path)
    return found


def test_all_methods_score_the_same_bags(paths: dict[str, list[Path]]) -> None:
    first, *others = (pd.read_parquet(path) for own in paths.values() for path in own)
    assert set(first["split"]) == {VALIDATION, TEST}
    assert first["bag"].tolist() == list(range(len(first)))
    for other in others:
        pd.testing.assert_frame_equal(first.drop(columns="score"), other.drop(columns="score"))
        assert not np.allclose(first["score"], other["score"])


def test_differences_are_paired_by_replicate(paths: dict[str, list[Path]]) -> None:
    full, other = rows_of(paths, 60, METHODS)
    assert (full["method"], other["method"]) == (HOMNET, "other")
    assert {full["hospital"], other["hospital"]} == {"h1"}
    assert "auc_behind" not in full
    for metric in ("auc", "f1"):
        lead = full[metric]["value"] - other[metric]["value"]
        assert other[f"{metric}_behind"]["value"] == pytest.approx(lead)
    less = rows_of(paths, 60, VARIANTS)[1]["auc_less_full"]
    assert less["value"] == pytest.approx(-other["auc_behind"]["value"])
    assert less["low"] == pytest.approx(-other["auc_behind"]["high"])
    # Of the same model there is no difference in any replicate, however wide its own interval is,
    # and so no interval.
    same = rows_of({HOMNET: paths[HOMNET], "copy": paths[HOMNET]}, 60, METHODS)[1]
    assert [same["auc_behind"][name] for name in ("value", "low", "high")] == [0, None, None]
    # The value is the mean over seeds.
    seeds = [rows_of({HOMNET: [path]}, 60, METHODS)[0]["auc"]["value"] for path in paths[HOMNET]]
    assert full["auc"]["value"] == pytest.approx(np.mean(seeds))
    assert rows_of({}, 60, METHODS) == []


def test_scores_of_other_people_are_refused(paths: dict[str, list[Path]]) -> None:
    scores = pd.read_parquet(paths["other"][0])
    scores[~scores["abnormal"]].to_parquet(paths["other"][0])
    with pytest.raises(DataError, match=r"other.0\.parquet: these scores are of other people"):
        rows_of(paths, 60, METHODS)


def test_a_failed_run_is_named_in_the_end() -> None:
    refuse_failed({"failed": []})
    failed = [{"name": "AE", "run": "seed 1", "reason": "the machine is on fire"}]
    with pytest.raises(DataError, match="1 runs failed, the first AE, seed 1: the machine"):
        refuse_failed({"failed": failed})


def test_the_mean_over_hospitals_is_paired_too(paths: dict[str, list[Path]]) -> None:
    """Of two hospitals with the same scores the mean is that of one, and surer."""
    for own in paths.values():
        for path in own:
            scores = pd.read_parquet(path)
            both = [scores.assign(hospital=name) for name in ("h1", "h2")]
            write_scores(both, path)
    rows = rows_of(paths, 400, METHODS)
    assert [row["hospital"] for row in rows] == ["h1", "h2", "mean"] * 2
    one, _, mean = rows[3:]
    for name in ("auc", "auc_behind"):
        assert mean[name]["value"] == pytest.approx(one[name]["value"])
        width, of_mean = (row[name]["high"] - row[name]["low"] for row in (one, mean))
        assert of_mean == pytest.approx(width / np.sqrt(2), rel=0.2)
