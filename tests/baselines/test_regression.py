"""Logistic regression against scikit-learn, and what bounds and keeps it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from homnet.bags.draw import PairBank, with_parts
from homnet_baselines.regression import Regression, RegressionForm, fit_logistic


def test_logistic_regression_is_scikit_learns_around_zero() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 7))
    labels = rng.random(300) < 1 / (1 + np.exp(-features[:, 0] + 2 * features[:, 3] - 0.4))
    weight, bias = fit_logistic(features, labels, 0.02, np.zeros(7), 0.0)
    other = LogisticRegression(C=1 / (0.02 * 300), tol=1e-8).fit(features, labels)
    np.testing.assert_allclose(weight, other.coef_[0], atol=1e-3)
    assert bias == pytest.approx(other.intercept_[0], abs=1e-3)


def test_a_strong_prior_keeps_the_parents_coefficients() -> None:
    rng = np.random.default_rng(0)
    features, before = rng.normal(size=(40, 5)), np.array([1.0, -2.0, 0.5, 0.0, 3.0])
    labels = rng.random(40) < 0.5
    near, _ = fit_logistic(features, labels, 1e4, before, 0.0)
    far, _ = fit_logistic(features, labels, 1e-3, before, 0.0)
    np.testing.assert_allclose(near, before, atol=1e-3)
    assert np.abs(far - before).max() > 0.5


def test_fine_tuning_keeps_the_scaling(bank: PairBank, stage_of) -> None:
    model = Regression(RegressionForm(max_bags=64))
    stage = stage_of(model.form, max_epochs=1)
    train_bank, _ = stage.parts(bank)
    model.fit(stage, train_bank)
    scaling = model.centre_TF.clone()
    model.fit(stage, train_bank.of_patients([train_bank.frame["patient_id"].iloc[0]]))
    assert torch.equal(model.centre_TF, scaling)


def test_epochs_that_share_a_pass_have_each_their_part_of_the_people(
    table_of: Callable[..., pa.Table], stage_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [table_of(f"h{n}", num_patients=2, chromosomes=("1", "7")) for n in range(3)]
    bank = PairBank.from_table(pa.concat_tables(map(with_parts, tables, range(3))))
    people = frozenset(bank.frame["patient_id"])
    stage = stage_of(RegressionForm(), max_epochs=3, epochs_per_pass=3)
    stage = replace(stage, train_patients=people, validation_patients=frozenset())
    labels_of = []

    def spy(features: np.ndarray, labels: np.ndarray, *rest: object) -> tuple[np.ndarray, float]:
        labels_of.append(len(labels))
        return np.zeros(features.shape[1]), 0.0

    monkeypatch.setattr("homnet_baselines.regression.fit_logistic", spy)
    RegressionForm().build().fit(stage, bank)
    assert labels_of == [len(stage.train_epoch(bank, 0))]


def test_budget_ends_the_drawing_of_bags(
    bank: PairBank, stage_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(features: np.ndarray, labels: np.ndarray, *rest: object) -> tuple[np.ndarray, float]:
        seen.append(len(labels))
        return np.zeros(features.shape[1]), 0.0

    monkeypatch.setattr("homnet_baselines.regression.fit_logistic", spy)
    num_bags = len(stage_of(RegressionForm()).train_epoch(stage_of(None).parts(bank)[0], 0))
    for max_bags, max_epochs in ((50, 9), (num_bags + 3, 9), (10_000, 2)):
        form = RegressionForm(max_bags=max_bags)
        stage = stage_of(form, max_epochs=max_epochs)
        form.build().fit(stage, stage.parts(bank)[0])
    assert seen == [50, num_bags + 3, 2 * num_bags]
