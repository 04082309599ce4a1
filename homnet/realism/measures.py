"""Measurements of chromosome pairs, identical for simulated and real ones.

Shape suffixes: N pairs, P homologs (2), C chromatids (2: left, right), L positions (512), U
positions along a chromosome stretched to unit length, F wavelength bands.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.signal import get_window

from homnet.cohorts.pairs import pairs_of
from homnet.errors import DataError
from homnet.imaging.orientation import standardised
from homnet.karyotype.chromosomes import CHROMOSOME_INDEX, CHROMOSOMES, DENVER_GROUP_OF

Floats = NDArray[np.float32]

NUM_POINTS: Final = 100
"""Number of points of a stretched chromosome."""
INTERIOR: Final = slice(6, 94)
"""Points compared; the tips are excluded because all chromosomes are rounded there."""
WAVELENGTHS_PX: Final = (16.0, 8.0, 4.0, 2.0)
"""Borders of the bands of the residual's spectrum: over 16 pixels, 8 to 16, 4 to 8, 2 to 4."""
_WINDOW_PX: Final = 32
"""Window length of the spectrum; it is undefined for shorter chromosomes."""
_MAX_SHIFT: Final = 0.08
"""Maximum shift of either end of a chromosome to fit its partner, as a share of the length."""
_NUM_SHIFTS: Final = 9


@dataclass(frozen=True)
class Pairs:
    """N normal pairs, taken from a cohort table."""

    frame: pd.DataFrame
    """patient_id, cell_id, chromosome (index 0..23), straightness."""
    pair_NPCL: NDArray[np.uint8]
    """Darkness, 0 beyond the end."""
    samples_per_px: float
    """Samples of a sequence per image pixel."""

    @classmethod
    def from_table(
        cls, table: pa.Table, samples_per_px: float, *, with_single: bool = False
    ) -> Self:
        """Takes the normal pairs, excluding single homologs unless ``with_single``.

        Raises:
            DataError: there is no such pair.
        """
        pair = pairs_of(table)
        keep = with_single | pair[:, 1].any(axis=(1, 2))
        keep &= ~table["abnormal"].to_numpy()
        if not keep.any():
            raise DataError("no normal pair to measure; give a cohort of normal chromosomes")
        frame = table.select(["patient_id", "cell_id", "chromosome"]).to_pandas()
        frame["chromosome"] = frame["chromosome"].map(CHROMOSOME_INDEX).astype(np.int64)
        straight = pc.struct_field(table["quality"], "straightness").to_numpy(zero_copy_only=False)
        frame["straightness"] = straight.astype(np.float64)
        return cls(frame[keep].reset_index(drop=True), pair[keep], samples_per_px)

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, index: Any) -> Self:
        """Returns the pairs selected by a boolean mask or row numbers."""
        frame = self.frame.iloc[np.arange(len(self))[index]].reset_index(drop=True)
        return type(self)(frame, self.pair_NPCL[index], self.samples_per_px)

    @property
    def num_samples_NP(self) -> NDArray[np.int64]:
        """Returns the number of samples of each homolog."""
        counted: NDArray[np.int64] = np.count_nonzero(self.pair_NPCL.any(axis=2), axis=-1)
        return counted

    def stretched_NPCU(self) -> Floats:
        """Returns the darkness of each chromatid at ``NUM_POINTS`` points of unit length."""
        u_U = (np.arange(NUM_POINTS) + 0.5) / NUM_POINTS
        return self.sampled(np.broadcast_to(u_U, (len(self), 2, NUM_POINTS)))

    def sampled(self, u_NPU: NDArray[Any]) -> Floats:
        """Returns the darkness (N, P, C, U) at shares of the length, by linear interpolation."""
        length_NP1 = self.num_samples_NP[..., None]
        at_NPU = np.clip(u_NPU * length_NP1 - 0.5, 0, length_NP1 - 1).astype(np.float32)
        low_NPU = np.minimum(at_NPU.astype(np.int64), np.maximum(length_NP1 - 2, 0))
        weight_NPCU = (at_NPU - low_NPU)[:, :, None]
        index_NPCU = np.repeat(low_NPU[:, :, None], 2, axis=2)
        low = np.take_along_axis(self.pair_NPCL, index_NPCU, axis=-1).astype(np.float32)
        high = np.take_along_axis(self.pair_NPCL, index_NPCU + 1, axis=-1).astype(np.float32)
        found: Floats = low + weight_NPCU * (high - low)
        return found

    def at_ends(self, distance_px: float) -> Floats:
        """Returns the darkness (N, P, C, 2) of the chromatids at a distance from both tips."""
        inwards = round(distance_px * self.samples_per_px)
        last_NP = np.maximum(self.num_samples_NP - 1 - inwards, 0)
        lower = np.take_along_axis(self.pair_NPCL, last_NP[..., None, None], axis=-1)[..., 0]
        both: Floats = np.stack([self.pair_NPCL[..., inwards], lower], axis=-1).astype(np.float32)
        return both


