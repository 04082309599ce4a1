"""The comparators by name, and how to read what a checkpoint says of one."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from homnet.bag_model import Form
from homnet.errors import CheckpointError
from homnet.model import HomNetConfig
from homnet_baselines.floors import FloorForm
from homnet_baselines.networks import NetworkForm, SiameseForm, View
from homnet_baselines.one_class import OneClassForm
from homnet_baselines.regression import RegressionForm

FLOORS: Final = ("Length ratio", "Aligned correlation")
"""What the paper lacks."""
_FORMS: Final[Mapping[str, type]] = {
    "Length ratio": FloorForm,
    "Aligned correlation": FloorForm,
    "LR": RegressionForm,
    "OC-SVM": OneClassForm,
    "Deep-SVDD": OneClassForm,
    "AE": OneClassForm,
    "MLP-Mixer": NetworkForm,
    "ViT": NetworkForm,
    "ResNet": NetworkForm,
    "Xception": NetworkForm,
    "MobileNet": NetworkForm,
    "DenseNet": NetworkForm,
    "Siamese": SiameseForm,
}


@dataclass(frozen=True)
class Trials:
    """What a method has to be tuned, as many values for each; by default its learning rate."""

    knob: str = "learning_rate"
    """A field of the training, or of the form."""
    pretraining: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    """Values around the paper's 1e-3."""
    fine_tuning: tuple[float, ...] = (1e-5, 1e-4, 1e-3)
    """Values from the paper's 1e-5 on."""
    in_steps: bool = True
    """Whether it learns step by step."""


_NOTHING: Final = Trials(pretraining=(), fine_tuning=(), in_steps=False)
_ONE_CLASS: Final = Trials(fine_tuning=(), in_steps=False)
TRIALS: Final[Mapping[str, Trials]] = {
    "Length ratio": _NOTHING,
    "Aligned correlation": _NOTHING,
    "LR": Trials("penalty", (1e-4, 1e-3, 1e-2), (1e-2, 1e-1, 1.0), in_steps=False),
    "OC-SVM": Trials("nu", (0.03, 0.1, 0.3), (), in_steps=False),
    "Deep-SVDD": _ONE_CLASS,
    "AE": _ONE_CLASS,
}
"""Where it is not the learning rate in steps. One-class methods learn from healthy people only, so
that a hospital gives them a threshold and nothing else."""


def comparators(setting: Literal["paper", "best"], width: int = 16) -> dict[str, Form]:
    """Two floors and the paper's eleven baselines, in the order of its tables.

    Args:
        setting: what they see. ``"paper"``: the samples as they are, also for the one-class
            methods. ``"best"``: what HomNet's best form sees, and features for the one-class ones.
        width: of the networks.
    """
    view: View = "absolute" if setting == "paper" else "stretched"
    forms: dict[str, Form] = {}
    for name, form in _FORMS.items():
        more: dict[str, Any] = {}
        if form is OneClassForm:
            more = {"features": "raw" if setting == "paper" else "profile"}
        elif form in (NetworkForm, SiameseForm):
            more = {"view": view, "width": width}
        forms[name] = form(method=name, **more)
    return forms


def read_form(**content: Any) -> Form:
    """The form that ``config.json`` of a checkpoint holds, of HomNet or of a comparator.

    For :meth:`homnet.checkpoint.Checkpoint.load`.

    Raises:
        CheckpointError: this version does not know the method or one of its settings.
    """
    method = content.get("method")
    form = HomNetConfig if method is None else _FORMS.get(method)
    known = set() if form is None else {field.name for field in dataclasses.fields(form)}
    if form is None or not known.issuperset(content):
        raise CheckpointError(
            f"the checkpoint is of a model that this version does not know ({method or 'HomNet'}, "
            f"{', '.join(sorted(set(content) - known)) or 'no settings'}); train it again"
        )
    made: Form = form(**content)
    return made
