"""Batch evaluation: a cohort's bags scored with Ray Data and the Predictor that Serve uses."""

import dataclasses
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

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
from homnet.errors import CheckpointError, ConfigError
from homnet.evaluation.metrics import evaluate as measure
from homnet.model.checkpoint import Checkpoint, patient_digests
from homnet.model.predictor import Predictor
from homnet.report.tables import tables_markdown
from homnet.results import (
    describe_machine,
    package_versions,
    read_result,
    require_both,
    write_json,
    write_result,
)
from homnet_platform.data import collect_bank, pairs_dataset
from homnet_platform.pretraining import portable
from homnet_platform.progress import Progress, progress_bar
from homnet_platform.runtime import local_or_cluster, require_workers


@dataclass(frozen=True)
class EvaluateConfig:
    """Evaluation on held-out patients."""

    cohort: str = "cohorts/simulated"
    """Cohort directory."""
    checkpoint: str = "runs/fine_tune"
    """A checkpoint, or the output of fine-tuning: then each hospital is scored by its own model."""
    output: str = "runs/evaluate"
    """Directory for evaluation.json, scores.parquet and provenance.json."""
    hospitals: tuple[str, ...] = ()
    """Hospitals to score; by default those that have a model, or all."""
    artificial: bool = False
    """Score artificial abnormalities made from normal pairs instead of the cohort's labels."""
    events: EventConfig = EventConfig(sham_share=0.2)
    """Artificial abnormalities, where they are wanted."""
    bags: BagConfig = BagConfig(rounds=4)
    """How bags are drawn."""
    cells: tuple[int, ...] = ()
    """Numbers of pairs per bag for which everything is measured once more: what a laboratory gains
    by more cells."""
    split: SplitConfig = SplitConfig(validation=0.08, test=0.8)
    """Must be the split of the training; a patient who was learnt from is refused."""
    seed: int = 0
    """Of bags, events and bootstrap."""
    num_bootstrap: int = 1000
    """Replicates of the patient bootstrap."""
    batch_size: int = 512
    """Bags per forward pass."""
    num_workers: int = 1
    """Ray Data actors that score."""
    use_gpu: bool = False
    """Whether each actor gets a GPU."""
    claim: str = ""
    """What the figures show, in one sentence; with it a result of record is written."""
    result: Path | None = None
    """File of the result of record, for example results/evaluate-images.json."""

    def __post_init__(self) -> None:
        require_both(self.claim, self.result)
        if self.bags.over == "people" and not self.artificial:
            raise ConfigError("bags over people mix patients; the cohort's labels need one patient")


@dataclass(frozen=True)
class _Part:
    """The bags of one split."""

    split: str
    bank: PairBank
    epoch: Epoch


def evaluate(config: EvaluateConfig) -> Path:
    """Scores validation and test patients, measures, and gives the output directory.

    Raises:
        CohortError, CheckpointError, ConfigError, DataError: see their messages.
    """
    cohort = Cohort.open(config.cohort)
    models = models_of(
        Path(config.checkpoint), config.hospitals or cohort.hospitals, config.hospitals
    )
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
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    scores.to_parquet(output / "scores.parquet", index=False)
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
    if config.result is not None:
        _record(config, evaluation, models)
    print(tables_markdown(evaluation))
    print(f"evaluation: {output}")
    return output


def _record(
    config: EvaluateConfig, evaluation: Mapping[str, Any], models: Mapping[str, Path]
) -> None:
    """Writes the result of record, with what the training runs beside the checkpoints took."""
    runs = {hospital: path.parent / "run.json" for hospital, path in models.items()}
    write_result(
        cast(Path, config.result),
        claim=config.claim,
        figures={
            "evaluation": evaluation,
            "training": {h: read_result(run) for h, run in runs.items() if run.is_file()},
        },
        command=shlex.join(["python", *sys.argv]),
        recipe="artificial abnormalities" if config.artificial else "cohort labels",
        seed=config.seed,
    )


def models_of(
    root: Path, hospitals: Sequence[str], required: Sequence[str] = ()
) -> dict[str, Path]:
    """The checkpoint that scores each hospital.

    Args:
        root: a checkpoint, or a directory with ``<hospital>/checkpoint`` for each hospital.
        hospitals: those of the cohort; the ones without a model are left out.
        required: hospitals that must have one.

    Raises:
        CheckpointError: a required hospital has none, or nobody has.
    """
    if (root / "sha256.json").is_file():
        return dict.fromkeys(hospitals, root)
    own = {h: root / h / "checkpoint" for h in hospitals}
    found = {hospital: path for hospital, path in own.items() if path.is_dir()}
    missing = sorted(set(required) - set(found))
    if missing or not found:
        raise CheckpointError(
            f"{root}: neither a checkpoint nor the output of fine-tuning for "
            f"{', '.join(missing or hospitals)}; train first, or choose --checkpoint"
        )
    return found


def refuse_split(
    split: Mapping[str, frozenset[str]], origins: Mapping[Path, Mapping[str, Any]]
) -> None:
    """No one who was learnt from is scored, no one who chose the model is tested.

    This holds whatever split a config asks for.

    Args:
        split: patients of validation and test.
        origins: provenance of each checkpoint, by its path.

    Raises:
        CheckpointError, ConfigError: see :func:`refuse_known`.
    """
    for path, provenance in origins.items():
        refuse_known(path, provenance, split[VALIDATION] | split[TEST], "learnt_from")
        refuse_known(path, provenance, split[TEST], "validated_on")


def refuse_known(
    path: Path, provenance: Mapping[str, Any], patients: Iterable[str], use: str
) -> None:
    """Refuses patients whom a checkpoint knows.

    Args:
        path: the checkpoint.
        provenance: what it says of its origin.
        patients: who are to be scored.
        use: ``"learnt_from"`` or ``"validated_on"``.

    Raises:
        CheckpointError: the checkpoint does not say.
        ConfigError: it was used on some of them.
    """
    if use not in provenance:
        raise CheckpointError(f"{path}: does not say whom it was {use}; train it again")
    used = set(provenance[use])
    known = [p for p in sorted(patients) if patient_digests([p])[0] in used]
    if known:
        raise ConfigError(
            f"{len(known)} patients of the validation and test splits, {known[0]} among "
            f"them, were {use.replace('_', ' ')} by {path}; give the --split of its run"
        )


def _of_size(bags: BagConfig, num_cells: int) -> BagConfig:
    """Bags of another size, and about as many of them."""
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
    parts: Sequence[_Part], models: Mapping[str, Path], config: EvaluateConfig
) -> pd.DataFrame:
    """One row per bag, as :mod:`homnet.evaluation.score_table` describes."""
    frames: list[pd.DataFrame] = []
    for part in parts:
        frame = part.epoch.describe(part.bank).assign(split=part.split)
        frames.append(frame.assign(place=np.arange(len(frame)), part=len(frames)))
    scores = pd.concat(frames, ignore_index=True)
    scores["bag"] = np.arange(len(scores))
    # Bags of one hospital together: then nearly every batch needs one model.
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
    """A Ray Data actor: all models, and the banks from the object store."""

    def __init__(
        self, parts: Sequence[Any], models: Mapping[str, Path], progress: Progress, use_gpu: bool
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
        cohort="cohorts/images",
        checkpoint="runs/images/checkpoint",
        artificial=True,
        bags=BagConfig(rounds=40, over="people"),
        split=SplitConfig(),
    ),
}
"""Evaluation on the cohort's labels after fine-tuning, and on artificial abnormalities after
pre-training, each with the split of its training. ``images`` is for sets with one or two cells per
person, whose bags take pairs from several people."""
