"""Fits the settings of a laboratory, so that simulated chromosomes look like its own.

Bands are fitted first (:mod:`homnet.simulator.band_fitting`). The settings are then adjusted until
the scorecard of simulated chromosomes matches that of the real ones.

Shape suffixes: R figures of the scorecard, S settings.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize
from scipy.special import erfc

from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.realism.measures import INTERIOR, WAVELENGTHS_PX, Pairs, measure
from homnet.realism.scorecard import scorecard
from homnet.seeding import generator
from homnet.simulator.atlas import band_lengths
from homnet.simulator.band_fitting import corrected, fit_bands, median_lengths, registered_means
from homnet.simulator.cohort import simulate_person
from homnet.simulator.laboratory import HospitalConfig, Laboratory
from homnet.simulator.rendering import straightness
from homnet.simulator.staining import CUT_PX

Floats = NDArray[Any]

_FIXED: Final = frozenset(
    {
        "samples_per_px",
        "px_per_iscn",
        "halo_px",
        "band_levels",
        "missing_rate",
        "end_px",
        "bend",
        "bend_spread",
        "bend_growth",
        "bands",
    }
)
"""Settings that are known, measured directly or left as they are, and therefore not fitted."""
_PRIOR_SD: Final = 1.5
"""Prior standard deviation of the log of a setting around its value before the round."""
_END_DISTANCES_PX: Final = (0.0, 0.67, 1.33, 2.0, 4.0, 8.0)
"""Distances from the tips at which the variation of darkness is matched."""
_INSIDE_PX: Final = 3.0
"""Distance from a tip beyond which nothing has faded."""
_CORRELATED: Final = ("contrast", "darkness", "chromatid_correlation", "tip", "below_tip", "length")
"""Measurements whose correlations are matched, in addition to those of the spectrum."""
_BEND_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95)
_LEAST_BENT: Final = 1e-4
"""Smallest relative difference of chord and arc that image pixels resolve."""
_CONDENSATION_SD: Final = 0.105
"""Initial condensation SD between cells, which here includes that between band levels."""
_CONTRAST: Final = 82.0
"""Initial contrast: below the default, because fitted bands leave less to noise."""
_BAND_ROUNDS: Final = 3
"""Number of corrections of the bands against simulated chromosomes before settings are fitted."""
_FARTHEST: Final = 0.5
"""Maximum change of the log of a setting in one round."""
_STEP: Final = 0.12
"""Step of the log of a setting for derivatives, well above the noise of the figures."""
_PRECISION: Final = 0.05
"""Deviation of a figure that counts as one, relative to its size or its interquartile range."""


@dataclass(frozen=True)
class FitConfig:
    """Configuration of the fit of a laboratory."""

    num_people: int = 60
    """Number of people simulated to evaluate settings."""
    rounds: int = 3
    """Number of rounds; each fits the bands, then the settings."""
    steps: int = 2
    """Number of optimisation steps of the settings per round."""
    seed: int = 0
    """Seed of the simulated people and of the choice of compared pairs."""


def fit_laboratory(
    table: pa.Table,
    samples_per_px: float,
    config: FitConfig,
    *,
    workers: Callable[..., Any] = map,
    report: Callable[[str], None] = print,
) -> Laboratory:
    """Fits a laboratory to the normal pairs of a cohort.

    Args:
        table: rows of a cohort; its people must not be used to evaluate the result.
        samples_per_px: scale of its sequences.
        config: effort and seed.
        workers: calls a function for several arguments, like ``map``.
        report: receives one line per round with the deviation of the figures.

    Returns:
        The laboratory; all its cells have level 550, because the fitted bands serve every level.

    Raises:
        DataError: there is no normal pair.
    """
    pairs = Pairs.from_table(table, samples_per_px)
    every = Pairs.from_table(table, samples_per_px, with_single=True)
    trial = _Trial(
        cells=float(pairs.frame.groupby("patient_id")["cell_id"].nunique().mean()),
        config=config,
        wanted=_figures(pairs, config),
    )
    wanted, length_px = registered_means(every), median_lengths(every)
    shown, shown_px = dict(wanted), dict(length_px)
    laboratory = fit_bend(pairs, _first_guess(every, wanted, length_px))
    for number in range(config.rounds):
        for _ in range(_BAND_ROUNDS):
            laboratory = replace(laboratory, bands=fit_bands(shown, shown_px, laboratory))
            simulated = trial.simulate(laboratory, with_single=True)
            shown = corrected(shown, wanted, registered_means(simulated))
            seen_px = median_lengths(simulated)
            shown_px = {
                n: px * length_px[n] / seen_px.get(n, length_px[n]) for n, px in shown_px.items()
            }
        laboratory = replace(laboratory, bands=fit_bands(shown, shown_px, laboratory))
        found = least_squares(
            trial.residuals,
            np.ones(len(_settings(laboratory))),
            diff_step=[_STEP],
            bounds=(1 - _FARTHEST, 1 + _FARTHEST),
            max_nfev=config.steps + 1,
            args=(laboratory,),
            workers=workers,
        )
        laboratory = _with_settings(laboratory, found.x)
        report(f"round {number + 1}: figures are off by {np.sqrt(np.mean(found.fun**2)):.2f}")
    return laboratory


def _first_guess(
    pairs: Pairs, mean_by_type: Mapping[str, Floats], length_px: Mapping[str, float]
) -> Laboratory:
    """Returns directly measured settings: scale, darkness, and darkness of the edge."""
    usual = Laboratory(
        samples_per_px=pairs.samples_per_px,
        band_levels=(0.0, 0.0, 1.0, 0.0),
        condensation_sd=_CONDENSATION_SD,
        contrast=_CONTRAST,
    )
    body_px = np.array([length_px[name] - 2 * usual.halo_px for name in length_px])
    iscn = np.array([band_lengths(name).sum() for name in length_px])
    tips, inside = (pairs.at_ends(px) for px in (0.0, _INSIDE_PX))
    faded = float(erfc(CUT_PX / (np.sqrt(2) * usual.end_px)))
    seen_at_tip = float(np.median(tips[tips > 0]) - (1 - faded) * np.median(inside[tips > 0]))
    return replace(
        usual,
        px_per_iscn=float(np.median(body_px / iscn)),
        darkness=float(np.mean([mean_U[INTERIOR] for mean_U in mean_by_type.values()])),
        edge=seen_at_tip / faded,
    )


def fit_bend(pairs: Pairs, laboratory: Laboratory) -> Laboratory:
    """Returns the laboratory with its bending fitted to the pairs.

    The more bent homolog of a pair is used; short, medium and long types have equal weight.
    """
    straight_N = pairs.frame["straightness"].to_numpy()
    iscn_T = np.array([band_lengths(name).sum() for name in CHROMOSOMES])
    iscn_N = iscn_T[pairs.frame["chromosome"].to_numpy()]
    third_N = np.searchsorted(np.quantile(iscn_N, [1 / 3, 2 / 3]), iscn_N)

    def tried(settings: Floats) -> Laboratory:
        bend, spread, growth = np.exp(settings).tolist()
        return replace(laboratory, bend=bend, bend_spread=spread, bend_growth=growth)

    def quantiles(of_N: Floats) -> Floats:
        bent_N = np.log(np.maximum(1 - of_N, _LEAST_BENT))
        return np.array([np.quantile(bent_N[third_N == t], _BEND_QUANTILES) for t in range(3)])

    def cost(settings: Floats) -> float:
        both_NP = straightness(
            np.repeat(iscn_N[:, None], 2, axis=1), tried(settings), generator(0, "bend")
        )
        off = quantiles(both_NP.min(axis=1)) - quantiles(straight_N)
        return float(np.square(off).sum())

    start = np.log([laboratory.bend, laboratory.bend_spread, laboratory.bend_growth])
    return tried(minimize(cost, start, method="Nelder-Mead").x)


@dataclass(frozen=True)
class _Trial:
    """Simulated people and the deviation of their scorecard from the target."""

    cells: float
    config: FitConfig
    wanted: tuple[Floats, Floats]

    def residuals(self, move_S: Floats, laboratory: Laboratory) -> Floats:
        """Returns the deviations of the figures, and of the settings from their previous values."""
        tried = _with_settings(laboratory, move_S)
        figures_R, _ = _figures(self.simulate(tried), self.config)
        wanted_R, scale_R = self.wanted
        # A figure is undefined without people with several cells, and one that is 0 has no scale.
        off_R = np.nan_to_num((figures_R - wanted_R) / scale_R, posinf=0.0, neginf=0.0)
        return np.concatenate([off_R, (move_S - 1) / _PRIOR_SD])

    def simulate(self, laboratory: Laboratory, *, with_single: bool = False) -> Pairs:
        """Returns normal pairs of simulated people."""
        hospital = HospitalConfig("fitted", laboratory, abnormal_fraction=0.0)
        table = pa.concat_tables(
            simulate_person(self.config.seed, hospital, number, self.cells)
            for number in range(self.config.num_people)
        )
        return Pairs.from_table(table, laboratory.samples_per_px, with_single=with_single)


def _figures(pairs: Pairs, config: FitConfig) -> tuple[Floats, Floats]:
    """Returns the target figures (R,) and their scales: the scorecard with quartiles, and ends."""
    figures: list[float] = []
    scale: list[float] = []
    measured = measure(pairs, generator(config.seed, "fit"))
    for row in scorecard(measured):
        spread = abs(row.value)
        if row.quartiles is not None:
            spread = 2 * (row.quartiles[1] - row.quartiles[0])
            figures += row.quartiles
            scale += [spread] * 2
        figures.append(row.value)
        scale.append(spread)
    ends, correlations = _end_figures(pairs), _correlation_figures(measured)
    # A deviation of 0.1 in a correlation counts as one.
    scale += [*np.abs(ends), *[0.1 / _PRECISION] * len(correlations)]
    return np.array([*figures, *ends, *correlations]), _PRECISION * np.array(scale)


def _correlation_figures(measured: pd.DataFrame) -> list[float]:
    """Returns correlations within types, and the share of each standard deviation due to cells.

    Two sets may agree in every single measurement and still differ in these.
    """
    names = [*_CORRELATED, *(f"spectrum{f}" for f in range(len(WAVELENGTHS_PX)))]
    each = pd.concat(
        [measured[[f"{name}_{p}" for name in names]].set_axis(names, axis=1) for p in range(2)]
    )
    type_N = pd.concat([measured["chromosome"]] * 2)
    beside = each - each.groupby(type_N).transform("mean")
    correlations = beside.corr().to_numpy()[np.triu_indices(len(names), 1)]
    cell_N = pd.concat([measured["patient_id"] + "/" + measured["cell_id"].astype(str)] * 2)
    of_cell = beside.groupby(cell_N).mean().std() / beside.std()
    return [*correlations.tolist(), *of_cell.tolist()]


def _end_figures(pairs: Pairs) -> list[float]:
    """Returns the variation of darkness near the ends, where it is steep and where it is flat.

    This is the standard deviation, at several distances from the tips, of the mean and the
    difference of the chromatids, around the mean of their type and end.
    """
    both = np.stack([pairs.at_ends(px) for px in _END_DISTANCES_PX], axis=-1)
    type_N = pairs.frame["chromosome"].to_numpy()
    kinds = np.unique(type_N)
    mean_TED = np.stack([both[type_N == number].mean(axis=(0, 1, 2)) for number in kinds])
    slope_TE = np.gradient(mean_TED, np.array(_END_DISTANCES_PX), axis=-1)[..., 1]
    steep_TE = slope_TE > np.median(slope_TE)
    off = both - mean_TED[np.searchsorted(kinds, type_N), None, None]
    steep_NE = steep_TE[np.searchsorted(kinds, type_N)]
    found = []
    for varied in (off.mean(axis=2), off[:, :, 0] - off[:, :, 1]):
        for chosen_NE in (steep_NE, ~steep_NE):
            square = np.square(varied) * chosen_NE[:, None, :, None]
            found += np.sqrt(square.sum(axis=(0, 1, 2)) / (2 * chosen_NE.sum())).tolist()
    return found


def _settings(laboratory: Laboratory) -> list[tuple[str, int | None]]:
    """Returns the names of the fitted numbers, with the index if a field holds several."""
    return [
        (name, place)
        for name, value in vars(laboratory).items()
        if name not in _FIXED
        for place in (range(len(value)) if isinstance(value, tuple) else (None,))
    ]


def _with_settings(laboratory: Laboratory, move_S: Floats) -> Laboratory:
    """Returns the laboratory with each setting multiplied by exp(move - 1).

    Moves are centred on 1, not 0, because derivatives use relative steps.
    """
    changed: dict[str, Any] = {}
    for (name, place), move in zip(_settings(laboratory), move_S, strict=True):
        factor = float(np.exp(move - 1))
        if place is None:
            changed[name] = getattr(laboratory, name) * factor
        else:
            values = list(changed.get(name, getattr(laboratory, name)))
            values[place] *= factor
            changed[name] = tuple(values)
    return replace(laboratory, **changed)
