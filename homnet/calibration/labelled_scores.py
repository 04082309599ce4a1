"""Scores and labels of patients, to which calibrations are fitted.

Shape suffixes: N pairs, G types of patients (one per patient and chromosome type), J patients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_NUMBERS: Final = ("patient_G", "patient_N")
"""Fields that number patients; the last letter of each field is what it has one of."""


@dataclass(frozen=True)
class LabelledScores:
    """Scores and labels of validation patients of one or more hospitals."""

    hospital_J: tuple[str, ...]
    """Hospital of each patient."""
    abnormal_J: NDArray[np.bool_]
    """Whether the patient has an abnormal pair."""
    patient_G: NDArray[np.int64]
    """Patient of each type, 0..J - 1."""
    chromosome_G: NDArray[np.int64]
    """Index of each chromosome type, 0..23."""
    num_cells_G: NDArray[np.int64]
    """Number of cells of each type."""
    logit_G: Floats
    """Logit of each type."""
    read_G: Floats
    """The reader's log odds that each type shows an abnormality; zeros without a reader."""
    abnormal_G: NDArray[np.bool_]
    """Whether the type has an abnormal pair."""
    patient_N: NDArray[np.int64]
    """Patient of each pair, 0..J - 1."""
    logit_N: Floats
    """Logit of each single pair."""
    abnormal_N: NDArray[np.bool_]
    """Whether the pair is abnormal."""

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The patients of all parts in order, renumbered."""
        first = np.cumsum([0, *(len(part.hospital_J) for part in parts[:-1])])
        moved = [
            vars(part) | {name: getattr(part, name) + start for name in _NUMBERS}
            for part, start in zip(parts, first, strict=True)
        ]
        arrays = {
            name: np.concatenate([one[name] for one in moved])
            for name in moved[0]
            if name != "hospital_J"
        }
        return cls(hospital_J=tuple(name for part in parts for name in part.hospital_J), **arrays)

    def to_json(self) -> dict[str, Any]:
        """The scores as plain JSON values."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else list(value)
            for name, value in vars(self).items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`."""
        flags = ("abnormal_J", "abnormal_G", "abnormal_N")
        whole = ("patient_G", "chromosome_G", "num_cells_G", "patient_N")
        kinds: dict[str, Any] = {**dict.fromkeys(flags, np.bool_), **dict.fromkeys(whole, np.int64)}
        arrays = {
            name: np.array(value, kinds.get(name, np.float64))
            for name, value in content.items()
            if name != "hospital_J"
        }
        return cls(hospital_J=tuple(content["hospital_J"]), **arrays)

    def of(self, chosen_J: NDArray[np.bool_]) -> Self:
        """The chosen patients, renumbered."""
        number_J = np.cumsum(chosen_J) - 1
        keep = {"J": chosen_J, "G": chosen_J[self.patient_G], "N": chosen_J[self.patient_N]}
        kept: dict[str, Any] = {
            name: np.asarray(value)[keep[name[-1]]] for name, value in vars(self).items()
        }
        kept |= {name: number_J[kept[name]] for name in _NUMBERS}
        return type(self)(**kept | {"hospital_J": tuple(kept["hospital_J"].tolist())})
