"""Upper bound on detection: every abnormality is judged by an oracle that knows it.

A detector does not know the abnormality that it looks for; an oracle does. For each abnormal type
of each patient, a linear discriminant is fitted to *that* patient's abnormal pairs, from many
cells, against normal pairs of the type. It is evaluated on other cells of the same patient and on
other people. What the oracle misses is not visible in the sequences, or not linearly.

Shape suffixes: N pairs, P homologs, C chromatids, L positions, F features, B bags.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from homnet.bags.draw import PairBank
from homnet.errors import ConfigError, DataError
from homnet.evaluation.metrics import EVENT_SIZES_MB, size_classes
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.karyotype.kinds import NORMAL
from homnet.model.views import standardise, stretch
from homnet.report.markdown import markdown_table
from homnet.results import Record

Floats = NDArray[np.float64]
_STRETCHED: Final = 128
"""Number of positions of the stretched profiles, as in the best form."""


@dataclass(frozen=True)
class OracleConfig:
    """Input and settings of the oracle."""

    cohort: Path = Path("cohorts/oracle")
    """Simulated patients with many cells (jobs/simulate.py --patient-cells)."""
    scores: Path | None = None
    """Scores of a model on the same people (scores.parquet of an evaluation), for comparison."""
    num_pairs: int = 5
    """Pairs per bag, K."""
    num_places: int = 32
    """Number of positions of a homolog's profile given to the discriminant, beside its length."""
    num_folds: int = 4
    """Number of folds of a patient's cells; each is judged by a fit to the others."""
    bags_per_person: int = 5
    """Number of bags drawn from each fold, and from each normal person."""
    seed: int = 0
    """Seed of the folds and bags."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if min(self.num_pairs, self.num_places, self.bags_per_person) < 1 or self.num_folds < 2:
            raise ConfigError(
                "num_pairs, num_places and bags_per_person must be at least 1 and num_folds 2"
            )


def visible_events(bank: PairBank, config: OracleConfig) -> pd.DataFrame:
    """Measures how well an oracle distinguishes each abnormality from normal pairs.

    Args:
        bank: patients of all hospitals, many cells each.
        config: input and settings of the oracle.

    Returns:
        One row per patient and abnormal type: hospital, patient, chromosome, kind, size_mb,
        num_cells, and the AUC of single pairs and of bags.

    Raises:
        DataError: no patient has enough abnormal cells for all folds.
    """
    feature_NPF = homolog_features(bank, config.num_places)
    frame = bank.frame.reset_index(drop=True)
    rng = np.random.default_rng(config.seed)
    rows = []
    for key, group in frame.groupby(["hospital", "chromosome"]):
        hospital, chromosome = cast(tuple[str, int], key)
        normal = group[~group["abnormal"]]
        people = rng.permutation(normal["patient_id"].unique())
        for patient, cells in group[group["abnormal"]].groupby("patient_id"):
            if len(cells) < config.num_folds * config.num_pairs:
                continue
            others = people[people != patient]
            learnt = normal["patient_id"].isin(others[::2]).to_numpy()
            judged = normal["patient_id"].isin(others[1::2]).to_numpy()
            if not (learnt.any() and judged.any()):
                continue
            pair_auc, bag_auc = _judge(
                abnormal_second(feature_NPF, cells),
                feature_NPF[normal.index[learnt]],
                feature_NPF[normal.index[judged]],
                normal["patient_id"].to_numpy()[judged],
                config,
                rng,
            )
            rows.append(
                {
                    "hospital": hospital,
                    "patient": patient,
                    "chromosome": CHROMOSOMES[chromosome],
                    "kind": cells["kind"].iloc[0],
                    "size_mb": float(cells["size_mb"].iloc[0]),
                    "num_cells": len(cells),
                    "pair_auc": pair_auc,
                    "bag_auc": bag_auc,
                }
            )
    if not rows:
        raise DataError(
            f"nobody has {config.num_folds * config.num_pairs} abnormal cells of one type beside "
            "normal people of the same hospital; simulate more with --patient-cells"
        )
    return pd.DataFrame(rows)


def homolog_features(bank: PairBank, num_places: int) -> Floats:
    """Profile and log length of each homolog (N, P, F)."""
    parts = []
    for pair_NPCL in torch.from_numpy(bank.pair_NPCL).split(8192):
        stretched_N1PCS, log_length_N1P = stretch(pair_NPCL[:, None], _STRETCHED)
        profile_NPS = standardise(stretched_N1PCS / 255)[:, 0].mean(dim=2)
        place_NPR = F.adaptive_avg_pool1d(profile_NPS, num_places)
        parts.append(torch.cat([place_NPR, log_length_N1P[:, 0, :, None]], dim=-1))
    feature_NPF: Floats = torch.cat(parts).double().numpy()
    return feature_NPF


def abnormal_second(feature_NPF: Floats, cells: pd.DataFrame) -> Floats:
    """Features of abnormal pairs, the abnormal homolog second."""
    own_NPF = feature_NPF[cells.index]
    first_N = (cells["homolog"] == 0).to_numpy()
    own_NPF[first_N] = own_NPF[first_N][:, ::-1]
    return own_NPF


def _judge(
    abnormal_NPF: Floats,
    learnt_NPF: Floats,
    judged_NPF: Floats,
    person_N: NDArray[np.object_],
    config: OracleConfig,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Mean AUC over the folds, for pairs and for bags."""
    fold_N = rng.permutation(len(abnormal_NPF)) % config.num_folds
    # In normal pairs neither homolog is abnormal: both orders are used.
    normal_MX = np.concatenate([learnt_NPF, learnt_NPF[:, ::-1]]).reshape(2 * len(learnt_NPF), -1)
    aucs = []
    for fold in range(config.num_folds):
        known_NX = abnormal_NPF[fold_N != fold].reshape(np.sum(fold_N != fold), -1)
        discriminant = LinearDiscriminantAnalysis(
            solver="lsqr", shrinkage="auto", priors=(0.5, 0.5)
        ).fit(
            np.concatenate([normal_MX, known_NX]),
            np.repeat([False, True], [len(normal_MX), len(known_NX)]),
        )
        abnormal_N = evidence(discriminant, abnormal_NPF[fold_N == fold])
        normal_N = evidence(discriminant, judged_NPF)
        bags = [
            _bags(abnormal_N, config, rng),
            *(_bags(normal_N[person_N == person], config, rng) for person in np.unique(person_N)),
        ]
        aucs.append(
            (_auc(abnormal_N, normal_N), _auc(bags[0], np.concatenate(bags[1:]))),
        )
    pair_auc, bag_auc = np.mean(aucs, axis=0)
    return float(pair_auc), float(bag_auc)


