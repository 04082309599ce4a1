"""What a search over events finds in whole patients, beside verdicts on the same patients.

The search (:mod:`homnet.model.search`) looks for one event at one place in all cells of a type.
It knows mean and covariance of the laboratory's normal pairs, from other people, and no abnormal
chromosome.

Shape suffixes: N pairs, P homologs, C chromatids, L positions, T chromosome types, F families,
H events.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from homnet.bags.draw import PairBank
from homnet.errors import ConfigError, DataError
from homnet.evaluation.metrics import EVENT_SIZES_MB, size_classes
from homnet.model.contract import NUM_TYPES
from homnet.model.search import FAMILIES, FEWEST_POSITIONS, EventSearch
from homnet.model.views import standardise, stretch
from homnet.patients.metrics import share
from homnet.patients.tables import KEY
from homnet.records.known_events import EVENT_KNOWN, TYPE_UNKNOWN
from homnet.report.markdown import markdown_table
from homnet.results import Record

SEARCH: Final = "search"
"""Name of the search among the methods."""
KNOWN_VARIANTS: Final = "search, variants known"
"""The search by somebody who recognises harmless variants, and leaves out the types with one."""
_STRETCHED: Final = 128
"""Number of positions of the stretched profiles, as in the best form."""
_PAIRS_AT_ONCE: Final = 4096
_TAIL: Final = (0.5, 0.98)
"""Quantiles of normal types that become 0 and 1. The most conspicuous of 23 types decides, so tails
are what must be alike: a quantile of 95 % finds fewer patients, 84 % far fewer (LAB.md)."""
_LEAST_SPREAD: Final = 1e-3
"""Smallest spread of a type's scores, which are of the order of one."""


@dataclass(frozen=True)
class PatientSearchConfig:
    """Input and settings of the search."""

    cohort: str = "cohorts/patients"
    """Cohort of patients."""
    diagnoses: tuple[str, ...] = ()
    """Diagnoses of its patients to compare with, each as name=directory."""
    cells: str = ""
    """Cohort of the same patients with many other cells of their abnormal types, for the oracle:
    ``jobs/simulate.py`` with the same numbers, ``--patient-cells 300 --rearranged-types``."""
    others: str = ""
    """Cohort of healthy people of the same hospitals, with about as many cells, for the oracle."""
    num_positions: int = 64
    """Number of positions of a homolog at which events are searched; a divisor of 128."""
    specificity: float = 0.99
    """Share of healthy patients below the threshold of each method, reached on these patients."""
    seed: int = 0
    """Seed of the halves of people that lend each other their normal pairs."""
    record: Record = Record()
    """The result of record."""

    def __post_init__(self) -> None:
        if self.num_positions < FEWEST_POSITIONS or _STRETCHED % self.num_positions:
            raise ConfigError(f"num_positions is {self.num_positions}; give 32, 64 or 128")
        if not 0 < self.specificity < 1:
            raise ConfigError(f"specificity is {self.specificity}; give a share, such as 0.99")
        if bool(self.cells) != bool(self.others):
            raise ConfigError("the oracle needs both --cells and --others, or neither")
        for one in self.diagnoses:
            if not all(one.partition("=")):
                raise ConfigError(f"diagnoses has {one!r}; give each as name=directory")
        names = [SEARCH, KNOWN_VARIANTS, EVENT_KNOWN, TYPE_UNKNOWN]
        names += (one.partition("=")[0] for one in self.diagnoses)
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"diagnoses names the method {name!r} twice; give another name")
            if name.startswith("true_") or name in KEY:
                raise ConfigError(f"{name!r} begins with true_ or is a column; give another name")


def search_types(bank: PairBank, config: PatientSearchConfig) -> pd.DataFrame:
    """Searches all types of the patients of one hospital.

    Args:
        bank: all pairs of the hospital.
        config: settings.

    Returns:
        One row per type of a patient: hospital, half (of the people), patient_id, chromosome (index
        0..23), num_cells, abnormal, variant (whether it is a harmless one), and the score of each
        family in the columns :data:`homnet.model.search.FAMILIES`.

    Raises:
        DataError: there are fewer than two patients, or one half has no normal pair.
    """
    people = np.random.default_rng(config.seed).permutation(sorted(set(bank.frame["patient_id"])))
    if len(people) < 2:
        raise DataError("one half of the people lends the other its normal pairs; give more people")
    halves = [people[::2], people[1::2]]
    parts = []
    for half, (own, others) in enumerate((halves, halves[::-1])):
        search = _search_that_knows(bank.of_patients(others).normal(), config.num_positions)
        parts += [
            _search_patient(search, bank.of_patients([person])).assign(half=half)
            for person in sorted(own.tolist())
        ]
    return pd.concat(parts, ignore_index=True)


def patient_scores(types: pd.DataFrame) -> pd.DataFrame:
    """Scores patients by their most conspicuous type.

    Scores of a type depend on its bands and on the number of cells. They are therefore compared
    with those of the normal types of the same kind among all judged people: a line through the
    number of cells is subtracted, and the rest is divided by the distance of its upper tail from
    its median. Families are added.

    Args:
        types: from :func:`search_types`, of all hospitals.

    Returns:
        One row per patient: hospital, patient_id, and the highest score of all types in the columns
        :data:`SEARCH` and, without the types with a harmless variant, :data:`KNOWN_VARIANTS`.
    """
    total = pd.Series(0.0, index=types.index)
    for _, kind in types.groupby(["hospital", "half", "chromosome"]):
        normal = kind[~kind["abnormal"]]
        for family in FAMILIES:
            line = np.polynomial.Polynomial.fit(
                normal["num_cells"], normal[family], deg=int(normal["num_cells"].nunique() > 1)
            )
            rest = kind[family] - line(kind["num_cells"])
            middle, upper = np.quantile(rest[normal.index], _TAIL)
            total[kind.index] += (rest - middle) / max(upper - middle, _LEAST_SPREAD)
    scored = types.assign(**{SEARCH: total, KNOWN_VARIANTS: total.mask(types["variant"], -np.inf)})
    found: pd.DataFrame = scored.groupby(KEY)[[SEARCH, KNOWN_VARIANTS]].max().reset_index()
    return found


