"""The comparators by name, and how to read what a checkpoint says of one."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from homnet.errors import CheckpointError
from homnet.model.contract import Form
from homnet.model.network import HomNetConfig
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


Trial = Mapping[str, float | int | str]
"""Fields of the training or of the form, by name, and the values that one trial gives them."""


@dataclass(frozen=True)
class Trials:
    """What a method is tried with."""

    pretraining: tuple[Trial, ...]
    """Trials of the pre-training: four for whatever learns."""
    fine_tuning: tuple[Trial, ...] = ()
    """Trials of the fine-tuning: two for whatever learns from labels."""
    in_steps: bool = True
    """Whether it learns step by step, so that a step can be timed."""


def _each(name: str, *values: float) -> tuple[Trial, ...]:
    return tuple({name: value} for value in values)


def in_steps(*sizes: Trial) -> Trials:
    """Trials of a network: two learning rates, each with every size.

    Args:
        sizes: fields that make it small or large.
    """
    return Trials(
        tuple({"learning_rate": rate, **size} for size in sizes for rate in (1e-3, 3e-3)),
        _each("learning_rate", 1e-5, 1e-4),
    )


_SIZES: Final = in_steps({"width": 8}, {"width": 16})
_NOTHING: Final = Trials((), in_steps=False)
# Two of each of features, rate and size, and no two of them always together.
_ONE_CLASS: Final = Trials(
    (
        {"features": "profile", "learning_rate": 1e-3, "width": 32},
        {"features": "profile", "learning_rate": 3e-3, "width": 128},
        {"features": "raw", "learning_rate": 3e-3, "width": 32},
        {"features": "raw", "learning_rate": 1e-3, "width": 128},
    ),
    in_steps=False,
)
_TRIALS: Final[Mapping[str, Trials]] = {
    "Length ratio": _NOTHING,
    "Aligned correlation": _NOTHING,
    "LR": Trials(
        _each("penalty", 1e-4, 1e-3, 1e-2, 1e-1), _each("penalty", 1e-1, 1.0), in_steps=False
    ),
    "OC-SVM": Trials(
        tuple({"features": f, "nu": nu} for f in ("profile", "raw") for nu in (0.05, 0.3)),
        in_steps=False,
    ),
    "Deep-SVDD": _ONE_CLASS,
    "AE": _ONE_CLASS,
}


def trials_of(name: str) -> Trials:
    """What a comparator is tried with.

    As many trials for each: learning rate and size of networks; features (the paper's raw samples
    and ours), learning rate and size, or the share left outside, of one-class methods; the penalty
    of the regression, which has no size. One-class methods never see a label, so that fine-tuning
    gives them a threshold and nothing else, and floors have nothing to try.
    """
    return _TRIALS.get(name, _SIZES)


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
            # The time of OC-SVM grows with the square of the pairs.
            most = 4_000 if name == "OC-SVM" else 10_000
            more = {"max_pairs": most, "features": "raw" if setting == "paper" else "profile"}
        elif form in (NetworkForm, SiameseForm):
            more = {"view": view, "width": width}
        forms[name] = form(method=name, **more)
    return forms


def read_form(**content: Any) -> Form:
    """The form that ``config.json`` of a checkpoint holds, of HomNet or of a comparator.

    For :meth:`homnet.model.checkpoint.Checkpoint.load`.

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
