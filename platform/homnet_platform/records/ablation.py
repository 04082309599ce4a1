"""Ablations, the paper's Table 4: variants of one recipe, several seeds, side by side as Ray tasks.

All share the pairs, the bags and the budget: the same number of steps, each over the same number of
pairs. Every run of a variant and a seed writes its scores when it is done, so that a killed job
repeats only what was under way.
"""

import dataclasses
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import ray
import torch

from homnet.bags.draw import BagConfig
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TRAIN, VALIDATION, SplitConfig
from homnet.errors import ConfigError
from homnet.model.checkpoint import Checkpoint
from homnet.model.network import HomNetConfig, paper_form
from homnet.model.predictor import Predictor
from homnet.records.training_tables import ablation_markdown
from homnet.results import require_both, write_json, write_result
from homnet.training.learning import train
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.data import Shared, collect_people
from homnet_platform.memory import PeakMemory, gib
from homnet_platform.records.cost import Times, print_estimate, work_of
from homnet_platform.records.methods import Method
from homnet_platform.records.side_by_side import (
    claim_directory,
    rows_of,
    samples_of,
    scored,
    side_by_side,
    write_scores,
)
from homnet_platform.runtime import local_or_cluster

FULL: Final = "HomNet"
_CHANGES: Final[Mapping[str, Mapping[str, Any]]] = {
    FULL: {},
    "w/o pair": {"homologs": "single", "partner": False, "symmetric": False},
    "w/o bag": {},
    "align → MLP": {"alignment": "mlp"},
    "align → CNN": {"alignment": "convolution"},
    **{f"range {merge}": {"merge_range": merge} for merge in (8, 16, 32, 48, 64)},
}
"""Rows of the paper's Table 4 as changes of the model; "w/o bag" is one pair per bag."""
_ONE_PAIR: Final = "w/o bag"