def _search_that_knows(normal: PairBank, num_positions: int) -> EventSearch:
    search = EventSearch(num_positions)
    sums_TY = torch.zeros(NUM_TYPES, search.num_sums, dtype=torch.float64)
    type_N = _types(normal)
    for part_N in torch.arange(len(type_N)).split(_PAIRS_AT_ONCE):
        view_N1PCL = _view(normal.pair_NPCL[part_N.numpy()])
        sums_TY += search.sums(view_N1PCL, type_N[part_N])
    search.take_sums(sums_TY, torch.bincount(type_N, minlength=NUM_TYPES).double())
    return search


def _search_patient(search: EventSearch, own: PairBank) -> pd.DataFrame:
    type_N = _types(own)
    ratio_NH = search.ratios(_view(own.pair_NPCL), type_N).squeeze(1)
    total_TH = ratio_NH.new_zeros(NUM_TYPES, ratio_NH.shape[1]).index_add(0, type_N, ratio_NH)
    present_T = type_N.unique()
    every_T1 = torch.ones(len(present_T), 1, dtype=torch.bool)
    family_TF = search.scores(total_TH[present_T, None], every_T1).double().numpy()
    groups = own.frame.groupby("chromosome", sort=True)
    found = groups.agg(
        hospital=("hospital", "first"),
        patient_id=("patient_id", "first"),
        num_cells=("cell_id", "size"),
        abnormal=("abnormal", "any"),
        variant=("variant", lambda names: names.notna().any()),
    ).reset_index()
    return found.assign(**dict(zip(FAMILIES, family_TF.T, strict=True)))


def _types(bank: PairBank) -> torch.Tensor:
    return torch.tensor(bank.frame["chromosome"].to_numpy(np.int64))


def _view(pair_NPCL: NDArray[np.uint8]) -> torch.Tensor:
    stretched_N1PCL, _ = stretch(torch.from_numpy(pair_NPCL)[:, None], _STRETCHED)
    return standardise(stretched_N1PCL / 255)


def beside_verdicts(
    found: pd.DataFrame,
    diagnoses: Mapping[str, pd.DataFrame],
    truth: pd.DataFrame,
    specificity: float,
) -> dict[str, Any]:
    """Compares methods at one specificity, on the patients that all of them scored.

    Args:
        found: from :func:`patient_scores`.
        diagnoses: rows of :data:`homnet.patients.tables.PATIENTS` by name of the method.
        truth: from :func:`homnet.patients.tables.truth_of_patients`.
        specificity: share of healthy patients at or below the threshold.

    Returns:
        JSON-able: ``num_patients``, ``num_healthy``, and ``rows`` with the share of the abnormal
        patients of a size, kind or hospital that each method finds.

    Raises:
        DataError: no patient was scored by all, or one class is absent.
    """
    joined = truth.merge(found, on=KEY)
    for name, patients in diagnoses.items():
        scored = patients[patients["score"].notna()]
        joined = joined.merge(scored[[*KEY, "score"]].rename(columns={"score": name}), on=KEY)
    carriers = joined[joined["true_abnormal"]].reset_index(drop=True)
    healthy = joined[~joined["true_abnormal"]]
    if carriers.empty or healthy.empty:
        raise DataError("the diagnoses have no abnormal or no healthy patients in common")
    methods = (SEARCH, KNOWN_VARIANTS, *diagnoses)
    # The highest score that the healthy ones above the threshold leave over.
    num_above = math.floor(len(healthy) * (1 - specificity) + 1e-9)
    threshold = {name: np.sort(healthy[name])[-1 - num_above] for name in methods}
    parts: dict[str, NDArray[np.bool_]] = {"all": np.ones(len(carriers), np.bool_)}
    parts |= size_classes(carriers["true_size_mb"], EVENT_SIZES_MB, "Mb")
    for column in ("true_kind", "hospital"):
        parts |= {
            str(value): (carriers[column] == value).to_numpy()
            for value in sorted(set(carriers[column].dropna()))
        }
    return {
        "specificity": specificity,
        "num_patients": len(joined),
        "num_healthy": len(healthy),
        "rows": [
            {
                "name": part,
                "num_patients": int(mask.sum()),
                "sensitivity": {
                    name: share(
                        int((carriers[name][mask] > threshold[name]).sum()), int(mask.sum())
                    )
                    for name in methods
                },
            }
            for part, mask in parts.items()
        ],
    }


def patient_search_markdown(figures: Mapping[str, Any]) -> str:
    """The shares that are found as a Markdown table, with intervals over all patients."""
    first, *others = figures["rows"]
    methods = list(first["sensitivity"])

    def line(row: Mapping[str, Any], *, interval: bool) -> Iterable[Any]:
        yield row["name"]
        for method in methods:
            one = row["sensitivity"][method]
            yield f"{one['value']:.2f}" + (
                f" ({one['low']:.2f} to {one['high']:.2f})" if interval else ""
            )
        yield row["num_patients"]

    heads = ("Abnormal patients", *(name[0].upper() + name[1:] for name in methods), "Number")
    rows = [line(first, interval=True), *(line(row, interval=False) for row in others)]
    return markdown_table(heads, [tuple(row) for row in rows])
