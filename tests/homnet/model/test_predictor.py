"""Prediction: batches do not matter, calibration does what it says."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.special import expit

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import DeviceBank, draw_epoch
from homnet.bags.events import EventConfig
from homnet.calibration.bags import Calibration, calibrate
from homnet.model.network import HomNet, HomNetConfig
from homnet.model.predictor import Predictor

TableOf = Callable[..., pa.Table]


def _predictor(calibration: dict[str, Calibration] | None = None) -> Predictor:
    torch.manual_seed(0)
    return Predictor(HomNet(HomNetConfig(width=8)), calibration or {}, version="v")


@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_scores_do_not_depend_on_the_batch(table_of: TableOf, batch_size: int) -> None:
    bank = PairBank.from_table(table_of())
    epoch = draw_epoch(bank, BagConfig(num_cells=3), EventConfig(), seed=0, epoch=0)
    expected = _predictor().epoch_logits(DeviceBank(bank, "cpu"), epoch, 40)
    got = _predictor().epoch_logits(DeviceBank(bank, "cpu"), epoch, batch_size)
    assert len(got) == len(epoch)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_each_hospital_has_its_own_calibration() -> None:
    predictor = _predictor({"h1": Calibration(threshold=0.2, temperature=2.0, prior=0.1)})
    logit = np.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(predictor.probabilities(logit, "h1"), expit(logit / 2))
    np.testing.assert_allclose(predictor.probabilities(logit, "unknown"), expit(logit))
    assert predictor.of("h1").threshold == 0.2


def test_the_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(0)
    true_logit = rng.normal(0, 2, 20_000)
    label = rng.random(20_000) < expit(true_logit)
    calibration = calibrate(4 * true_logit, label)
    assert calibration.temperature == pytest.approx(4, rel=0.1)
    assert calibration.prior == pytest.approx(label.mean())
    assert calibration.threshold == pytest.approx(0.4, abs=0.1)
