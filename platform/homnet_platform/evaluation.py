"""Batch evaluation: scores a cohort's bags with Ray Data and the Predictor that Serve uses."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import ray
import ray.data
import torch

from homnet.bags.draw import BagConfig, PairBank, summary
from homnet.bags.epochs import DeviceBank, Epoch, draw_epoch
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError
from homnet.evaluation.metrics import evaluate as measure
from homnet.files import replacing, require_writable
from homnet.locations import Location, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.report.tables import tables_markdown
from homnet.results import (
    Record,
    describe_machine,
    package_versions,
    read_result,
    write_json,
)
from homnet_platform.data import collect_bank, pairs_dataset
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runs import models_of, portable, refuse_split
from homnet_platform.runtime import local_or_cluster, require_workers


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluation on held-out patients."""

    cohort: str = "cohorts/simulated"
    """Cohort directory."""
    checkpoint: str = "runs/fine_tune"
    """A checkpoint, or the output of fine-tuning to score each hospital with its own model."""
    output: str = "runs/evaluate"
    """Directory for evaluation.json, scores.parquet and provenance.json."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to score; by default those that have a model, or all."""
    artificial: bool = False
    """Score artificial abnormalities made from normal pairs instead of the cohort's labels."""
    events: EventConfig = EventConfig(sham_share=0.2)
    """Artificial abnormalities, if ``artificial`` is set."""
    bags: BagConfig = BagConfig(rounds=4)
    """How bags are drawn."""
    cells: tuple[int, ...] = ()
    """Additional bag sizes (pairs per bag) to measure, to show the gain from more cells."""
    split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Must be the split of the training; training patients are refused."""
    seed: int = 0
    """Seed of bags, events and bootstrap."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap."""
    batch_size: int = 512
    """Bags per forward pass."""
    num_workers: int = 1
    """Number of Ray Data actors that score."""
    use_gpu: bool = False
    """Whether each actor gets a GPU."""
    record: Record = Record()
    """Result of record; includes the costs of the training runs beside the checkpoints."""

    def __post_init__(self) -> None:
        if self.bags.over == "people" and not self.artificial:
            raise ConfigError("bags over people mix patients; cohort labels need over='patient'")


@dataclass(frozen=True)
class _Part:
    """The bags of one split."""

    split: str
    bank: PairBank
    epoch: Epoch