def correlation(first_NU: Floats, second_NU: Floats) -> Floats:
    """Returns the correlation (N,) of rows over their interior."""
    product = standardised(first_NU[..., INTERIOR]) * standardised(second_NU[..., INTERIOR])
    found: Floats = product.mean(axis=-1)
    return found


def aligned(first_NU: Floats, second_NU: Floats) -> tuple[Floats, Floats]:
    """Moves both ends of the second chromosome by up to 8 % for the best fit to the first.

    Returns:
        The best correlation (N,) and the second chromosome (N, U) after the move.
    """
    num_points = first_NU.shape[-1]
    u_U = (np.arange(num_points) + 0.5) / num_points
    best_N = np.full(len(first_NU), -np.inf, np.float32)
    moved_NU = second_NU.copy()
    first_NU = standardised(first_NU[:, INTERIOR])
    shifts = np.linspace(-_MAX_SHIFT, _MAX_SHIFT, _NUM_SHIFTS)
    for start in shifts:
        for stop in 1 + shifts:
            at_U = np.clip((start + (stop - start) * u_U) * num_points - 0.5, 0, num_points - 1)
            low_U = np.minimum(at_U.astype(np.int64), num_points - 2)
            weight_U = (at_U - low_U).astype(np.float32)
            tried_NU = second_NU[:, low_U] * (1 - weight_U) + second_NU[:, low_U + 1] * weight_U
            found_N = (first_NU * standardised(tried_NU[:, INTERIOR])).mean(axis=-1)
            better_N = found_N > best_N
            best_N[better_N] = found_N[better_N]
            moved_NU[better_N] = tried_NU[better_N]
    return best_N, moved_NU


def residual_sd(pairs: Pairs) -> Floats:
    """Returns the standard deviation of the left-right difference per wavelength band.

    It is computed in a window of 32 pixels in the middle of each chromosome.

    Returns:
        Grey levels (N, P, F); nan for chromosomes shorter than one and a half windows.
    """
    size = round(_WINDOW_PX * pairs.samples_per_px)
    length_NP = pairs.num_samples_NP
    start_NP = (length_NP - size) // 2
    index_NPL = np.maximum(start_NP, 0)[..., None] + np.arange(size)
    both = np.take_along_axis(pairs.pair_NPCL, index_NPL[:, :, None], axis=-1).astype(np.float32)
    difference_NPL = both[:, :, 0] - both[:, :, 1]
    difference_NPL -= difference_NPL.mean(axis=-1, keepdims=True)
    window_L = get_window("hann", size).astype(np.float32)
    power = np.abs(np.fft.rfft(difference_NPL * window_L, axis=-1)) ** 2
    power *= 2 / (size * np.square(window_L).sum())
    per_px = np.fft.rfftfreq(size, 1 / pairs.samples_per_px)
    borders = [0.0, *(1 / w for w in WAVELENGTHS_PX)]
    bands = [
        power[..., (per_px > low) & (per_px <= high)].sum(axis=-1)
        for low, high in pairwise(borders)
    ]
    found: Floats = np.sqrt(np.stack(bands, axis=-1)).astype(np.float32)
    found[length_NP < 1.5 * size] = np.nan
    return found


