"""The comparators by name, and how to read what a checkpoint says of one."""

import dataclasses
from collections.abc import Mapping
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
