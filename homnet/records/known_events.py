"""What an oracle that is told each patient's abnormality finds of patients: an upper bound.

For each abnormal type of a patient a linear discriminant learns *that* abnormality from many other
cells of the same person, and what is normal from other people of the hospital. The patient's own
cells, and then the same type of further people, are scored by it. A method that has to find the
abnormality can do no better, unless it sees more than a linear discriminant does.

Shape suffixes: N pairs, P homologs, F features, J people who are judged.
"""

from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from homnet.bags.draw import PairBank
from homnet.errors import DataError
from homnet.patients.tables import KEY
from homnet.records.oracle import abnormal_second, evidence, homolog_features

Floats = NDArray[np.float64]
EVENT_KNOWN: Final = "event known"
"""The abnormality and its type are known: above 99 in 100 other people."""
TYPE_UNKNOWN: Final = "event known, not its type"
"""So far above other people as it must be if 23 types share the false alarms; at a specificity of
0.99 above all of 2,300. Above all who are judged, if they are fewer: then the bound is too high."""
_FEWEST_CELLS: Final = 20
"""Number of abnormal cells from which an abnormality is learnt."""
_LEARNT: Final = 0.25
"""Share of the other people from whom the oracle learns what is normal; the rest is judged."""
_NUM_TYPES: Final = 23


@dataclass(frozen=True)
class _Scored:
    """The scores of one type by the oracle of one abnormality, in units of normal people."""

    own: float
    """Of the patient."""
    others_J: Floats
    """Of the judged people; NaN for those without both homologs."""
    expected: float
    """Of a patient with the abnormality, on average: the weight of the type among several."""


def known_events(
    own: PairBank,
    cells: PairBank,
    others: PairBank,
    *,
    num_places: int = 32,
    specificity: float = 0.99,
    seed: int = 0,
) -> pd.DataFrame:
    """Says which carriers of one hospital an oracle finds.

    Args:
        own: the patients.
        cells: the same patients with many other cells, of the abnormal types at least.
        others: healthy people of the hospital, with about as many cells as the patients; carriers
            are left out.
        num_places: number of positions of a homolog's profile.
        specificity: share of healthy people below the threshold.
        seed: of the division of the other people.

    Returns:
        One row per patient: hospital, patient_id, and 1.0 or 0.0 in the columns
        :data:`EVENT_KNOWN` and :data:`TYPE_UNKNOWN`; healthy patients have 0.0, and carriers whose
        abnormality could not be learnt or is in no pair of theirs NaN.

    Raises:
        DataError: no abnormality of any carrier could be learnt, or there are too few others.
    """
    carriers = others.frame.groupby("patient_id")["abnormal"].any()
    people = np.random.default_rng(seed).permutation(sorted(carriers.index[~carriers]))
    learnt, judged = np.split(people, [round(_LEARNT * len(people))])
    if len(judged) * (1 - specificity) < 1 - 1e-9:
        raise DataError(
            f"there are {len(people)} healthy other people, {len(judged)} of whom are judged: too "
            f"few for a specificity of {specificity:g}; simulate more"
        )
    banks = {"own": own, "cells": cells, "others": others}
    frames = {name: bank.frame.reset_index(drop=True) for name, bank in banks.items()}
    features = {name: homolog_features(bank, num_places) for name, bank in banks.items()}
    normal, of_own = frames["others"], frames["own"]
    scored: dict[str, list[_Scored]] = {}
    of_cells = frames["cells"]
    own_carriers = set(of_own["patient_id"][of_own["abnormal"]])
    for key, rows in of_cells[of_cells["patient_id"].isin(own_carriers)].groupby(
        ["patient_id", "chromosome"]
    ):
        patient, chromosome = cast(tuple[str, int], key)
        abnormal = rows[rows["abnormal"]]
        mine = of_own.index[
            (of_own["patient_id"] == patient) & (of_own["chromosome"] == chromosome)
        ]
        if len(abnormal) < _FEWEST_CELLS or not len(mine):
            continue
        of_type = normal[normal["chromosome"] == chromosome]
        known = of_type.index[of_type["patient_id"].isin(learnt)]
        rest = of_type[of_type["patient_id"].isin(judged)]
        if not (len(known) and len(rest)):
            continue
        discriminant = _discriminant(
            abnormal_second(features["cells"], abnormal), features["others"][known]
        )
        share = len(abnormal) / len(rows)
        own_N, rest_N, abnormal_N = (
            _of_cells(evidence(discriminant, one), share)
            for one in (
                features["own"][mine],
                features["others"][rest.index],
                features["cells"][rows.index],
            )
        )
        scored.setdefault(patient, []).append(
            _scored(own_N, rest_N, abnormal_N, rest["patient_id"], judged)
        )
    if own_carriers and not scored:
        raise DataError(
            f"no patient has {_FEWEST_CELLS} abnormal cells of one type in the cohort with many "
            "cells; simulate the same patients (same --seed and numbers) with --patient-cells"
        )
    found = of_own.groupby(KEY).size().reset_index()[KEY]
    limits = {EVENT_KNOWN: specificity, TYPE_UNKNOWN: 1 - (1 - specificity) / _NUM_TYPES}
    for name, limit in limits.items():
        is_found = {patient: float(_is_found(types, limit)) for patient, types in scored.items()}
        healthy = ~found["patient_id"].isin(own_carriers)
        found[name] = found["patient_id"].map(is_found).astype(float).mask(healthy, 0.0)
    return found


def _discriminant(abnormal_NPF: Floats, normal_NPF: Floats) -> LinearDiscriminantAnalysis:
    # In normal pairs neither homolog is abnormal: both orders are used.
    both = np.concatenate([normal_NPF, normal_NPF[:, ::-1]])
    known = np.concatenate([both, abnormal_NPF])
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=(0.5, 0.5)).fit(
        known.reshape(len(known), -1), np.repeat([False, True], [len(both), len(abnormal_NPF)])
    )


def _of_cells(log_odds_N: Floats, share: float) -> Floats:
    """Log likelihood ratios of cells of which only a share shows the abnormality."""
    ratio_N: Floats = log_odds_N - np.log(2) + np.log(share)  # either of two homologs
    if share < 1.0:
        ratio_N = np.logaddexp(np.log1p(-share), ratio_N)
    return ratio_N


def _scored(
    own_N: Floats,
    rest_N: Floats,
    abnormal_N: Floats,
    person_N: "pd.Series[str]",
    judged: NDArray[Any],
) -> _Scored:
    """Means over cells, in units of those of normal people with as many cells."""
    groups = pd.Series(rest_N).groupby(person_N.to_numpy())
    mean, number = groups.mean().reindex(judged), groups.size().reindex(judged)
    within = float(groups.var().mean())
    between = max(float(mean.var() - within * (1 / number).mean()), 0.0)

    def scaled(values: Any, num_cells: Any) -> Any:
        return (values - mean.mean()) / np.sqrt(between + within / num_cells)

    return _Scored(
        own=float(scaled(own_N.mean(), len(own_N))),
        others_J=scaled(mean, number).to_numpy(),
        expected=float(scaled(abnormal_N.mean(), len(own_N))),
    )


def _is_found(types: list[_Scored], limit: float) -> bool:
    """Whether a patient is above a share of the judged people, all abnormal types together."""
    total = sum(max(one.expected, 0.0) * one.own for one in types)
    others_J = np.sum([max(one.expected, 0.0) * one.others_J for one in types], axis=0)
    others_J = others_J[np.isfinite(others_J)]
    # With fewer people than the limit needs, the highest of them decides.
    return bool(total > np.quantile(others_J, limit, method="higher"))
