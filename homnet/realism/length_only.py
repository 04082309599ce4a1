"""Detection of abnormalities from lengths alone.

If length alone detects simulated abnormalities, they are too easy. The variation of normal lengths
determines what length can detect; both are compared here.

Shape suffixes: N pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import norm

from homnet.cohorts.pairs import pairs_of
from homnet.errors import DataError
from homnet.evaluation.metrics import EVENT_SIZES_MB, SPECIFICITY
from homnet.karyotype.bands import FINEST_LEVEL, band_table
from homnet.realism.intervals import auc
from homnet.realism.scorecard import robust_sd
from homnet.seeding import generator

NUM_CELLS: Final = 5
"""Number of pairs in a bag, the paper's K."""
SIZES_MB: Final = (*EVENT_SIZES_MB, 300.0)
"""Borders of the size classes of abnormalities."""
SIGN_OF_CHANGE: Final[Mapping[str, int]] = {"deletion": -1, "duplication": 1}
"""Kinds that change the length by the lost or gained segment, and the sign of the change."""

_TWO_SIDED_SD: Final = float(norm.ppf((1 + SPECIFICITY) / 2))


def length_table(table: pa.Table) -> pd.DataFrame:
    """Returns the lengths of all pairs of a cohort with two homologs.

    Args:
        table: rows of a cohort.

    Returns:
        Rows of hospital, patient_id, chromosome, abnormal, kind, size_mb and ``log_ratio`` of the
        lengths of homolog 0 and homolog 1.
    """
    length_NP = np.count_nonzero(pairs_of(table).any(axis=2), axis=-1)
    both_N = length_NP[:, 1] > 0
    names = ["hospital", "patient_id", "chromosome", "abnormal", "kind", "size_mb"]
    frame: pd.DataFrame = table.select(names).to_pandas()[both_N].reset_index(drop=True)
    length_NP = length_NP[both_N]
    frame["log_ratio"] = np.log(length_NP[:, 0] / length_NP[:, 1])
    return frame


def length_bags(lengths: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Returns bags of five pairs of one type of one person; leftover pairs are dropped.

    The score uses absolute log ratios, because the order of the homologs is random in each cell and
    the sign carries no information.

    Returns:
        Rows of hospital, patient_id, abnormal (of any pair) and ``score``, the mean absolute log
        ratio.
    """
    shuffled = lengths.iloc[rng.permutation(len(lengths))]
    keys = ["hospital", "patient_id", "chromosome"]
    number = shuffled.groupby(keys).cumcount() // NUM_CELLS
    shuffled = shuffled.assign(bag=number, score=shuffled["log_ratio"].abs())
    bags = shuffled.groupby([*keys, "bag"]).agg(
        abnormal=("abnormal", "any"), score=("score", "mean"), size=("score", "size")
    )
    return bags[bags["size"] == NUM_CELLS].reset_index()


def length_only(lengths: pd.DataFrame, *, num_bootstrap: int, seed: int) -> dict[str, Any]:
    """Measures the detection of abnormal pairs by their lengths alone.

    Args:
        lengths: from :func:`length_table`; hospitals without abnormal pairs are skipped.
        num_bootstrap: number of replicates of the patient bootstrap.
        seed: seed of bags and bootstrap.

    Returns:
        ``hospitals``: by hospital the AUC of single pairs and of bags, the robust standard
        deviation of the log ratio of normal homologs, and its absolute 99 % quantile (above 2.58
        standard deviations, since short chromosomes vary more than long ones). ``sizes``: by kind,
        for each size class, the recall at that threshold and the recall expected from normal
        deviations.

    Raises:
        DataError: there is no abnormal pair.
    """
    hospitals: dict[str, Any] = {}
    events = []
    for hospital, of in lengths.groupby("hospital"):
        if not of["abnormal"].any() or of["abnormal"].all():
            continue
        rng = generator(seed, "length only", str(hospital))
        normal_N = of.loc[~of["abnormal"], "log_ratio"].to_numpy()
        threshold = float(np.quantile(np.abs(normal_N), SPECIFICITY))
        bags = length_bags(of, rng)
        pairs_auc = _auc(of.assign(score=of["log_ratio"].abs()), num_bootstrap, rng)
        hospitals[str(hospital)] = {
            "pairs": pairs_auc,
            "bags": _auc(bags, num_bootstrap, rng),
            "log_ratio_sd": robust_sd(normal_N),
            "threshold": threshold,
            "num_abnormal_pairs": int(of["abnormal"].sum()),
            "num_abnormal_bags": int(bags["abnormal"].sum()),
        }
        found = of[of["abnormal"] & of["kind"].isin(list(SIGN_OF_CHANGE)) & of["size_mb"].notna()]
        events.append(
            found.assign(
                is_found=found["log_ratio"].abs() > threshold,
                expected=expected_recall(
                    length_change(
                        found["chromosome"].tolist(),
                        found["kind"].tolist(),
                        found["size_mb"].tolist(),
                    ),
                    robust_sd(normal_N),
                ),
            )
        )
    if not hospitals:
        raise DataError(
            "no hospital has both normal and abnormal pairs, so detection by length cannot be "
            "measured; give a simulated cohort with patients"
        )
    return {"hospitals": hospitals, "sizes": _by_size(pd.concat(events))}


def length_change(
    chromosome: Sequence[str], kind: Sequence[str], size_mb: Sequence[float]
) -> NDArray[np.float64]:
    """Returns the log factor of the length change of an event, at uniform base density."""
    table = band_table(FINEST_LEVEL)
    whole_mb = np.array([table[name].length_bp / 1e6 for name in chromosome])
    sign = np.array([SIGN_OF_CHANGE[name] for name in kind])
    # A deletion never takes the whole chromosome, but sizes are rounded.
    factor_N = np.maximum(1 + sign * np.array(size_mb) / whole_mb, 1e-3)
    return np.asarray(np.log(factor_N), np.float64)


def expected_recall(change_N: NDArray[Any], sd: float) -> NDArray[np.float64]:
    """Returns the probability that a log length change exceeds the two-sided threshold on its side.

    Args:
        change_N: log factor of the length change.
        sd: standard deviation of the log ratio of normal homologs, assumed to be Gaussian.
    """
    return np.asarray(norm.cdf(np.abs(change_N) / sd - _TWO_SIDED_SD), np.float64)


def _by_size(events: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    sizes: dict[str, list[dict[str, Any]]] = {}
    for kind in SIGN_OF_CHANGE:
        of_kind = events[events["kind"] == kind]
        classes = pd.cut(of_kind["size_mb"], list(SIZES_MB), right=False)
        sizes[kind] = [
            {
                "from_mb": float(interval.left),
                "to_mb": float(interval.right),
                "median_mb": float(of["size_mb"].median()),
                "recall": float(of["is_found"].mean()),
                "expected": float(of["expected"].mean()),
                "num_pairs": len(of),
                "num_people": int(of["patient_id"].nunique()),
            }
            for interval, of in of_kind.groupby(classes, observed=True)
        ]
    return sizes


def _auc(frame: pd.DataFrame, num_bootstrap: int, rng: np.random.Generator) -> dict[str, Any]:
    return auc(
        frame["score"].to_numpy(),
        frame["abnormal"].to_numpy(bool),
        frame["patient_id"].tolist(),
        num_bootstrap,
        rng,
    )
