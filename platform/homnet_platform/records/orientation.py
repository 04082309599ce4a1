"""Measures what turning upside-down chromosomes does, on bags of normal and abnormal pairs.

Chromosomes are turned in memory. The other chromosomes of a bag stay as they were stored, of which
a few lie upside down too: those that a discriminant of other people's chromosomes calls so are
counted as such.

Shape suffixes: N chromosomes, B bags, K cells, P homologs, C chromatids, L positions, U points
along a chromosome.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from homnet.bags.assessment import Assessment, assess
from homnet.bags.draw import BagConfig, PairBank, rows_of_file
from homnet.bags.epochs import Batch, DeviceBank, Epoch, draw_epoch
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, SplitConfig, split_patients
from homnet.imaging.orientation import Orientation, profiles, turn
from homnet.karyotype.chromosomes import CHROMOSOMES
from homnet.karyotype.kinds import NORMAL
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.report.markdown import tables_text
from homnet.results import Record
from homnet.seeding import generator
from homnet_platform.runs import refuse_known

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

ALARMS: Final = 0.01
"""Share of false alarms among untouched normal bags, for which the threshold is set."""
_FOLDS: Final = 8
_RIDGE: Final = 0.05
_CLEAR: Final = 0.7
"""Absolute discriminant from which on it is clear how a chromosome was stored; the others count as
stored upright."""
_BAGS_AT_ONCE: Final = 256


@dataclass(frozen=True)
class OrientationConfig:
    """What is measured, on which cohort and with which model."""

    cohort: str = "cohorts/pki3"
    """Cohort whose chromosomes are stored as they came (jobs/ingest.py --turn never)."""
    checkpoint: str = "runs/pki3/checkpoint"
    """Model whose false alarms and AUC are measured."""
    rounds: int = 20
    """Number of uses of each pair in bags."""
    simulated: str | None = None
    """Cohort of simulated patients, whose bags are judged with their own labels."""
    simulated_checkpoint: str = "runs/pretrain-simulated/checkpoint"
    """Model for simulated patients."""
    normal_types: int = 100
    """Number of normal types of abnormal simulated patients that are judged, per file."""
    num_bootstrap: int = 200
    """Replicates of the bootstrap over bags."""
    seed: int = 0
    """Seed of bags, events, choices and bootstrap."""
    record: Record = Record()
    """The result of record."""


def stored_upright(bank: PairBank) -> Floats:
    """Discriminant of homologs (N, 2), learnt from other people's; below 0 for upside down.

    In standard deviations of its type.
    """
    profile_NU = profiles(bank.pair_NPCL.reshape(-1, *bank.pair_NPCL.shape[2:]))
    type_N = np.repeat(bank.frame["chromosome"].to_numpy(), 2)
    people = np.repeat(bank.frame["patient_id"].to_numpy(), 2)
    half = profile_NU.shape[1] // 2
    centred = profile_NU - profile_NU.mean(axis=1, keepdims=True)
    centred /= centred.std(axis=1, keepdims=True)
    odd = (centred - centred[:, ::-1])[:, :half]
    fold_N = np.unique(people, return_inverse=True)[1] % _FOLDS
    score_N = np.zeros(len(odd))
    for chromosome in np.unique(type_N):
        for fold in range(_FOLDS):
            learnt = (type_N == chromosome) & (fold_N != fold)
            judged = (type_N == chromosome) & (fold_N == fold)
            within = np.cov(odd[learnt].T) + _RIDGE * np.eye(half)
            weight = np.linalg.solve(within, odd[learnt].mean(axis=0))
            score_N[judged] = odd[judged] @ weight / (odd[learnt] @ weight).std()
    return score_N.reshape(-1, 2)


def measure(config: OrientationConfig) -> dict[str, Any]:
    """All figures: ``by_type``, ``false_alarms``, ``auc`` and, if asked for, ``simulated``.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort)
    tables = (rows_of_file(cohort, number) for number in range(len(cohort.files)))
    bank = PairBank.from_table(pa.concat_tables(tables)).normal()
    test = split_patients(cohort.patients, SplitConfig())[TEST]
    checkpoint = Checkpoint.load(config.checkpoint)
    refuse_known(config.checkpoint, checkpoint.provenance, test, "learnt_from", "validated_on")
    predictor = Predictor.of_checkpoint(checkpoint)
    stored_NP = stored_upright(bank)

    def bags(people: PairBank, rounds: int, events: EventConfig | None) -> BagsInMemory:
        setting = BagConfig(rounds=rounds, over="people")
        return BagsInMemory.of(
            people, draw_epoch(people, setting, events, seed=config.seed, epoch=0)
        )

    hidden = bank.of_patients(test)
    normal = bags(hidden, config.rounds, EventConfig(abnormal_share=0.0))
    events = bags(hidden, config.rounds, EventConfig())
    before_B = events.logits(events.x_BKPCL, predictor)
    after_B = events.logits(events.upright(events.x_BKPCL), predictor)
    figures = {
        "model": checkpoint.version,
        "num_people": len(test),
        "by_type": by_type(bags(bank, 1, None), stored_NP, config.seed),
        "false_alarms": false_alarms(normal, predictor, config),
        "auc": auc_by_kind(events.kind_B, before_B, after_B, config),
    }
    if config.simulated is not None:
        figures["simulated"] = simulated(Cohort.open(config.simulated), config)
    return figures


