"""Scores and labels of patients, to which calibrations are fitted.

Shape suffixes: N pairs, G types of patients (one per patient and chromosome type), J patients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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
        sizes = [len(part.hospital_J) for part in parts]
        first = np.cumsum([0, *sizes[:-1]])

        def joined(name: str, shifted: bool = False) -> Any:
            values = [getattr(part, name) for part in parts]
            if shifted:
                values = [value + start for value, start in zip(values, first, strict=True)]
            return np.concatenate(values)

        return cls(
            hospital_J=tuple(name for part in parts for name in part.hospital_J),
            abnormal_J=joined("abnormal_J"),
            patient_G=joined("patient_G", shifted=True),
            chromosome_G=joined("chromosome_G"),
            num_cells_G=joined("num_cells_G"),
            logit_G=joined("logit_G"),
            read_G=joined("read_G"),
            abnormal_G=joined("abnormal_G"),
            patient_N=joined("patient_N", shifted=True),
            logit_N=joined("logit_N"),
            abnormal_N=joined("abnormal_N"),
        )

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
        keep_G, keep_N = chosen_J[self.patient_G], chosen_J[self.patient_N]
        return type(self)(
            hospital_J=tuple(
                name for name, keep in zip(self.hospital_J, chosen_J, strict=True) if keep
            ),
            abnormal_J=self.abnormal_J[chosen_J],
            patient_G=number_J[self.patient_G[keep_G]],
            chromosome_G=self.chromosome_G[keep_G],
            num_cells_G=self.num_cells_G[keep_G],
            logit_G=self.logit_G[keep_G],
            read_G=self.read_G[keep_G],
            abnormal_G=self.abnormal_G[keep_G],
            patient_N=number_J[self.patient_N[keep_N]],
            logit_N=self.logit_N[keep_N],
            abnormal_N=self.abnormal_N[keep_N],
        )
