"""Compares simulated with real chromosomes; the parts of the comparison run in parallel on Ray."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import ray
from matplotlib.figure import Figure

from homnet.cohorts.cohort import Cohort, CohortFile
from homnet.cohorts.pairs import SCHEMA
from homnet.cohorts.split import TEST, TRAIN, SplitConfig, split_patients
from homnet.errors import ConfigError, DataError
from homnet.model.checkpoint import patient_digests
from homnet.realism.figures import draw_chromosomes, draw_recall, draw_scorecard
from homnet.realism.length_only import length_only, length_table
from homnet.realism.measures import Pairs, measure
from homnet.realism.scorecard import Row, halves_that_disagree, scorecard
from homnet.realism.tables import realism_markdown, scorecard_rows
from homnet.realism.two_sample import TwoSampleConfig, pair_features, two_sample_test, without
from homnet.realism.type_classifier import Chromosomes, classify
from homnet.results import Record, write_json
from homnet.seeding import generator
from homnet.simulator.laboratory_file import read_laboratory
from homnet_platform.data import files_of, rows_of
from homnet_platform.job import root_cause
from homnet_platform.runtime import local_or_cluster

MIN_PEOPLE: Final = 10
"""Minimum number of people in a set for a comparison."""

_CONTROL: Final = "control: real against other real people"
_TYPES: Final = "types learnt from "
_TESTS: Final[Mapping[str, Mapping[str, bool]]] = {
    "everything": {},
    "without the profile": {"profile": True},
    "without the tips": {"tips": True},
}
"""Features that are hidden from the classifier of the two sets."""


@dataclass(frozen=True)
class RealismConfig:
    """The sets to compare."""

    simulated: Path
    """Directory of a simulated cohort."""
    output: Path
    """Directory for realism.json, realism.md and pictures. The picture of chromosomes shows real
    ones and is as confidential as the cohort."""
    real: Path | None = None
    """Directory of a cohort of real chromosomes; without it only lengths are compared."""
    simulated_hospital: tuple[str, ...] = ()
    """Simulated hospitals whose normal pairs are compared; all by default."""
    real_hospital: tuple[str, ...] = ()
    """Real hospitals whose normal pairs are compared; all by default."""
    laboratory: Path | None = None
    """Laboratory file; people that it was fitted to are excluded from judging. Not needed if the
    simulated cohort was made with jobs/simulate.py --laboratory."""
    record: Record = Record()
    """The result of record."""
    seed: int = 0
    """Seed of all random draws."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap."""

    def __post_init__(self) -> None:
        if self.real is None and (self.real_hospital or self.laboratory):
            raise ConfigError("--real-hospital and --laboratory are about --real; give that too")


@dataclass(frozen=True)
class _Sets:
    """The compared rows; the sets have no person in common."""

    simulated: pa.Table
    """Simulated people, with about as many pairs as ``judging``."""
    judging: pa.Table
    """Real people that nothing was fitted to."""
    fitted: pa.Table
    """Real people that the laboratory was fitted to; empty without a laboratory."""
    simulated_per_px: float
    """Samples per image pixel of the simulated sequences."""
    real_per_px: float
    """Samples per image pixel of the real sequences."""


def compare(config: RealismConfig) -> dict[str, Any]:
    """Compares the sets, prints the tables, and writes them with the pictures.

    Returns:
        The content of realism.json: ``sets``, ``scorecard``, ``two_sample`` and ``type_classifier``
        with a real cohort, ``length_only`` with simulated patients.

    Raises:
        CohortError: there is no such cohort or hospital, or a file is damaged.
        ConfigError: the laboratory file is damaged, or the hospitals have different scales.
        DataError: there are too few people, or no pairs of the required kind.
    """
    simulated = Cohort.open(config.simulated)
    sets = None if config.real is None else _sets(simulated, Cohort.open(config.real), config)
    figures: dict[str, Any] = {}
    with local_or_cluster():
        absolute = replace(simulated, root=simulated.root.absolute())
        lengths = _start(
            _length_only, config, *(_start(_lengths, absolute, entry) for entry in simulated.files)
        )
        if sets is not None:
            figures |= _compare_sets(sets, config)
        try:
            figures["length_only"] = ray.get(lengths)
        except DataError as error:
            if sets is None:
                raise
            print(f"left out: length only ({root_cause(error)})")
    config.output.mkdir(parents=True, exist_ok=True)
    if "length_only" in figures:
        _save(draw_recall(figures["length_only"]["sizes"]), config.output / "length-only.png")
    write_json(config.output / "realism.json", figures)
    text = realism_markdown(figures)
    (config.output / "realism.md").write_text(text, encoding="utf-8")
    config.record.write(figures, recipe="realism", seed=config.seed)
    print(text)
    return figures


