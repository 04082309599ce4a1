"""Throughput of the models without a server: the baseline for endpoint measurements."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import torch

from homnet.bags.assessment import Assessment, assess
from homnet.model.allocator import keep_freed_memory
from homnet.model.predictor import Evidence, Predictor
from homnet.patients.diagnostician import Diagnostician
from homnet.patients.finding import FindingReader
from homnet.patients.verdict import PatientVerdict
from homnet_serve.batching import ReadWork, ScoreWork, read, score
from homnet_serve.records.material import Material, judge_of

SCORES: Final = "HomNet alone"
"""Only the scores of all bags."""
VERDICTS: Final = "verdicts"
"""All that an endpoint computes: scores, findings where the models have a reader, and verdicts."""
K = TypeVar("K")


def bare_rates(
    material: Material, *, num_threads: int, patients_per_pass: int, seconds: float
) -> dict[str, dict[str, float]]:
    """Measures consecutive passes without a server.

    Args:
        material: models, readers and patients; hospitals alternate.
        num_threads: threads per pass.
        patients_per_pass: number of patients in the larger passes.
        seconds: duration of the measurement.

    Returns:
        Patients per second of :data:`SCORES` and of :data:`VERDICTS`, each by number of patients
        per pass.
    """
    patients = _patients(material)
    rates = _rates(
        {
            (path, size): _passes(work, patients, size)
            for path, work in ((SCORES, _scores), (VERDICTS, _verdicts))
            for size in sorted({1, patients_per_pass})
        },
        num_threads,
        seconds,
    )
    found: dict[str, dict[str, float]] = {SCORES: {}, VERDICTS: {}}
    for (path, size), rate in rates.items():
        found[path][f"{size} patient{'s' if size > 1 else ''} a pass"] = rate
    return found


@dataclass(frozen=True)
class _Patient:
    """A patient and what computes the verdict."""

    hospital: str
    assessment: Assessment
    predictor: Predictor
    judge: Diagnostician
    reader: FindingReader | None


def _patients(material: Material) -> list[_Patient]:
    predictors = {name: Predictor.of_checkpoint(one) for name, one in material.checkpoints.items()}
    readers = {name: material.reader_of(one) for name, one in material.checkpoints.items()}
    judges = {name: judge_of(one, readers[name]) for name, one in material.checkpoints.items()}
    return [
        _Patient(name, assess(table), predictors[name], judges[name], readers[name])
        for name, table in zip(material.hospital_of, material.tables, strict=True)
    ]


def _scores(patients: Sequence[_Patient]) -> list[Evidence]:
    """Scores patients in one pass."""
    sizes = [len(one.assessment.bags) for one in patients]
    return score(
        [
            ScoreWork(one.assessment.bags, [one.predictor] * size)
            for one, size in zip(patients, sizes, strict=True)
        ]
    )


def _verdicts(patients: Sequence[_Patient]) -> list[PatientVerdict]:
    """Gives verdicts on patients with one pass of the models and one of each reader."""
    scores = _scores(patients)
    chosen = [
        one.judge.types_to_read(one.hospital, one.assessment, evidence).tolist()
        for one, evidence in zip(patients, scores, strict=True)
    ]
    works = {
        n: ReadWork(one.assessment.only(chosen[n]), [one.reader] * len(chosen[n]))
        for n, one in enumerate(patients)
        if one.reader is not None and chosen[n]
    }
    findings = dict(zip(works, read(list(works.values())) if works else [], strict=True))
    return [
        verdict
        for n, (one, evidence) in enumerate(zip(patients, scores, strict=True))
        for verdict in one.judge.judge(
            one.hospital,
            one.assessment,
            evidence,
            dict(zip(chosen[n], findings.get(n, []), strict=True)),
        )
    ]


def _passes(
    work: Callable[[Sequence[_Patient]], object], patients: Sequence[_Patient], size: int
) -> Callable[[], int]:
    """A function that works on the next patients in one pass and returns their number."""
    following = itertools.cycle(patients)

    def step() -> int:
        work(list(itertools.islice(following, size)))
        return size

    return step


def _rates(
    tasks: Mapping[K, Callable[[], int]], num_threads: int, seconds: float
) -> dict[K, float]:
    # Same settings as the endpoint, for a fair comparison.
    keep_freed_memory()
    torch.set_num_threads(num_threads)
    rates: dict[K, list[float]] = {name: [] for name in tasks}
    for task in tasks.values():
        task()  # warms up
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or min(map(len, rates.values())) < 3:
        # Interleaved, so that machine noise affects all tasks equally.
        for name, task in tasks.items():
            begin_s = time.perf_counter()
            size = task()
            rates[name].append(size / (time.perf_counter() - begin_s))
    return {name: round(float(np.median(values)), 2) for name, values in rates.items()}
