"""One-class methods: how they score, what they learn from, and how they are scaled."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.svm import OneClassSVM

from homnet.bags.draw import PairBank
from homnet.training.learning import Learner, train
from homnet.training.supply import Resident
from homnet_baselines.one_class import OneClassForm


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(400, 67, generator=torch.Generator().manual_seed(0))


def test_support_vectors_rank_as_the_exact_machine_does(features: torch.Tensor) -> None:
    model = OneClassForm("OC-SVM", nu=0.3).build()
    model.learn(features, 0)
    machine = OneClassSVM(nu=0.3, gamma="scale").fit(features.double().numpy())
    new = torch.randn(200, 67, generator=torch.Generator().manual_seed(1))
    new *= torch.linspace(0.7, 1.5, 200)[:, None]
    expected = -machine.decision_function(new.double().numpy())
    assert spearmanr(model.distance(new), expected).statistic > 0.98


@pytest.mark.parametrize("method", ["Deep-SVDD", "AE"])
def test_abnormal_bags_teach_nothing(method: str) -> None:
    model = OneClassForm(method).build()  # type: ignore[arg-type]
    score_B = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    model.loss(score_B, torch.tensor([0.0, 1.0, 0.0])).backward()
    assert score_B.grad is not None
    assert score_B.grad.tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("method", ["Deep-SVDD", "AE"])
def test_dropout_is_the_same_after_an_interruption(
    bank: PairBank, stage_of, tmp_path: Path, method: str
) -> None:
    form = OneClassForm(method)  # type: ignore[arg-type]
    stage = stage_of(form, max_epochs=2, checkpoint_steps=2)
    learner = Learner(stage, Resident.of(stage, bank, "cpu"))

    def save_and_stop() -> None:
        learner.checkpoint().save(tmp_path / "last")
        raise InterruptedError

    with pytest.raises(InterruptedError):
        learner.epoch(save=save_and_stop)
    continued, whole = train(stage, bank, kept=tmp_path / "last"), train(stage, bank)
    assert continued.metrics == whole.metrics
    assert continued.version == whole.version


@pytest.mark.parametrize("features", ["profile", "raw"])
def test_normal_pairs_are_scaled_to_mean_0_and_variance_1(
    bank: PairBank, stage_of, features: str
) -> None:
    form = OneClassForm("OC-SVM", features)  # type: ignore[arg-type]
    model = form.build()
    model.fit(stage_of(form), bank)
    pairs, types = torch.tensor(bank.pair_NPCL), torch.tensor(bank.frame["chromosome"].to_numpy())
    score_M = model.scores(pairs, types)
    # Outliers are cut, and what never varies stays 0.
    scaled_MF = model._scaled(pairs, types)
    groups = [scaled_MF] if features == "raw" else [scaled_MF[types == t] for t in types.unique()]
    for group_MF in groups:
        assert group_MF.mean(dim=0).abs().max() < 0.2
        assert 0.8 < group_MF.std(dim=0).median() < 1.1
    assert score_M.median().abs() < 0.01
    low, high = np.quantile(score_M, [0.25, 0.75])
    assert high - low == pytest.approx(1, abs=0.01)