def measure(pairs: Pairs, generator: np.random.Generator) -> pd.DataFrame:
    """Measures every pair.

    Args:
        pairs: N pairs, of several people.
        generator: chooses the other person and the other type for comparison.

    Returns:
        N rows; columns ending in ``_0`` and ``_1`` refer to one homolog. Lengths are in pixels,
        darkness in grey levels. Correlations and gains use the mean of the chromatids.
    """
    frame = pairs.frame.copy()
    profile_NPCU = pairs.stretched_NPCU()
    mean_NPU = profile_NPCU.mean(axis=2)
    inner_NPU = mean_NPU[..., INTERIOR]
    first_NU, second_NU = mean_NPU[:, 0], mean_NPU[:, 1]
    correlation_N, moved_NU = aligned(first_NU, second_NU)
    residual_NU = standardised(first_NU[:, INTERIOR]) - standardised(moved_NU[:, INTERIOR])
    other_N = _other_person(frame, generator)
    type_N = _other_type(frame, generator)
    columns: dict[str, Any] = {
        "correlation": correlation(first_NU, second_NU),
        "aligned_correlation": correlation_N,
        "reversed_correlation": aligned(first_NU, second_NU[:, ::-1])[0],
        "other_person_correlation": np.where(
            other_N >= 0, aligned(first_NU, second_NU[other_N])[0], np.nan
        ),
        "other_type_correlation": np.where(
            type_N >= 0, aligned(first_NU, second_NU[type_N])[0], np.nan
        ),
        "residual_sd": residual_NU.std(axis=-1),
        "gain": np.log(inner_NPU[:, 0].std(axis=-1) / inner_NPU[:, 1].std(axis=-1)),
        "offset": inner_NPU[:, 0].mean(axis=-1) - inner_NPU[:, 1].mean(axis=-1),
    }
    spectrum_NPF = residual_sd(pairs)
    for p in range(2):
        left_NU, right_NU = profile_NPCU[:, p, 0], profile_NPCU[:, p, 1]
        columns |= {
            f"length_{p}": pairs.num_samples_NP[:, p] / pairs.samples_per_px,
            f"darkness_{p}": inner_NPU[:, p].mean(axis=-1),
            f"contrast_{p}": inner_NPU[:, p].std(axis=-1),
            f"tip_{p}": _near_ends(pairs, 0.0)[:, p],
            f"below_tip_{p}": _near_ends(pairs, 2.0)[:, p],
            f"stagger_tip_{p}": _stagger(pairs, 0.0)[:, p],
            f"stagger_{p}": _stagger(pairs, 2.0)[:, p],
            f"chromatid_correlation_{p}": correlation(left_NU, right_NU),
            f"chromatid_offset_{p}": (left_NU - right_NU)[:, INTERIOR].mean(axis=-1),
        }
        for f in range(len(WAVELENGTHS_PX)):
            columns[f"spectrum{f}_{p}"] = spectrum_NPF[:, p, f]
    for name, values in columns.items():
        frame[name] = np.asarray(values, np.float64)
    return frame


def _near_ends(pairs: Pairs, distance_px: float) -> Floats:
    """Returns the mean darkness (N, P) at a distance from the tips."""
    found: Floats = pairs.at_ends(distance_px).mean(axis=(2, 3))
    return found


def _stagger(pairs: Pairs, distance_px: float) -> Floats:
    """Returns the RMS difference (N, P) of the chromatids at a distance from both tips."""
    both = pairs.at_ends(distance_px)
    found: Floats = np.sqrt(np.square(both[:, :, 0] - both[:, :, 1]).mean(axis=-1))
    return found


def _other_person(frame: pd.DataFrame, generator: np.random.Generator) -> NDArray[np.int64]:
    """Returns, for each row, that of another person's pair of the same type; -1 if none is met."""
    other_N = np.arange(len(frame))
    people = frame["patient_id"].to_numpy(dtype=object)
    type_N = frame["chromosome"].to_numpy()
    for number in np.unique(type_N):
        order = generator.permutation(np.flatnonzero(type_N == number))
        order = order[np.argsort(people[order], kind="stable")]
        # Shifting by half the list reaches another person, unless one has more than half of it.
        other_N[order] = np.roll(order, len(order) // 2)
    return np.where(people[other_N] == people, -1, other_N)


def _other_type(frame: pd.DataFrame, generator: np.random.Generator) -> NDArray[np.int64]:
    """Returns, for each row, a pair of another type of its Denver group and cell; -1 if none."""
    found_N = np.full(len(frame), -1)
    group = frame["chromosome"].map(lambda c: DENVER_GROUP_OF[CHROMOSOMES[c]])
    for rows in frame.groupby(["patient_id", "cell_id", group]).indices.values():
        if len(rows) > 1:
            order = rows[generator.permutation(len(rows))]
            found_N[order] = np.roll(order, 1)
    return found_N
