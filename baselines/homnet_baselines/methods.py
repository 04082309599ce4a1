"""The baselines by name, their tuning trials, and how to read their form from a checkpoint."""

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
"""Values of one trial, by name of a field of the training config or the form."""


@dataclass(frozen=True)
class Trials:
    """Tuning trials of a method."""

    pretraining: tuple[Trial, ...]
    """Trials of the pre-training: four for every method that is trained."""
    fine_tuning: tuple[Trial, ...] = ()
    """Trials of the fine-tuning: two for every method that uses labels."""
    in_steps: bool = True
    """Whether it is trained in steps, not fitted in one go."""


def _each(name: str, *values: float) -> tuple[Trial, ...]:
    return tuple({name: value} for value in values)


def in_steps(*sizes: Trial) -> Trials:
    """Trials of a network: two learning rates times every size.

    Args:
        sizes: fields that set the size.
    """
    return Trials(
        tuple({"learning_rate": rate, **size} for size in sizes for rate in (1e-3, 3e-3)),
        _each("learning_rate", 1e-5, 1e-4),
    )


_SIZES: Final = in_steps({"width": 8}, {"width": 16})
_NOTHING: Final = Trials((), in_steps=False)
# Two values each of features, rate and size, in combinations that do not confound them.
_ONE_CLASS: Final = Trials(
    (
        {"features": "profile", "learning_rate": 1e-3, "width": 32},
        {"features": "profile", "learning_rate": 3e-3, "width": 128},
        {"features": "raw", "learning_rate": 3e-3, "width": 32},
        {"features": "raw", "learning_rate": 1e-3, "width": 128},
    )
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
    """Tuning trials of a baseline.

    Every trained method has the same number. Networks vary learning rate and size. One-class
    methods vary features (the paper's raw samples or ours) and learning rate and size, or ``nu``.
    The regression varies its penalty. One-class methods see no labels, so fine-tuning only sets
    their threshold. Floors have no trials.
    """
    return _TRIALS.get(name, _SIZES)


def comparators(setting: Literal["paper", "best"], width: int = 16) -> dict[str, Form]:
    """Two floors and the paper's eleven baselines, in the order of its tables.

    Args:
        setting: their input. ``"paper"``: raw samples, also for one-class methods. ``"best"``: the
            input of HomNet's best form, and features for one-class methods.
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
    """The form in a checkpoint's ``config.json``, of HomNet or of a baseline.

    For :meth:`homnet.model.checkpoint.Checkpoint.load`.

    Raises:
        CheckpointError: the method or a setting is unknown to this version.
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
