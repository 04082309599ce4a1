"""The scorecard: the same figures for a simulated and a real set.

A figure with quartiles agrees if the simulated median lies between the real quartiles. Any other
figure agrees if it lies within 15 % of the real one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from homnet.imaging.extraction import BENT_BELOW
from homnet.karyotype.chromosomes import CHROMOSOME_INDEX, CHROMOSOMES, DENVER_GROUPS

TOLERANCE: Final = 0.15
_TYPES: Final = ("1", "6", "12", "18", "21", "X")
_MAD_TO_SD: Final = 1.4826
_BENT_CLASSES: Final = {
    "1-5": CHROMOSOMES[:5],
    "6-12, X": (*CHROMOSOMES[5:12], "X"),
    "13-22": CHROMOSOMES[12:22],
}


@dataclass(frozen=True)
class Row:
    """One figure of one set."""

    name: str
    """Name of the quantity, with its unit."""
    value: float
    """Value; the median if there are quartiles."""
    quartiles: tuple[float, float] | None = None
    """Lower and upper quartile of a quantity that varies from pair to pair."""


def agrees(simulated: Row, real: Row) -> bool:
    """Returns whether a simulated figure is within the tolerance of the real one."""
    if real.quartiles is not None:
        return real.quartiles[0] <= simulated.value <= real.quartiles[1]
    return abs(simulated.value - real.value) <= TOLERANCE * abs(real.value)


def halves_that_disagree(
    measured: pd.DataFrame, generator: np.random.Generator, num_splits: int = 20
) -> dict[str, Any]:
    """Measures how often two halves of the same people disagree, the limit of any simulation.

    Args:
        measured: measurements of :func:`homnet.realism.measures.measure`, of at least two people.
        generator: draws the splits.
        num_splits: number of random splits.

    Returns:
        ``rows``: the figures that disagree, by split; ``names``: the number of splits, by figure.
    """
    people = np.unique(measured["patient_id"].to_numpy(dtype=object))
    rows, names = [], dict[str, int]()
    for _ in range(num_splits):
        half = generator.permutation(people)[: len(people) // 2]
        inside = measured["patient_id"].isin(half).to_numpy()
        pairs = zip(scorecard(measured[inside]), scorecard(measured[~inside]), strict=True)
        found = [first.name for first, second in pairs if not agrees(first, second)]
        rows.append(len(found))
        for name in found:
            names[name] = names.get(name, 0) + 1
    return {"rows": rows, "names": names}


def scorecard(measured: pd.DataFrame) -> list[Row]:
    """Returns the scorecard of the measurements of :func:`homnet.realism.measures.measure`."""
    rows = [
        _quartiles(f"length of chromosome {name}, px", _both(_of(measured, [name]), "length"))
        for name in _TYPES
    ]
    cell, residual = _condensation(measured)
    rows += [
        Row("condensation of cells, coefficient of variation", float(np.std(cell))),
        Row("log length beside the cell's condensation, sd", robust_sd(residual)),
    ]
    ratio = _log_ratio(measured)
    rows += [
        _quartiles("log length ratio of homologs, absolute", np.abs(ratio)),
        Row("log length ratio of homologs, robust sd", robust_sd(ratio)),
    ]
    rows += [
        Row(
            f"log length ratio, group {group}, robust sd",
            robust_sd(_log_ratio(_of(measured, names))),
        )
        for group, names in DENVER_GROUPS.items()
    ]
    rows += [
        _quartiles(f"correlation {name}", measured[column])
        for name, column in (
            ("of homologs, stretched only", "correlation"),
            ("of homologs, ends moved by up to 8 %", "aligned_correlation"),
            ("with another person's, same type", "other_person_correlation"),
            ("with another type of the group, same cell", "other_type_correlation"),
        )
    ]
    rows += [
        _quartiles("correlation of chromatids", _both(measured, "chromatid_correlation")),
        Row(
            "darkness, left less right chromatid, robust sd",
            robust_sd(_both(measured, "chromatid_offset")),
        ),
        Row("gain between homologs, robust sd of the log ratio", robust_sd(measured["gain"])),
        Row("offset between homologs, robust sd", robust_sd(measured["offset"])),
        _quartiles("residual of standardised homologs, sd", measured["residual_sd"]),
        _quartiles("darkness of chromosomes", _both(measured, "darkness")),
        _quartiles("contrast of chromosomes (sd along them)", _both(measured, "contrast")),
    ]
    between, within = _darkness_sd(measured)
    rows += [
        Row("darkness between people, sd", between),
        Row("darkness between cells of a person, sd", within),
        *(
            _quartiles(f"left less right chromatid at {name}, sd", _both(measured, f"spectrum{f}"))
            for f, name in enumerate(("over 16 px", "8 to 16 px", "4 to 8 px", "2 to 4 px"))
        ),
        _quartiles("darkness at the tips", _both(measured, "tip")),
        _quartiles("darkness 2 px from the tips", _both(measured, "below_tip")),
        _quartiles("left less right chromatid at the tips", _both(measured, "stagger_tip")),
        _quartiles("left less right chromatid 2 px from the tips", _both(measured, "stagger")),
        _quartiles("straightness (chord over arc)", measured["straightness"]),
        *(
            Row(
                f"share of bent pairs, {name}",
                float((_of(measured, names)["straightness"] < BENT_BELOW).mean()),
            )
            for name, names in _BENT_CLASSES.items()
        ),
        Row(
            "share of pairs that look upside down",
            float(
                (measured["reversed_correlation"] > measured["aligned_correlation"] + 0.1).mean()
            ),
        ),
    ]
    return rows


def _of(measured: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    return measured[measured["chromosome"].isin([CHROMOSOME_INDEX[name] for name in names])]


def _both(measured: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return measured[[f"{name}_0", f"{name}_1"]].to_numpy().ravel()


def _log_ratio(measured: pd.DataFrame) -> NDArray[np.float64]:
    first, second = measured[["length_0", "length_1"]].to_numpy(np.float64).T
    ratio: NDArray[np.float64] = np.log(first / second)
    return ratio


def _condensation(
    measured: pd.DataFrame,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the condensation factor of each cell, and the residual log lengths by chromosome."""
    log = measured[["length_0", "length_1"]].apply(np.log)
    log = log.sub(log.groupby(measured["chromosome"]).transform("median"))
    mean = log.mean(axis=1)
    cell = mean.groupby([measured["patient_id"], measured["cell_id"]]).transform("mean")
    factor = np.exp(mean.groupby([measured["patient_id"], measured["cell_id"]]).mean())
    return factor.to_numpy() / factor.mean(), log.sub(cell, axis=0).to_numpy().ravel()