@dataclass(frozen=True)
class AblateConfig:
    """Which variants of what, on which people."""

    recipe: str = "custom"
    """Name that the result gives for these settings."""
    cohort: str = "cohorts/simulated"
    """Cohort directory."""
    output: str = "runs/ablate"
    """Directory with one folder per variant and seed."""
    variants: tuple[str, ...] = tuple(_CHANGES)
    """Rows of the table."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each decides initial weights, bags and events of one run of every variant."""
    model: HomNetConfig = paper_form()
    """The full form, whose parts are taken away."""
    training: TrainingConfig = TrainingConfig(max_epochs=4)
    """Pre-training."""
    healthy: tuple[str, ...] = ("healthy-1",)
    """Hospitals of healthy people for pre-training; all of the cohort's without fine-tuning."""
    fine_tuning: TrainingConfig | None = TrainingConfig(
        learning_rate=1e-5,
        labels="cohort",
        bags=BagConfig(rounds=4),
        validation_rounds=4,
        max_epochs=5,
    )
    """Fine-tuning on each hospital's labels; None judges artificial abnormalities of people held
    out from pre-training."""
    split: SplitConfig = SplitConfig()
    """People of the pre-training."""
    hospital_split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Patients of the fine-tuning."""
    bags: BagConfig = BagConfig(rounds=4)
    """Bags that are scored."""
    events: EventConfig = EventConfig()
    """Artificial abnormalities that are scored, where there is no fine-tuning."""
    share_of_people: float = 1.0
    """How many of the healthy people a small ablation learns from and validates on."""
    estimate: bool = False
    """Whether a small run of each variant says what all will take, before they start."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap."""
    cpus_per_run: int = 1
    """CPUs, and threads, of one run."""
    gpus_per_run: float = 0.0
    """GPUs of one run; a part lets several runs share one."""
    claim: str = ""
    """What the figures show, in one sentence; with it a result of record is written."""
    result: Path | None = None
    """File of the result of record."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.variants) - set(_CHANGES))
        if unknown or not self.seeds:
            raise ConfigError(
                f"unknown variant {unknown[0]!r}; there are {', '.join(_CHANGES)}"
                if unknown
                else "seeds must name at least one seed"
            )
        require_both(self.claim, self.result)


def ablate(config: AblateConfig) -> dict[str, Any]:
    """Runs every variant with every seed and prints the table.

    Returns:
        JSON-able: ``rows`` (per variant and hospital), ``failed`` and totals.

    Raises:
        CohortError, ConfigError, DataError: see their messages. A variant that fails raises nothing
            here: see :func:`homnet_platform.records.side_by_side.refuse_failed`.
    """
    cohort = Cohort.open(config.cohort)
    output = Path(config.output)
    # More variants and seeds may be added to what is there; what they are made of may not change.
    fixed = dataclasses.replace(
        config,
        variants=(),
        seeds=(0,),
        claim="",
        result=None,
        num_bootstrap=0,
        recipe="",
        estimate=False,
    )
    claim_directory(output, fixed, cohort)
    started = time.perf_counter()
    runs = [(variant, seed) for variant in config.variants for seed in config.seeds]
    todo = [run for run in runs if not _scores_path(output, *run).is_file()]
    failed: dict[tuple[str, int], str] = {}
    with PeakMemory() as memory, local_or_cluster():
        if todo:
            shared = _data(cohort, config)
            if config.estimate and not config.gpus_per_run:
                _print_estimate(config, todo, shared)
            failed = side_by_side(
                todo,
                partial(_run, config),
                ray.put(shared),
                what="ablation",
                cpus=config.cpus_per_run,
                gpus=config.gpus_per_run,
            )
    good = [v for v in config.variants if v not in {variant for variant, _ in failed}]
    figures = {
        "rows": _rows(config, output, good) if good else [],
        "failed": [
            {"name": variant, "run": f"seed {seed}", "reason": reason}
            for (variant, seed), reason in failed.items()
        ],
        "fine_tuned": config.fine_tuning is not None,
        "seconds": round(time.perf_counter() - started, 1),
        "num_reused": len(runs) - len(todo),
        "peak_memory_gib": gib(memory.peak_bytes),
        "seeds": list(config.seeds),
    }
    write_json(output / "ablation.json", figures)
    (output / "ablation.md").write_text(ablation_markdown(figures))
    if config.result is not None and not failed:
        write_result(
            config.result,
            claim=config.claim,
            figures={"ablation": figures},
            command=shlex.join(["python", *sys.argv]),
            recipe=config.recipe,
            seed=config.seeds[0],
        )
    return figures


def _print_estimate(config: AblateConfig, todo: Sequence[tuple[str, int]], shared: Shared) -> None:
    work = work_of(shared, config.training, config.fine_tuning, config.bags)
    left = [variant for variant, _ in todo]
    methods = {variant: Method(_form(config, variant), train) for variant in dict.fromkeys(left)}
    tuned = int(config.fine_tuning is not None)
    times = {name: Times(*(left.count(name) * each for each in (1, tuned, 1))) for name in methods}
    print_estimate(methods, times, ray.put(("", shared)), work, config.cpus_per_run)


def _form(config: AblateConfig, variant: str) -> HomNetConfig:
    return dataclasses.replace(config.model, **_CHANGES[variant])


def _data(cohort: Cohort, config: AblateConfig) -> Shared:
    return collect_people(
        cohort,
        tuned=config.fine_tuning is not None,
        healthy=config.healthy,
        split=config.split,
        hospital_split=config.hospital_split,
        share_of_people=config.share_of_people,
    )


def _run(config: AblateConfig, data: Shared, run: tuple[str, int]) -> float:
    """One variant with one seed, from nothing to scores; gives the seconds it took."""
    variant, seed = run
    torch.set_num_threads(config.cpus_per_run)
    device = torch.device("cuda" if config.gpus_per_run else "cpu")
    started = time.perf_counter()
    output = _scores_path(Path(config.output), variant, seed)
    pretrained = output.with_name("pretrained")
    if not pretrained.is_dir():
        stage = Stage(
            name=f"{variant}, seed {seed}",
            model=_form(config, variant),
            training=_adapted(config.training, variant, seed),
            train_patients=data.healthy[TRAIN],
            validation_patients=data.healthy[VALIDATION],
        )
        train(stage, data.bank, device=device).save(pretrained)
    frames = []
    if config.fine_tuning is None:
        predictor = Predictor.load(pretrained, device)
        bank = data.bank.normal()
        frames = scored(bank, data.healthy, predictor, _bags(config, variant), config.events)
    else:
        for hospital, split in data.hospitals.items():
            model = _fine_tuned(data, config, hospital, pretrained, variant, seed, device)
            predictor = Predictor(model.build(), model.calibration, version="", device=device)
            frames += scored(data.bank, split, predictor, _bags(config, variant), None)
    write_scores(frames, output)
    return time.perf_counter() - started


def _adapted(training: TrainingConfig, variant: str, seed: int) -> TrainingConfig:
    training = dataclasses.replace(training, seed=seed)
    if variant != _ONE_PAIR:
        return training
    # As many pairs in a step as with bags, and so as many steps in an epoch.
    return dataclasses.replace(
        training,
        bags=dataclasses.replace(training.bags, num_cells=1),
        batch_size=training.batch_size * training.bags.num_cells,
    )


def _fine_tuned(
    data: Shared,
    config: AblateConfig,
    hospital: str,
    parent: Path,
    variant: str,
    seed: int,
    device: torch.device,
) -> Checkpoint:
    if config.fine_tuning is None:
        raise ConfigError("no fine-tuning was asked for")
    split = data.hospitals[hospital]
    stage = Stage(
        name=f"{variant}, seed {seed}, {hospital}",
        model=Checkpoint.load(parent).config,
        training=_adapted(config.fine_tuning, variant, seed),
        train_patients=split[TRAIN],
        validation_patients=split[VALIDATION],
        parent=str(parent.resolve()),
    )
    return train(stage, data.bank, device=device)


def _bags(config: AblateConfig, variant: str) -> BagConfig:
    """The bags that a variant is judged on."""
    return dataclasses.replace(config.bags, num_cells=1) if variant == _ONE_PAIR else config.bags


def _rows(config: AblateConfig, output: Path, variants: Sequence[str]) -> list[dict[str, Any]]:
    """One line per variant and hospital; values are means over seeds, replicate by replicate."""
    paths = {
        variant: [_scores_path(output, variant, seed) for seed in config.seeds]
        for variant in variants
    }
    return rows_of(
        {variant: samples_of(own, config.num_bootstrap) for variant, own in paths.items()},
        {variant: own[0] for variant, own in paths.items()},
        key="variant",
        reference=FULL,
        less="less_full",
    )


def _scores_path(output: Path, variant: str, seed: int) -> Path:
    folder = variant.replace("w/o", "without").replace("→", "to").replace(" ", "-")
    return output / folder / f"seed-{seed}" / "scores.parquet"