def _sets(simulated: Cohort, real: Cohort, config: RealismConfig) -> _Sets:
    """Reads the normal pairs to compare."""
    simulated = simulated.of_hospitals(config.simulated_hospital or simulated.hospitals)
    real = real.of_hospitals(config.real_hospital or real.hospitals)
    known = set(_laboratory_patients(simulated))
    if config.laboratory is not None:
        known |= set(read_laboratory(config.laboratory).patients)
    people = _people(real)
    fitted = [one for one in people if patient_digests([one])[0] in known]
    judging = sorted(set(people) - set(fitted))
    if fitted and not judging:
        raise DataError(
            f"{real.root}: the laboratory was fitted to everybody here, so nobody is left to judge "
            "it; fit it to a part with jobs/fit_laboratory.py --share 0.5"
        )
    judging_rows = _normal(real, judging)
    share = judging_rows.num_rows / simulated.num_pairs
    number = max(MIN_PEOPLE, round(share * simulated.num_patients))
    rng = generator(config.seed, "simulated people")
    drawn = rng.permutation(_people(simulated))[:number].tolist()
    return _Sets(
        simulated=_normal(simulated, drawn),
        judging=judging_rows,
        fitted=_normal(real, fitted),
        simulated_per_px=_scale(simulated),
        real_per_px=_scale(real),
    )


def _laboratory_patients(simulated: Cohort) -> list[str]:
    """Digests of the people that the laboratory of a simulated cohort was fitted to."""
    laboratory = simulated.provenance.get("settings", {}).get("laboratory")
    return [] if laboratory is None else list(laboratory["patients"])


def _people(cohort: Cohort) -> list[str]:
    return sorted(one for members in cohort.patients.values() for one in members)


def _normal(cohort: Cohort, patients: Iterable[str]) -> pa.Table:
    """Normal pairs of some people; holds one file in memory at a time."""
    wanted = frozenset(patients)
    tables = (rows_of(cohort.read(cohort.files[n]), wanted) for n in files_of(cohort, wanted))
    parts = [table.filter(pc.invert(table["abnormal"])) for table in tables]
    return pa.concat_tables(parts) if parts else SCHEMA.empty_table()


def _scale(cohort: Cohort) -> float:
    found = {cohort.scale[hospital] for hospital in cohort.hospitals}
    if len(found) > 1:
        raise ConfigError(
            f"{cohort.root}: the hospitals have different scales ({sorted(found)} samples per "
            "pixel); choose hospitals of one scale"
        )
    return found.pop()


def _require_people(pairs: Pairs, where: Path) -> None:
    found = pairs.frame["patient_id"].nunique()
    if found < MIN_PEOPLE:
        raise DataError(
            f"{where}: {found} people with normal pairs to compare; give at least {MIN_PEOPLE}"
        )