def _darkness_sd(measured: pd.DataFrame) -> tuple[float, float]:
    """Returns the standard deviation of darkness between people, and between cells of a person."""
    darkness = measured[["darkness_0", "darkness_1"]].mean(axis=1)
    darkness = darkness - darkness.groupby(measured["chromosome"]).transform("mean")
    cells = darkness.groupby([measured["patient_id"], measured["cell_id"]]).mean()
    people = cells.groupby("patient_id")
    several = people.transform("size") > 1
    deviations = (cells - people.transform("mean"))[several]
    freedom = several.sum() - several.groupby("patient_id").any().sum()
    within = float(np.sqrt((deviations**2).sum() / freedom)) if freedom else float("nan")
    means, sizes = people.mean(), people.size()
    between = means.var() - within**2 * (1 / sizes).mean()
    return float(np.sqrt(max(between, 0.0))), within


def _quartiles(name: str, values: ArrayLike) -> Row:
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).any():
        return Row(name, float("nan"), (float("nan"), float("nan")))
    lower, median, upper = np.nanquantile(array, (0.25, 0.5, 0.75))
    return Row(name, float(median), (float(lower), float(upper)))


def robust_sd(values: ArrayLike) -> float:
    """Returns the standard deviation of the Gaussian with the same median absolute deviation."""
    array = np.asarray(values, np.float64)
    array = array[np.isfinite(array)]
    return float(_MAD_TO_SD * np.median(np.abs(array - np.median(array))))
