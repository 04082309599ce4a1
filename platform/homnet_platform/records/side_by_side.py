"""Many training runs of one cohort beside each other: what ablations and reproductions share.

Every run leaves a file of scores when it is done, so that a killed job repeats only what was under
way, and a run that fails takes no other with it.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import ray

from homnet.bags.draw import BagConfig, PairBank
from homnet.bags.epochs import DeviceBank, draw_epoch
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, VALIDATION
from homnet.errors import DataError
from homnet.evaluation.bootstrap import estimate
from homnet.evaluation.metrics import hospital_samples
from homnet.model.predictor import Predictor
from homnet_platform.job import root_cause
from homnet_platform.runs import Run
from homnet_platform.runtime import require_workers

R = TypeVar("R", bound=Hashable)
Samples = Mapping[str, Mapping[str, Any]]
"""By hospital and metric: the value on the data itself, then one value per replicate."""


def claim_directory(output: Path, fixed: Any, cohort: Cohort, **content: str) -> None:
    """Recognises the directory of an interrupted job of the same kind, or makes one.

    Args:
        output: the directory.
        fixed: the settings that every run in it shares.
        cohort: what they learn from.
        content: what else they share.

    Raises:
        ConfigError: runs of other settings or another cohort are there.
    """
    Run.of(output, fixed, cohort=cohort.fingerprint, **content).claim()


def side_by_side(
    runs: Sequence[R],
    task: Callable[[Any, R], float],
    data: Any,
    *,
    what: str,
    cpus: int,
    gpus: float,
) -> dict[R, str]:
    """Does the runs as Ray tasks, as many at a time as fit, and prints a line for each.

    Args:
        runs: what tells one run from another.
        task: does one of them in another process, given the data and the run; gives the seconds
            it took.
        data: what all runs need, or a reference to it.
        what: names the work in errors.
        cpus: CPUs of one run.
        gpus: GPUs of one run.

    Returns:
        What went wrong in the runs that failed; all others are done.

    Raises:
        ConfigError: not even one run fits on the cluster.
    """
    if not runs:
        return {}
    require_workers(1, what, cpus=cpus, gpus=gpus)
    remote: Any = ray.remote(num_cpus=cpus, num_gpus=gpus)(_call)
    waiting = {remote.remote(task, data, run): run for run in runs}
    failed: dict[R, str] = {}
    while waiting:
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        run = waiting.pop(done)
        try:
            outcome = f"{ray.get(done):.0f} s"
        except Exception as error:
            # Whatever it was: the other runs are worth as much as before.
            lines = str(root_cause(error)).strip().splitlines()
            failed[run] = lines[-1] if lines else type(error).__name__
            outcome = f"failed: {failed[run]}"
        print(f"{what}, {run}: {outcome}; {len(waiting)} of {len(runs)} left", flush=True)
    return failed


def refuse_failed(figures: Mapping[str, Any]) -> None:
    """Ends a job some of whose runs failed; call it after the table was written.

    Args:
        figures: with ``failed``: what was run, which run of it, and the reason.

    Raises:
        DataError: names what failed first, and why.
    """
    failed = figures["failed"]
    if failed:
        raise DataError(
            f"{len(failed)} runs failed, the first {failed[0]['name']}, {failed[0]['run']}: "
            f"{failed[0]['reason']}; the others are in the table, and the same command repeats "
            "what failed alone"
        )


def _call(task: Callable[[Any, R], float], data: Any, run: R) -> float:
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
        bank: their pairs; the normal ones where events are wanted.
        split: who they are.
        predictor: what scores.
        bags: how bags are drawn.
        events: artificial abnormalities; None judges the cohort's labels.
    """
    frames = []
    for number, name in enumerate((VALIDATION, TEST)):
        own = bank.of_patients(split[name])
        epoch = draw_epoch(own, bags, events, seed=0, epoch=number)
        frame = epoch.describe(own).assign(split=name)
        logit_B = predictor.epoch_logits(DeviceBank(own, predictor.device), epoch)
        hospital_B = frame["hospital"].to_numpy()
        frame["score"] = np.nan
        for hospital in np.unique(hospital_B):
            of = hospital_B == hospital
            frame.loc[of, "score"] = predictor.probabilities(logit_B[of], hospital)
        frames.append(frame)
    return frames


def write_scores(frames: Sequence[pd.DataFrame], path: Path) -> None:
    """Writes the scores of a run, which is done when the file is there."""
    scores = pd.concat(frames, ignore_index=True)
    scores["bag"] = np.arange(len(scores))
    staged = path.with_name("scores.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(staged, index=False)
    staged.replace(path)


def samples_of(paths: Sequence[Path], num_bootstrap: int) -> dict[str, dict[str, Any]]:
    """Mean over the runs of one method, replicate by replicate.

    Args:
        paths: files of scores of the same bags, one per seed.
        num_bootstrap: replicates of the patient bootstrap.
    """
    each = [
        hospital_samples(pd.read_parquet(path), seed=0, num_bootstrap=num_bootstrap)
        for path in paths
    ]
    return {
        hospital: {
            metric: np.mean([of_seed[hospital][metric] for of_seed in each], axis=0)
            for metric in metrics
        }
        for hospital, metrics in each[0].items()
    }


def rows_of(
    samples: Mapping[str, Samples],
    paths: Mapping[str, Path],
    *,
    key: str,
    reference: str,
    less: str,
    sign: int = 1,
) -> list[dict[str, Any]]:
    """One line per method and hospital, with differences from a reference on the same replicates.

    Args:
        samples: by method, from :func:`samples_of` with one number of replicates.
        paths: a file of scores of each method; all judged the same people.
        key: what the column of methods is called.
        reference: the method that others are compared with.
        less: ending of the names of the differences.
        sign: 1 for a method minus the reference, -1 for the reference minus a method.

    Raises:
        DataError: the methods were not judged on the same people.
    """
    judged = {name: _abnormal_people(pd.read_parquet(path)) for name, path in paths.items()}
    first = next(iter(judged.values()))
    other = [name for name, people in judged.items() if people != first]
    if other:
        raise DataError(
            f"{paths[other[0]]}: these scores are of other people than the others; remove the "
            "directory of the run, and run the job again"
        )
    rows = []
    for name, of_method in samples.items():
        for hospital, metrics in of_method.items():
            row: dict[str, Any] = {key: name, "hospital": hospital}
            for metric, values in metrics.items():
                row[metric] = estimate(values, len(first[hospital]))
                if name != reference and reference in samples:
                    difference = sign * (values - samples[reference][hospital][metric])
                    row[f"{metric}_{less}"] = estimate(difference, len(first[hospital]))
            rows.append(row)
    return rows


def _abnormal_people(scores: pd.DataFrame) -> dict[str, set[str]]:
    """By hospital, who has an abnormal test bag."""
    abnormal = scores[(scores["split"] == TEST) & scores["abnormal"]]
    return {
        str(hospital): {name for bag in own for name in bag}
        for hospital, own in abnormal.groupby("hospital")["patients"]
    }