@dataclass(frozen=True)
class BagsInMemory:
    """Bags of K pairs each, with what is known of them."""

    x_BKPCL: NDArray[np.uint8]
    """Darkness."""
    chromosome_B: NDArray[np.int64]
    """Index of the type."""
    level_BK: NDArray[np.int64]
    """Index of the band level."""
    kind_B: NDArray[np.object_]
    """Kind of the abnormality, or normal."""
    row_BK: NDArray[np.int64]
    """Rows of the bank."""

    @classmethod
    def of(cls, bank: PairBank, epoch: Epoch) -> "BagsInMemory":
        """The full bags of an epoch, with its artificial events."""
        full = np.flatnonzero(epoch.bags.mask_BK.all(axis=1))
        batch = DeviceBank(bank, "cpu").load(epoch.take(full)).batch(slice(None))
        return cls(
            batch.x_BKPCL.numpy(),
            batch.chromosome_B.numpy(),
            batch.level_BK.numpy(),
            epoch.kind_B[full],
            epoch.bags.row_BK[full],
        )

    def orientation(self, x_BKPCL: NDArray[np.uint8]) -> Orientation:
        """Orientation of all homologs, each bag as one patient."""
        num_bags, per_bag = len(x_BKPCL), x_BKPCL.shape[1] * 2
        group_N = np.repeat(np.arange(num_bags), per_bag)
        flat_NCL = x_BKPCL.reshape(-1, *x_BKPCL.shape[3:])
        return Orientation.of(flat_NCL, np.repeat(self.chromosome_B, per_bag), group_N)

    def upright(self, x_BKPCL: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The bags with those turned that certainly lie upside down."""
        down = self.orientation(x_BKPCL).upside_down_N
        return turned(x_BKPCL, down.reshape(x_BKPCL.shape[:3]))

    def logits(self, x_BKPCL: NDArray[np.uint8], predictor: Predictor) -> Floats:
        """Logits (B) of a model for the bags with these pairs."""
        logits = []
        for at in range(0, len(x_BKPCL), _BAGS_AT_ONCE):
            part = slice(at, at + _BAGS_AT_ONCE)
            x_part = torch.from_numpy(x_BKPCL[part])
            batch = Batch(
                x_BKPCL=x_part,
                mask_BK=torch.ones(x_part.shape[:2], dtype=torch.bool),
                chromosome_B=torch.from_numpy(self.chromosome_B[part]),
                level_BK=torch.from_numpy(self.level_BK[part]),
                label_B=torch.zeros(len(x_part)),
            )
            logits.append(predictor.logits(batch))
        return np.concatenate(logits)


def turned(x_BKPCL: NDArray[np.uint8], which_BKP: Bools) -> NDArray[np.uint8]:
    """The pairs with some homologs turned."""
    result = x_BKPCL.copy()
    result[which_BKP] = turn(x_BKPCL[which_BKP])
    return result


def by_type(bags: BagsInMemory, stored_NP: Floats, seed: int) -> dict[str, Any]:
    """How often the orientation is decided, and decided right, by type.

    One homolog of each bag is turned, drawn at random. Half of the figures are of turned
    chromosomes, half of the others of the same bags.

    Args:
        bags: bags of normal pairs.
        stored_NP: discriminant of each homolog of the bank, from :func:`stored_upright`.
        seed: seed of the choice.
    """
    shape = bags.x_BKPCL.shape[:3]
    per_bag = shape[1] * shape[2]
    stored_N = stored_NP[bags.row_BK].reshape(-1)
    down_N, clear_N = stored_N <= -_CLEAR, np.abs(stored_N) >= _CLEAR
    chosen_N = np.zeros(len(down_N), np.bool_)
    picked = generator(seed, "turned").integers(0, per_bag, shape[0])
    chosen_N[np.arange(shape[0]) * per_bag + picked] = True
    found = bags.orientation(turned(bags.x_BKPCL, chosen_N.reshape(shape)))
    truth_N = down_N ^ chosen_N
    decided_N = ~found.uncertain_N
    right_N = decided_N & (found.upside_down_N == truth_N)
    type_N = np.repeat(bags.chromosome_B, per_bag)

    def share(value_N: Bools, of_N: Bools) -> float:
        """Mean of the share among turned and the share among other chromosomes."""
        parts = [value_N[of_N & chosen_N], value_N[of_N & ~chosen_N]]
        return float(np.mean([part.mean() for part in parts if len(part)] or 0.0))

    def shares(of_N: Bools) -> dict[str, float]:
        return {
            "decided": share(decided_N, of_N),
            "right_of_decided": share(right_N, of_N & decided_N),
            "right_of_clear": share(right_N, of_N & decided_N & clear_N),
            "stored_upside_down": float(down_N[of_N].mean()),
        }

    figures: dict[str, Any] = {
        name: shares(type_N == number)
        for number, name in enumerate(CHROMOSOMES)
        if (type_N == number).any()
    }
    everything = np.ones(len(type_N), np.bool_)
    figures["all"] = {
        **shares(everything),
        "clear": float(clear_N.mean()),
        "num_chromosomes": len(type_N),
        "num_turned": int(chosen_N.sum()),
    }
    return figures


def _choices(num_bags: int, num_cells: int, seed: int) -> dict[str, Bools]:
    """Which homologs (B, K, P) are turned in each trial."""
    draw = generator(seed, "false alarms")
    bag = np.arange(num_bags)
    cell_B, homolog_BK = (
        draw.integers(0, num_cells, num_bags),
        draw.integers(0, 2, (num_bags, num_cells)),
    )
    one, pair, all_cells = (np.zeros((num_bags, num_cells, 2), np.bool_) for _ in range(3))
    one[bag, cell_B, homolog_BK[:, 0]] = True
    pair[bag, cell_B] = True
    all_cells[bag[:, None], np.arange(num_cells), homolog_BK] = True
    return {
        "untouched": np.zeros_like(one),
        "one homolog in one cell": one,
        "one pair": pair,
        "one homolog in all cells": all_cells,
    }


def false_alarms(
    bags: BagsInMemory, predictor: Predictor, config: OrientationConfig
) -> dict[str, Any]:
    """Share of normal bags above the threshold, before and after turning, for each trial."""
    threshold = float(np.quantile(bags.logits(bags.x_BKPCL, predictor), 1 - ALARMS))
    figures: dict[str, Any] = {"num_bags": len(bags.chromosome_B), "threshold": threshold}
    num_bags, num_cells = bags.x_BKPCL.shape[:2]
    for name, which in _choices(num_bags, num_cells, config.seed).items():
        x_BKPCL = turned(bags.x_BKPCL, which)
        alarms = {
            "before": bags.logits(x_BKPCL, predictor) > threshold,
            "after": bags.logits(bags.upright(x_BKPCL), predictor) > threshold,
        }
        figures[name] = {when: _interval(found, np.mean, config) for when, found in alarms.items()}
    return figures


def auc_by_kind(
    kind_B: NDArray[np.object_], before_B: Floats, after_B: Floats, config: OrientationConfig
) -> dict[str, Any]:
    """AUC of each kind against normal bags, before and after turning, and the difference."""
    figures = {}
    normal = kind_B == NORMAL
    for kind in sorted(set(kind_B.tolist()) - {NORMAL}):
        of = normal | (kind_B == kind)
        both = np.stack([before_B[of], after_B[of], kind_B[of] == kind], axis=1)

        def gain(rows: Floats) -> float:
            if len(set(rows[:, 2])) < 2:
                return 0.0
            return float(
                roc_auc_score(rows[:, 2], rows[:, 1]) - roc_auc_score(rows[:, 2], rows[:, 0])
            )

        figures[kind] = {
            "num_bags": int((kind_B == kind).sum()),
            "before": float(roc_auc_score(both[:, 2], both[:, 0])),
            "after": float(roc_auc_score(both[:, 2], both[:, 1])),
            "gain": _interval(both, gain, config),
        }
    return figures


def simulated(cohort: Cohort, config: OrientationConfig) -> dict[str, Any]:
    """What turning changes on simulated patients with known abnormalities.

    Of each file the abnormal types of patients are judged, and some of their normal types.

    Returns:
        ``turned``: share of the chromosomes; some are drawn upside down by the simulator. ``auc``
        by kind as of :func:`auc_by_kind`; pericentric inversions are counted apart.
    """
    predictor = Predictor.load(config.simulated_checkpoint)
    kinds: list[str] = []
    logits: list[Floats] = []
    num_turned = num_all = 0
    for number, entry in enumerate(cohort.files):
        table = cohort.read(file=entry)
        table = table.filter(
            pc.is_in(table["patient_id"], pc.unique(table.filter(table["abnormal"])["patient_id"]))
        )
        if not table.num_rows:
            continue
        assessment = assess(table)
        kind_G = kinds_of(table, assessment)
        normal = np.flatnonzero(kind_G == NORMAL)
        draw = generator(config.seed, "normal types", number)
        some = draw.choice(normal, min(config.normal_types, len(normal)), replace=False)
        chosen = assessment.only(np.sort(np.concatenate([np.flatnonzero(kind_G != NORMAL), some])))
        pair_NPCL = chosen.bags.pair_NPCL
        down_NP = Orientation.of(
            pair_NPCL.reshape(-1, *pair_NPCL.shape[2:]),
            np.repeat(chosen.bags.chromosome_N, 2),
            np.repeat(chosen.type_N, 2),
        ).upside_down_N.reshape(-1, 2)
        upright = replace(chosen.bags, pair_NPCL=turned(pair_NPCL, down_NP))
        logits.append(
            np.stack(
                [chosen.of_types(predictor.flat_logits(bags)) for bags in (chosen.bags, upright)]
            )
        )
        of_name = dict(zip(assessment.types, kind_G.tolist(), strict=True))
        kinds += [of_name[name] for name in chosen.types]
        num_turned, num_all = num_turned + int(down_NP.sum()), num_all + down_NP.size
    before_B, after_B = np.concatenate(logits, axis=1)
    return {
        "model": predictor.version,
        "turned": num_turned / num_all,
        "num_normal": kinds.count(NORMAL),
        "auc": auc_by_kind(np.array(kinds, object), before_B, after_B, config),
    }


def kinds_of(table: pa.Table, assessment: Assessment) -> NDArray[np.object_]:
    """Kind of the abnormality of each type of each patient."""
    kind_G = np.full(len(assessment.types), NORMAL, object)
    kind, name = table["kind"].to_pylist(), table["iscn"].to_pylist()
    for type_, row in zip(assessment.type_N.tolist(), assessment.row_N.tolist(), strict=True):
        if kind[row]:
            bands = (name[row] or "").rpartition("(")[2]
            across = kind[row] == "inversion" and "p" in bands and "q" in bands
            kind_G[type_] = f"pericentric {kind[row]}" if across else kind[row]
    return kind_G


def orientation_markdown(figures: Mapping[str, Any]) -> str:
    """The figures as tables."""

    def interval(found: Mapping[str, float], digits: int) -> str:
        value, low, high = (found[name] for name in ("value", "low", "high"))
        return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    def kinds(auc: Mapping[str, Any]) -> list[list[object]]:
        return [
            [kind, one["num_bags"], f"{one['before']:.4f}", interval(one["gain"], 4)]
            for kind, one in auc.items()
        ]

    alarms = {name: one for name, one in figures["false_alarms"].items() if isinstance(one, dict)}
    heads = ["Kind", "Bags", "AUC as stored", "Change by turning"]
    tables = [
        (
            "Orientation of real chromosomes",
            ["Type", "Decided", "Right", "Right where it is clear", "Stored upside down"],
            [
                [
                    name,
                    *(
                        f"{one[key]:.3f}"
                        for key in (
                            "decided",
                            "right_of_decided",
                            "right_of_clear",
                            "stored_upside_down",
                        )
                    ),
                ]
                for name, one in figures["by_type"].items()
            ],
        ),
        (
            "False alarms",
            ["Turned on purpose", "As they are", "After turning"],
            [
                [name, interval(one["before"], 4), interval(one["after"], 4)]
                for name, one in alarms.items()
            ],
        ),
        ("Artificial abnormalities of real people", heads, kinds(figures["auc"])),
    ]
    if "simulated" in figures:
        tables.append(("Simulated patients", heads, kinds(figures["simulated"]["auc"])))
    return tables_text(tables)


def _interval(
    values: NDArray[Any], statistic: Callable[[Any], Any], config: OrientationConfig
) -> Mapping[str, float]:
    """A statistic with its 95 % interval from a bootstrap over bags."""
    draw = generator(config.seed, "bootstrap")
    drawn = [
        float(statistic(values[draw.integers(0, len(values), len(values))]))
        for _ in range(config.num_bootstrap)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": float(statistic(values)), "low": float(low), "high": float(high)}