def evidence(discriminant: LinearDiscriminantAnalysis, pair_NPF: Floats) -> Floats:
    """Log odds of pairs (N), as it is unknown which homolog would be abnormal."""
    orders = [
        discriminant.decision_function(x_NPF.reshape(len(x_NPF), -1))
        for x_NPF in (pair_NPF, pair_NPF[:, ::-1])
    ]
    log_odds_N: Floats = np.logaddexp(*orders)
    return log_odds_N


def _bags(evidence_N: Floats, config: OracleConfig, rng: np.random.Generator) -> Floats:
    """Evidence of bags of one person's pairs; uses all pairs if there are at most K."""
    size = min(config.num_pairs, len(evidence_N))
    return np.array(
        [rng.choice(evidence_N, size, replace=False).sum() for _ in range(config.bags_per_person)]
    )


def _auc(abnormal_B: Floats, normal_B: Floats) -> float:
    labels = np.repeat([True, False], [len(abnormal_B), len(normal_B)])
    return float(roc_auc_score(labels, np.concatenate([abnormal_B, normal_B])))


def beside_model(events: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Adds a model's AUC on the same abnormalities, and drops people that it was not tested on.

    Args:
        events: from :func:`visible_events`.
        scores: test bags of an evaluation; an abnormality's bags are compared with the normal bags
            of the type and hospital.

    Raises:
        DataError: the scores contain none of the people.
    """
    test = scores[scores["split"] == "test"]
    patient = test["patients"].str[0]
    found = []
    for event in events.itertuples():
        of = test[(test["hospital"] == event.hospital) & (test["chromosome"] == event.chromosome)]
        own = of[of["abnormal"] & (patient.loc[of.index] == event.patient)]["score"]
        normal = of[of["kind"] == NORMAL]["score"]
        known = len(own) > 0 and len(normal) > 0
        found.append(_auc(own.to_numpy(), normal.to_numpy()) if known else np.nan)
    both = events.assign(model_auc=found).dropna(subset="model_auc").reset_index(drop=True)
    if both.empty:
        raise DataError(
            "none of these people is among the test people of --scores; the cohort must be of the "
            "same seed and numbers of patients"
        )
    return both


def summarise(events: pd.DataFrame) -> dict[str, Any]:
    """Means over abnormalities by size, hospital and kind, and the abnormalities themselves."""
    parts: dict[str, NDArray[np.bool_]] = size_classes(events["size_mb"], EVENT_SIZES_MB, "Mb")
    for name in ("hospital", "kind"):
        parts |= {value: (events[name] == value).to_numpy() for value in sorted(set(events[name]))}
    parts["all"] = np.ones(len(events), np.bool_)
    columns = [name for name in ("pair_auc", "bag_auc", "model_auc") if name in events]
    return {
        "rows": [
            {
                "name": name,
                "num_events": int(mask.sum()),
                "num_people": int(events["patient"][mask].nunique()),
                **{column: float(events[column][mask].mean()) for column in columns},
            }
            for name, mask in parts.items()
        ],
        "events": events.to_dict("records"),
    }


def oracle_markdown(figures: Mapping[str, Any]) -> str:
    """The means as a Markdown table."""
    heads = {"pair_auc": "Oracle, pairs", "bag_auc": "Oracle, bags", "model_auc": "HomNet, bags"}
    shown = {name: head for name, head in heads.items() if name in figures["rows"][0]}
    return markdown_table(
        ("Abnormalities", *shown.values(), "Abnormal types", "People"),
        [
            (
                row["name"],
                *(f"{row[name]:.3f}" for name in shown),
                row["num_events"],
                row["num_people"],
            )
            for row in figures["rows"]
        ],
    )