def evaluate(config: EvaluateConfig) -> Location:
    """Scores validation and test patients, writes the metrics and returns the output directory.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    output = to_location(config.output)
    require_writable(output)
    cohort = Cohort.open(config.cohort)
    models = models_of(config.checkpoint, cohort.scale, config.hospitals)
    cohort = cohort.of_hospitals(models)
    split = split_patients(cohort.patients, config.split)
    refuse_split(split, {path: Checkpoint.load(path).provenance for path in set(models.values())})
    with local_or_cluster():
        require_workers(config.num_workers, "scoring", gpus=float(config.use_gpu))
        bank = collect_bank(pairs_dataset(cohort, split[VALIDATION] | split[TEST]))
        scores = _score(_parts(bank, split, config.bags, config), models, config)
        by_cells = {
            num_cells: _score(
                _parts(bank, split, _of_size(config.bags, num_cells), config), models, config
            )
            for num_cells in config.cells
        }
    with replacing(output / "scores.parquet") as temporary:
        scores.to_parquet(temporary, index=False)
    evaluation = measure(scores, seed=config.seed, num_bootstrap=config.num_bootstrap)
    evaluation["by_cells"] = {
        str(num_cells): measure(part, seed=config.seed, num_bootstrap=config.num_bootstrap)[
            "overall"
        ]
        for num_cells, part in by_cells.items()
    }
    write_json(output / "evaluation.json", evaluation)
    write_json(
        output / "provenance.json",
        {
            "cohort": cohort.fingerprint,
            "counts": {
                name: dict(summary(bank.of_patients(split[name]))) for name in (VALIDATION, TEST)
            },
            "checkpoints": {h: Predictor.load(path).version for h, path in models.items()},
            "config": portable(config),
            "packages": package_versions(),
            "machine": describe_machine(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    runs = {hospital: path.parent / "run.json" for hospital, path in models.items()}
    config.record.write(
        {
            "evaluation": evaluation,
            "training": {h: read_result(run) for h, run in runs.items() if run.is_file()},
        },
        recipe="artificial abnormalities" if config.artificial else "cohort labels",
        seed=config.seed,
    )
    print(tables_markdown(evaluation))
    print(f"evaluation: {output}")
    return output


def _of_size(bags: BagConfig, num_cells: int) -> BagConfig:
    """The bag settings with another size and about the same number of bags."""
    rounds = max(1, round(bags.rounds * num_cells / bags.num_cells))
    return dataclasses.replace(bags, num_cells=num_cells, rounds=rounds)


def _parts(
    bank: PairBank, split: Mapping[str, frozenset[str]], bags: BagConfig, config: EvaluateConfig
) -> list[_Part]:
    """The bags of validation and test."""
    bank = bank.normal() if config.artificial else bank
    events = config.events if config.artificial else None
    parts = []
    for number, name in enumerate((VALIDATION, TEST)):
        own = bank.of_patients(split[name])
        epoch = draw_epoch(own, bags, events, seed=config.seed, epoch=number)
        parts.append(_Part(name, own, epoch))
    return parts


def _score(
    parts: Sequence[_Part], models: Mapping[str, Location], config: EvaluateConfig
) -> pd.DataFrame:
    """One row per bag; columns as in :mod:`homnet.evaluation.score_table`."""
    frames: list[pd.DataFrame] = []
    for part in parts:
        frame = part.epoch.describe(part.bank).assign(split=part.split)
        frames.append(frame.assign(place=np.arange(len(frame)), part=len(frames)))
    scores = pd.concat(frames, ignore_index=True)
    scores["bag"] = np.arange(len(scores))
    # Sorted by hospital, so that almost every batch needs one model only.
    index = scores[["bag", "part", "place", "hospital"]].sort_values(["part", "hospital", "bag"])
    options: dict[str, Any] = {"num_gpus": 1} if config.use_gpu else {"num_cpus": 1}
    with progress_bar("scoring", len(scores), " bags") as progress:
        scored = (
            ray.data.from_arrow(pa.Table.from_pandas(index, preserve_index=False))
            .map_batches(
                _Scorer,
                batch_size=config.batch_size,
                batch_format="pandas",
                fn_constructor_args=(
                    [ray.put(list(parts))],
                    dict(models),
                    progress,
                    config.use_gpu,
                ),
                compute=ray.data.ActorPoolStrategy(size=config.num_workers),
                **options,
            )
            .to_pandas()
        )
    scores["score"] = scored.set_index("bag")["score"].reindex(scores["bag"]).to_numpy()
    return scores.drop(columns=["part", "place"])


class _Scorer:
    """Ray Data actor with all models, and the banks from the object store."""

    def __init__(
        self,
        parts: Sequence[Any],
        models: Mapping[str, Location],
        progress: Progress,
        use_gpu: bool,
    ) -> None:
        device = torch.device("cuda" if use_gpu else "cpu")
        content: list[_Part] = ray.get(parts[0])
        self.bags = [DeviceBank(part.bank, device).load(part.epoch) for part in content]
        loaded = {path: Predictor.load(path, device) for path in set(models.values())}
        self.models = {hospital: loaded[path] for hospital, path in models.items()}
        self.progress = progress

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        score = pd.Series(np.nan, index=batch.index)
        for part, loaded in enumerate(self.bags):
            for hospital, predictor in self.models.items():
                rows = batch[(batch["part"] == part) & (batch["hospital"] == hospital)]
                if not rows.empty:
                    logit_B = predictor.logits(loaded.batch(rows["place"].to_numpy()))
                    score[rows.index] = predictor.probabilities(logit_B, hospital)
        self.progress.advance(len(batch))
        return pd.DataFrame({"bag": batch["bag"], "score": score})


RECIPES: Mapping[str, EvaluateConfig] = {
    "hospitals": EvaluateConfig(),
    "artificial": EvaluateConfig(
        checkpoint="runs/pretrain/checkpoint", artificial=True, split=SplitConfig()
    ),
    "images": EvaluateConfig(
        cohort="cohorts/pki3",
        checkpoint="runs/pki3/checkpoint",
        artificial=True,
        bags=BagConfig(rounds=40, over="people"),
        split=SplitConfig(),
    ),
}
"""Evaluation on the cohort's labels after fine-tuning, and on artificial abnormalities after
pre-training, each with the split of its training. ``images`` is for image sets with one or two
cells per person: its bags mix people."""