def _compare_sets(sets: _Sets, config: RealismConfig) -> dict[str, Any]:
    """Compares with real chromosomes, in tasks of one CPU each, and draws the pictures."""
    simulated = Pairs.from_table(sets.simulated, sets.simulated_per_px)
    real = Pairs.from_table(sets.judging, sets.real_per_px)
    _require_people(simulated, config.simulated)
    _require_people(real, cast(Path, config.real))
    types = _start_types(sets, config)
    everybody = pa.concat_tables([sets.fitted, sets.judging])
    halves = _start(
        _halves_that_disagree, Pairs.from_table(everybody, sets.real_per_px), config.seed
    )
    measured = [_start(_measure, pairs, config.seed) for pairs in (simulated, real)]
    config.output.mkdir(parents=True, exist_ok=True)
    rng = generator(config.seed, "pictures")
    _save(draw_chromosomes(simulated, real, rng), config.output / "chromosomes.png")
    (simulated_card, simulated_features), (real_card, real_features) = ray.get(measured)
    print(f"measured: {len(simulated)} simulated pairs, {len(real)} real ones")
    _save(draw_scorecard(simulated_card, real_card), config.output / "scorecard.png")
    rows = scorecard_rows(simulated_card, real_card)
    people = [pairs.frame["patient_id"] for pairs in (simulated, real)]
    half = people[1].isin(_halves(people[1], config.seed)[0])
    whose = [of.tolist() for of in people]
    test_config = TwoSampleConfig(num_bootstrap=config.num_bootstrap, seed=config.seed)
    started = {
        name: _start(
            two_sample_test,
            without(simulated_features, **left_out),
            without(real_features, **left_out),
            *whose,
            test_config,
        )
        for name, left_out in _TESTS.items()
    }
    started[_CONTROL] = _start(
        two_sample_test,
        real_features[half],
        real_features[~half],
        *(people[1][chosen].tolist() for chosen in (half, ~half)),
        test_config,
    )
    found = _finish({**types, **started})
    return {
        "sets": {
            "simulated": _counts(simulated),
            "real": _counts(real),
            "people the laboratory was fitted to": len(pc.unique(sets.fitted["patient_id"])),
        },
        "scorecard": {
            "num_agree": sum(row["agrees"] for row in rows),
            "rows": rows,
            "real_halves": ray.get(halves),
        },
        "two_sample": {name: found[name] for name in started},
        "type_classifier": {name.removeprefix(_TYPES): found[name] for name in types},
    }


def _start_types(sets: _Sets, config: RealismConfig) -> dict[str, Any]:
    """Starts two type classifiers, trained on simulated and real people, on one test set."""
    if sets.fitted.num_rows:
        taught, judged = sets.fitted, sets.judging
    else:
        halves = _halves(sets.judging["patient_id"].to_pylist(), config.seed)
        taught, judged = (rows_of(sets.judging, half) for half in halves)
    simulated, real, to_judge = (
        Chromosomes.of_pairs(Pairs.from_table(table, per_px, with_single=True))
        for table, per_px in (
            (sets.simulated, sets.simulated_per_px),
            (taught, sets.real_per_px),
            (judged, sets.real_per_px),
        )
    )
    effort = {"num_bootstrap": config.num_bootstrap, "seed": config.seed}
    return {
        f"{_TYPES}{name}": _start(classify, learnt, to_judge, **effort)
        for name, learnt in (("simulated", simulated), ("real", real))
    }


def _halves(patients: Iterable[str], seed: int) -> tuple[frozenset[str], frozenset[str]]:
    split = split_patients({"real": patients}, SplitConfig(validation=0.0, test=0.5, seed=seed))
    return split[TRAIN], split[TEST]


def _counts(pairs: Pairs) -> dict[str, int]:
    return {"people": int(pairs.frame["patient_id"].nunique()), "pairs": len(pairs)}


def _finish(tasks: Mapping[str, Any]) -> dict[str, Any]:
    """Waits for tasks and prints which are finished."""
    names = {task: name for name, task in tasks.items()}
    waiting = list(names)
    found = {}
    while waiting:
        (task,), waiting = ray.wait(waiting)
        found[names[task]] = ray.get(task)
        print(f"finished: {names[task]} ({len(found)} of {len(names)})")
    return found


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Software": None})


def _start(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Starts a call in a separate task with one CPU; returns its reference."""
    return ray.remote(function).remote(*arguments, **named)


def _lengths(cohort: Cohort, entry: CohortFile) -> pd.DataFrame:
    return length_table(cohort.read(entry))


def _length_only(config: RealismConfig, *lengths: pd.DataFrame) -> dict[str, Any]:
    return length_only(pd.concat(lengths), num_bootstrap=config.num_bootstrap, seed=config.seed)


def _measure(pairs: Pairs, seed: int) -> tuple[list[Row], pd.DataFrame]:
    measured = measure(pairs, generator(seed, "measure"))
    return scorecard(measured), pair_features(pairs, measured)


def _halves_that_disagree(pairs: Pairs, seed: int) -> dict[str, Any]:
    measured = measure(pairs, generator(seed, "measure"))
    return halves_that_disagree(measured, generator(seed, "halves"))
