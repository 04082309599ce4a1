"""Models that are fitted in one go: what they keep, and what is measured of them."""

from pathlib import Path

import pytest
import torch

from homnet.bags.draw import PairBank
from homnet.errors import DivergedError
from homnet.training.learning import METRIC
from homnet_baselines.fitted import fit
from homnet_baselines.floors import Floor, FloorForm
from homnet_baselines.one_class import OneClassForm


def test_what_is_kept_is_a_buffer_that_is_loaded_in_its_own_shape() -> None:
    one, other = FloorForm().build(), FloorForm().build()
    one.keep(support=torch.arange(6.0).reshape(3, 2), bias=0.5)
    other.keep(support=torch.zeros(1, 2), bias=0.0)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.support, one.support)
    assert other.bias == 0.5
    assert list(one.parameters()) == []


def test_a_fit_is_one_epoch(bank: PairBank, stage_of) -> None:
    metrics = fit(stage_of(FloorForm()), bank).metrics
    assert metrics["history"] == [{"epoch": 0, METRIC: metrics[METRIC]}]
    assert metrics["seconds"] == metrics["seconds_to_best"] > 0
    assert metrics["cpu_seconds"] > 0


def test_epochs_before_an_interruption_count_as_those_after_it(
    bank: PairBank, stage_of, tmp_path: Path
) -> None:
    form, kept = OneClassForm("AE", width=4), tmp_path / "kept"
    fit(stage_of(form, max_epochs=1), bank, kept=kept)
    whole = fit(stage_of(form, max_epochs=2), bank, kept=kept)
    assert [line["epoch"] for line in whole.metrics["history"]] == [0, 1]
    again = fit(stage_of(form, max_epochs=2), bank, kept=kept)  # nothing is left to train
    assert again.version == whole.version
    metrics = whole.metrics
    best = 1 + max((0, 1), key=lambda epoch: metrics["history"][epoch][METRIC])
    assert metrics["seconds_to_best"] == pytest.approx(metrics["seconds"] * best / 2)


def test_scores_that_are_no_numbers_are_refused(
    bank: PairBank, stage_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Floor,
        "forward",
        lambda _, x_BKPCL, *rest: x_BKPCL.new_full(
            x_BKPCL.shape[:1], torch.nan, dtype=torch.float32
        ),
    )
    with pytest.raises(DivergedError, match="not all finite"):
        fit(stage_of(FloorForm()), bank)
