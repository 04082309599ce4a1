"""One-class methods against the libraries that fit them."""

from importlib import import_module

import numpy as np
import pytest
import torch
from sklearn.svm import OneClassSVM

from homnet_baselines.one_class import OneClassForm


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(200, 67, generator=torch.Generator().manual_seed(0))


def test_support_vectors_score_as_scikit_learn_does(features: torch.Tensor, stage_of) -> None:
    form = OneClassForm("OC-SVM", nu=0.2)
    model = form.build()
    model.learn(features, stage_of(form))
    machine = OneClassSVM(nu=0.2, gamma="scale").fit(features.double().numpy())
    new = torch.randn(30, 67, generator=torch.Generator().manual_seed(1)) * 1.3
    expected = -machine.decision_function(new.double().numpy())
    np.testing.assert_allclose(model.distance(new), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("method", "module", "name"),
    [
        ("Deep-SVDD", "pyod.models.deep_svdd", "DeepSVDD"),
        ("AE", "pyod.models.auto_encoder", "AutoEncoder"),
    ],
)
def test_networks_score_as_pyod_does(
    method: str,
    module: str,
    name: str,
    features: torch.Tensor,
    stage_of,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detectors = []
    detector_type = getattr(import_module(module), name)
    whole = detector_type.fit

    def kept(self: object, *data: object) -> object:
        detectors.append(self)
        return whole(self, *data)

    monkeypatch.setattr(detector_type, "fit", kept)
    form = OneClassForm(method, width=16, bottleneck=4)  # type: ignore[arg-type]
    model = form.build()
    model.learn(features, stage_of(form, max_epochs=2))
    model.eval()
    new = torch.randn(30, 67, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = model.distance(new)
    np.testing.assert_allclose(found, detectors[0].decision_function(new.numpy()), rtol=1e-4)


def test_global_generators_are_left_alone(features: torch.Tensor, stage_of) -> None:
    form = OneClassForm("AE")
    model = form.build()
    before = (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
    model.learn(features, stage_of(form, max_epochs=1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
