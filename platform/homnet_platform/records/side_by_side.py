"""Runs of a comparison side by side as Ray tasks, their scores, and the rows of a table.

A failed run does not stop the others.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import ray

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import DeviceBank, draw_epoch
from homnet.bags.events import EventConfig
from homnet.cohorts.split import TEST, VALIDATION
from homnet.errors import DataError
from homnet.evaluation.bootstrap import estimate
from homnet.evaluation.metrics import hospital_samples
from homnet.model.predictor import Predictor
from homnet.records.beside_paper import HOMNET, OF_HOSPITALS
from homnet_platform.job import root_cause
from homnet_platform.runtime import require_workers

MethodRun = tuple[str, str, int]
"""Method, kind of run (for example "trial" or "seed") and number of the run."""


class Columns(NamedTuple):
    """Column names of a table, and the sign of its differences."""

    line: str
    """Column with the name of the method."""
    less: str
    """Suffix of the names of the differences from HomNet."""
    sign: int
    """1 for the method minus HomNet, -1 for HomNet minus the method."""


METHODS: Final = Columns("method", "behind", -1)
"""Tables 2 and 3: deficit of every method relative to HomNet."""
VARIANTS: Final = Columns("variant", "less_full", 1)
"""Table 4: difference of every variant from the full HomNet."""


def side_by_side(
    runs: Sequence[MethodRun],
    task: Callable[[Any, MethodRun], float],
    data: Any,
    *,
    cpus: int,
    gpus: float,
) -> dict[MethodRun, str]:
    """Executes the runs as Ray tasks, as many at a time as fit, and prints a line for each.

    Args:
        runs: all runs.
        task: executes one run in another process, given the data and the run; returns its seconds.
        data: data needed by all runs, or a reference to it.
        cpus: CPUs per run.
        gpus: GPUs per run.

    Returns:
        The reason for failure, by failed run; all other runs are done.

    Raises:
        ConfigError: the cluster is too small for a single run.
    """
    if not runs:
        return {}
    require_workers(1, "a run", cpus=cpus, gpus=gpus)
    remote: Any = ray.remote(num_cpus=cpus, num_gpus=gpus)(_call)
    waiting = {remote.remote(task, data, run): run for run in runs}
    failed: dict[MethodRun, str] = {}
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        run = waiting.pop(done)
        try:
            outcome = f"{ray.get(done):.0f} s"
        except Exception as error:
            # Whatever the reason, the other runs remain valid.
            lines = str(root_cause(error)).strip().splitlines()
            failed[run] = lines[-1] if lines else type(error).__name__
            outcome = f"failed: {failed[run]}"
        name, kind, number = run
        print(f"{name}, {kind} {number}: {outcome}; {len(waiting)} of {len(runs)} left", flush=True)
    return failed


def refuse_failed(figures: Mapping[str, Any]) -> None:
    """Raises if one of the runs of a job failed; call it after the table is written.

    Args:
        figures: contains ``failed``: method, name and reason of each failed run.

    Raises:
        DataError: names the first failed run and the reason.
    """
    failed = figures["failed"]
    if failed:
        raise DataError(
            f"{len(failed)} runs failed, the first {failed[0]['name']}, {failed[0]['run']}: "
            f"{failed[0]['reason']}; the others are in the table, and the same command repeats "
            "only what failed"
        )


def _call(task: Callable[[Any, MethodRun], float], data: Any, run: MethodRun) -> float:
    return task(data, run)


def scored(
    bank: PairBank,
    split: Mapping[str, frozenset[str]],
    predictor: Predictor,
    bags: BagConfig,
    events: EventConfig | None,
) -> list[pd.DataFrame]:
    """Scores of validation and test people. Bags do not depend on the seed of the model.

    Args:
        bank: their pairs; only normal ones if events are given.
        split: the people.
        predictor: the model that scores.
        bags: how bags are drawn.
        events: artificial abnormalities; None uses the cohort's labels.
    """
    frames = []
    for number, name in enumerate((VALIDATION, TEST)):
        own = bank.of_patients(split[name])
        if bags.over == "people":
            own = own.in_parts_of_their_own()
        epoch = draw_epoch(own, bags, events, seed=0, epoch=number)
        frame = epoch.describe(own).assign(split=name)
        logit_B = predictor.loaded_logits(DeviceBank(own, predictor.device).load(epoch))
        hospital_B = frame["hospital"].to_numpy()
        frame["score"] = np.nan
        for hospital in np.unique(hospital_B):
            of = hospital_B == hospital
            frame.loc[of, "score"] = predictor.probabilities(logit_B[of], hospital)
        frames.append(frame)
    return frames


def write_scores(frames: Sequence[pd.DataFrame], path: Path) -> None:
    """Writes the scores of a run, with consecutive bag numbers."""
    scores = pd.concat(frames, ignore_index=True)
    scores["bag"] = np.arange(len(scores))
    path.parent.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(path, index=False)


def rows_of(
    paths: Mapping[str, Sequence[Path]], num_bootstrap: int, columns: Columns
) -> list[dict[str, Any]]:
    """One row per method and hospital: means over seeds, and differences from HomNet.

    Of several hospitals the last row of a method is :data:`OF_HOSPITALS`. All use the replicates of
    one patient bootstrap, so that intervals of differences are paired.

    Args:
        paths: score files by method, one per seed; all of the same people.
        num_bootstrap: number of replicates of the patient bootstrap.
        columns: names of the columns.

    Raises:
        DataError: the methods were not evaluated on the same people.
    """
    if not paths:
        return []
    judged = {name: _abnormal_people(pd.read_parquet(own[0])) for name, own in paths.items()}
    first = next(iter(judged.values()))
    other = [name for name, people in judged.items() if people != first]
    if other:
        raise DataError(
            f"{paths[other[0]][0]}: these scores are of other people than those of the other "
            "methods; remove the directory of the run, and run the job again"
        )
    samples = {name: _samples(own, num_bootstrap) for name, own in paths.items()}
    if len(first) > 1:
        first[OF_HOSPITALS] = min(first.values(), key=len)
        samples = {name: own | {OF_HOSPITALS: _mean_of(own)} for name, own in samples.items()}
    rows = []
    for name, of_method in samples.items():
        for hospital, metrics in of_method.items():
            row: dict[str, Any] = {columns.line: name, "hospital": hospital}
            for metric, values in metrics.items():
                row[metric] = estimate(values, len(first[hospital]))
                if name != HOMNET and HOMNET in samples:
                    difference = columns.sign * (values - samples[HOMNET][hospital][metric])
                    row[f"{metric}_{columns.less}"] = estimate(difference, len(first[hospital]))
            rows.append(row)
    return rows


def _samples(paths: Sequence[Path], num_bootstrap: int) -> dict[str, dict[str, Any]]:
    """By hospital and metric: mean over seeds on the data itself, then on every replicate."""
    seeds = [
        hospital_samples(pd.read_parquet(path), seed=0, num_bootstrap=num_bootstrap)
        for path in paths
    ]
    return {
        hospital: {
            metric: np.mean([of_seed[hospital][metric] for of_seed in seeds], axis=0)
            for metric in metrics
        }
        for hospital, metrics in seeds[0].items()
    }


def _mean_of(hospitals: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """By metric: mean over hospitals on the data itself, then on every replicate.

    Replicates of all hospitals begin with the same random numbers. Other people are drawn in each,
    independently, so their order is changed, for all methods alike.
    """
    shuffled: dict[str, list[Any]] = {}
    for number, metrics in enumerate(hospitals.values()):
        for metric, values in metrics.items():
            order = 1 + np.random.default_rng(number).permutation(len(values) - 1)
            shuffled.setdefault(metric, []).append(values[[0, *order]])
    return {metric: np.mean(values, axis=0) for metric, values in shuffled.items()}


def _abnormal_people(scores: pd.DataFrame) -> dict[str, set[str]]:
    """By hospital, the people with an abnormal test bag."""
    abnormal = scores[(scores["split"] == TEST) & scores["abnormal"]]
    return {
        str(hospital): {name for bag in own for name in bag}
        for hospital, own in abnormal.groupby("hospital")["patients"]
    }
