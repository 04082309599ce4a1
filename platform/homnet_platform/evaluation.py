"""Batch evaluation: scores a cohort's bags with Ray Data and the Predictor that Serve uses.

An actor reads, draws and scores one file at a time, so pairs pass through no other process.
"""

import contextlib
import dataclasses
import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import ray.data
import torch

from homnet.bags.draw import BagConfig, PairBank, rows_of_file, summary
from homnet.bags.epochs import DeviceBank, draw_epoch
from homnet.bags.events import EventConfig
from homnet.cohorts.cohort import Cohort
from homnet.cohorts.split import TEST, VALIDATION, SplitConfig, split_patients
from homnet.errors import ConfigError, DataError
from homnet.evaluation.metrics import evaluate as measure
from homnet.files import require_writable, write_whole
from homnet.locations import Location, to_location
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.model.scoring import prepare_device
from homnet.report.tables import tables_markdown
from homnet.results import Record, describe_machine, package_versions, read_result, write_json
from homnet_platform.data import files_of, in_blocks
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
        if min(self.num_workers, self.batch_size, *self.cells) < 1:
            raise ConfigError("num_workers, batch_size and cells must be at least 1")


def evaluate(config: EvaluateConfig) -> Location:
    """Scores validation and test patients, writes the metrics and returns the output directory.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError, StoreError: see their messages.
    """
    output = to_location(config.output)
    cohort = Cohort.open(config.cohort)
    models = models_of(config.checkpoint, cohort.scale, config.hospitals)
    cohort = cohort.of_hospitals(models)
    split = split_patients(cohort.patients, config.split)
    checkpoints = {path: Checkpoint.load(path) for path in set(models.values())}
    refuse_split(split, {path: one.provenance for path, one in checkpoints.items()})
    require_writable(output)
    with local_or_cluster():
        require_workers(config.num_workers, "scoring", gpus=float(config.use_gpu))
        (scores, *of_cells), counts = _score(cohort, split, models, config)
    measured = partial(measure, seed=config.seed, num_bootstrap=config.num_bootstrap)
    evaluation = measured(scores)
    evaluation["by_cells"] = {
        str(num_cells): measured(part)["overall"]
        for num_cells, part in zip(config.cells, of_cells, strict=True)
    }
    provenance = {
        "cohort": cohort.fingerprint,
        "counts": counts,
        "checkpoints": {h: checkpoints[path].version for h, path in models.items()},
        "config": portable(config),
        "packages": package_versions(),
        "machine": describe_machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    table = scores.to_parquet(index=False)
    # Nobody believes files of two runs: the report wants this one, which is written last.
    (output / "provenance.json").unlink(missing_ok=True)
    write_whole(output / "scores.parquet", table)
    digest = hashlib.sha256(table).hexdigest()
    write_json(output / "evaluation.json", {**evaluation, "scores_sha256": digest})
    write_json(output / "provenance.json", provenance)
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


def _score(
    cohort: Cohort,
    split: Mapping[str, frozenset[str]],
    models: Mapping[str, Location],
    config: EvaluateConfig,
) -> tuple[list[pd.DataFrame], dict[str, dict[str, int]]]:
    """Scores all bags.

    Returns:
        A table for each size of bags, with one row per bag and the columns of
        :mod:`homnet.evaluation.score_table`; and the counts of each split.

    Raises:
        DataError: there is no pair to score.
    """
    people = split[VALIDATION] | split[TEST]
    files = files_of(cohort, people)
    groups = [[n] for n in files]
    if config.bags.over == "people":
        # Bags that mix people need all held-out people of a hospital at once.
        of_hospital = [[n for n in files if cohort.files[n].hospital == name] for name in models]
        groups = [group for group in of_hospital if group]
    options: dict[str, Any] = {"num_gpus": 1} if config.use_gpu else {"num_cpus": 1}
    num_pairs = sum(cohort.files[n].num_pairs for n in files)
    with progress_bar("scoring", num_pairs, " pairs") as progress:
        rows = (
            in_blocks([{"files": group} for group in groups])
            .map_batches(
                _Scorer,
                batch_size=1,
                fn_constructor_args=(cohort, dict(split), dict(models), config, progress),
                compute=ray.data.ActorPoolStrategy(size=config.num_workers),
                **options,
            )
            .take_all()
        )
    rows.sort(key=lambda row: int(row["first"]))
    found = [pickle.loads(row["content"]) for row in rows]
    counts = {}
    for name in (VALIDATION, TEST):
        of_split = pd.DataFrame([part[name] for part, _ in found if name in part])
        counts[name] = {str(key): int(value) for key, value in of_split.sum().items()}
    scored = [part[name] for name in (VALIDATION, TEST) for _, part in found if name in part]
    if not scored:
        raise DataError(f"{cohort.root}: no pair with both homologs is left to score")
    tables = []
    for of_size in zip(*scored, strict=True):
        table = pd.concat(of_size, ignore_index=True)
        tables.append(table.assign(bag=np.arange(len(table))))
    return tables, counts


class _Scorer:
    """Ray Data actor with all models."""

    def __init__(
        self,
        cohort: Cohort,
        split: Mapping[str, frozenset[str]],
        models: Mapping[str, Location],
        config: EvaluateConfig,
        progress: Progress,
    ) -> None:
        self._device = torch.device("cuda" if config.use_gpu else "cpu")
        self._models = models
        self._cohort, self._split, self._config = cohort, split, config
        self._progress = progress

    @cached_property
    def _predictors(self) -> dict[str, Predictor]:
        """The models; not made by the constructor, whose errors Ray hides."""
        prepare_device(self._device.type)
        loaded = {path: Predictor.load(path, self._device) for path in set(self._models.values())}
        return {hospital: loaded[path] for hospital, path in self._models.items()}

    def __call__(self, batch: Any) -> dict[str, list[Any]]:
        """The first of some files of a hospital, and by split: counts, a table per size of bags."""
        files, config = [int(number) for number in batch["files"][0]], self._config
        hospital = self._cohort.files[files[0]].hospital
        predictor = self._predictors[hospital]
        table = pa.concat_tables([rows_of_file(self._cohort, number) for number in files])
        sizes = [config.bags, *(_of_size(config.bags, num_cells) for num_cells in config.cells)]
        counts, scores = {}, {}
        for epoch, name in enumerate((VALIDATION, TEST)):
            with contextlib.suppress(DataError):  # files need not have pairs of both
                bank = self._bank(table, self._split[name])
                counts[name] = dict(summary(bank))
                bank = bank.normal() if config.artificial else bank
                on_device = DeviceBank(bank, self._device)
                scores[name] = [
                    self._scored(predictor, bank, on_device, bags, epoch, hospital).assign(
                        split=name
                    )
                    for bags in sizes
                ]
        self._progress.advance(sum(self._cohort.files[number].num_pairs for number in files))
        return {"first": files[:1], "content": [pickle.dumps((counts, scores))]}

    def _bank(self, table: pa.Table, people: frozenset[str]) -> PairBank:
        """The pairs of some people, of whole files of a hospital.

        Raises:
            DataError: there are none.
        """
        own = PairBank.from_table(table).of_patients(people)
        return own.in_parts_of_their_own() if self._config.bags.over == "people" else own

    def _scored(
        self,
        predictor: Predictor,
        bank: PairBank,
        on_device: DeviceBank,
        bags: BagConfig,
        number: int,
        hospital: str,
    ) -> pd.DataFrame:
        config = self._config
        events = config.events if config.artificial else None
        epoch = draw_epoch(bank, bags, events, seed=config.seed, epoch=number)
        logit_B = predictor.loaded_logits(on_device.load(epoch), config.batch_size)
        return epoch.describe(bank).assign(score=predictor.probabilities(logit_B, hospital))


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
