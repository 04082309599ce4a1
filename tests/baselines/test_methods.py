"""The comparators of the paper and their forms by name."""

import dataclasses
import subprocess
import sys

import pytest

from homnet.errors import CheckpointError, ConfigError
from homnet_baselines.methods import comparators, read_form
from homnet_baselines.networks import NetworkForm, SiameseForm
from homnet_baselines.one_class import OneClassForm
from homnet_baselines.regression import RegressionForm


def test_all_twelve_of_the_paper_but_homnet_and_two_floors() -> None:
    assert list(comparators("paper")) == [
        *("Length ratio", "Aligned correlation"),
        *("LR", "OC-SVM", "Deep-SVDD", "AE", "MLP-Mixer", "ViT", "ResNet"),
        *("Xception", "MobileNet", "DenseNet", "Siamese"),
    ]
    for form in (*comparators("paper").values(), *comparators("best").values()):
        assert read_form(**dataclasses.asdict(form)) == form


def test_forms_are_known_where_a_method_cannot_be_computed() -> None:
    # A server without these packages rolls a model back with jobs/registry.py, which knows all
    # forms.
    code = "import sys\nfor name in ('dtaidistance', 'monai', 'pyod'): sys.modules[name] = None\n"
    code += "import homnet_baselines.methods"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("content", [{"method": "VGG"}, {"method": "LR", "depth": 3}])
def test_unknown_methods_and_settings_are_refused(content) -> None:
    with pytest.raises(CheckpointError, match="does not know"):
        read_form(**content)


@pytest.mark.parametrize(
    "make",
    [
        lambda: NetworkForm(width=1),
        lambda: SiameseForm(margin=0.0),
        lambda: OneClassForm(nu=0.0),
        lambda: RegressionForm(penalty=0.0),
    ],
)
def test_impossible_settings_are_refused(make) -> None:
    with pytest.raises(ConfigError, match="got"):
        make()
