"""The single runs of a reproduction: one trial of a method, and one seed of it until its scores.

Of a method the directory holds ``trial-N`` (trial.json and, unless it diverged, a checkpoint) and
``seed-N`` (the pre-trained and the fine-tuned checkpoints, record.json and scores.parquet).
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch

from homnet.cohorts.split import TRAIN, VALIDATION
from homnet.errors import ConfigError
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.results import read_json, write_json
from homnet.training.learning import METRIC
from homnet.training.optimisation import TrainingConfig
from homnet.training.stage import Stage
from homnet_platform.data import Shared
from homnet_platform.memory import PeakMemory, gib
from homnet_platform.records.methods import Method, best_of, try_once
from homnet_platform.records.plan import ReproduceConfig
from homnet_platform.records.side_by_side import scored, write_scores
from homnet_platform.runs import provenance

Run = tuple[str, str, int]
"""Method, "trial" or "seed", and which."""
_CHECKPOINT: Final = "checkpoint"


def folder(method: str) -> str:
    """What the directory of a method is called."""
    return method.replace(" ", "-").replace(",", "").replace("'", "")


def is_done(output: Path, run: Run) -> bool:
    """Whether a run left all it should."""
    name, what, number = run
    last = "trial.json" if what == "trial" else "scores.parquet"
    return (output / folder(name) / f"{what}-{number}" / last).is_file()


def scores_path(output: Path, name: str, seed: int) -> Path:
    """Scores of a method with a seed."""
    return output / folder(name) / f"seed-{seed}" / "scores.parquet"


def record_of(output: Path, name: str, seed: int) -> dict[str, Any]:
    """What a run with a seed wrote about itself."""
    return read_json(scores_path(output, name, seed).with_name("record.json"))


def trial_lines(output: Path, name: str, method: Method) -> list[dict[str, Any]]:
    """What the trials of a method came to."""
    return [
        read_json(output / folder(name) / f"trial-{number}" / "trial.json")
        for number in range(len(method.trials))
    ]


def chosen_trial(output: Path, name: str, method: Method) -> int:
    """Number of the trial that validated best.

    Raises:
        DataError: trials are missing, or all diverged.
    """
    return best_of(trial_lines(output, name, method), name)


def run_trial(
    config: ReproduceConfig, method: Method, content: tuple[str, Shared], run: Run
) -> float:
    """Pre-trains one trial with the first seed; gives the seconds it took."""
    name, _, number = run
    output = Path(config.output) / folder(name) / f"trial-{number}"
    device = _device(config)
    torch.set_num_threads(config.cpus_per_run)
    with PeakMemory() as memory:
        stage = _pretraining(config, method, content, name, config.seeds[0])
        found, line = try_once(method, method.trials[number], stage, content[1].bank, device)
    if found is not None:
        found.save(output / _CHECKPOINT)
    write_json(output / "trial.json", {**line, "peak_memory_gib": gib(memory.peak_bytes)})
    return float(line.get("seconds", 0.0))


def judge_seed(
    config: ReproduceConfig, method: Method, content: tuple[str, Shared], run: Run
) -> float:
    """One method with one seed, from its chosen trial to scores; gives the seconds it took."""
    name, _, seed = run
    data, root = content[1], Path(config.output)
    output = scores_path(root, name, seed).parent
    device = _device(config)
    torch.set_num_threads(config.cpus_per_run)
    started = time.perf_counter()
    with PeakMemory() as memory:
        number = chosen_trial(root, name, method)
        # From the form that pre-trained best, as from its weights.
        form, _ = method.at(method.trials[number], config.training)
        own = dataclasses.replace(method, form=form)
        if seed == config.seeds[0]:
            pretrained = root / folder(name) / f"trial-{number}" / _CHECKPOINT
        else:
            pretrained = output / "pretrained"
            if not pretrained.is_dir():
                stage = _pretraining(config, method, content, name, seed)
                stage = method.stage(stage, method.trials[number])
                method.fit(stage, data.bank, device=device).save(pretrained)
        parent = Checkpoint.load(pretrained, type(form))
        record: dict[str, Any] = {"trial": number, METRIC: parent.metrics[METRIC]}
        if config.fine_tuning is None:
            bank = data.bank.normal()
            predictor = _predictor(parent, device)
            frames = scored(bank, data.healthy, predictor, config.bags, config.events)
        else:
            frames = _fine_tuned(config, own, content, run, pretrained, parent, record)
    write_json(
        output / "record.json",
        {
            **record,
            "seconds": round(time.perf_counter() - started, 1),
            "peak_memory_gib": gib(memory.peak_bytes),
        },
    )
    write_scores(frames, output / "scores.parquet")
    return time.perf_counter() - started


def _fine_tuned(
    config: ReproduceConfig,
    method: Method,
    content: tuple[str, Shared],
    run: Run,
    pretrained: Path,
    parent: Checkpoint,
    record: dict[str, Any],
) -> list[pd.DataFrame]:
    """Fine-tunes on every hospital and gives the scores of its people; adds to the record."""
    (name, _, seed), data = run, content[1]
    first, device = config.seeds[0], _device(config)
    known = None if seed == first else record_of(Path(config.output), name, first)["tuning"]
    tried = list(range(len(method.tunings))) if known is None else [known]
    found: dict[int, dict[str, Checkpoint]] = {}
    lines: list[dict[str, Any]] = []
    for number in tried:
        trial = method.tunings[number]
        of_hospitals: list[dict[str, Any]] = []
        found[number] = {}
        for hospital, split in data.hospitals.items():
            stage = Stage(
                name=f"{name}, seed {seed}, {hospital}",
                model=method.form,
                training=dataclasses.replace(_tuning(config), seed=seed),
                train_patients=split[TRAIN],
                validation_patients=split[VALIDATION],
                parent=str(pretrained.resolve()),
                provenance=provenance(content[0], [hospital], config, split, parent),
            )
            tuned, line = try_once(method, trial, stage, data.bank, device)
            of_hospitals.append(line)
            if tuned is not None:
                found[number][hospital] = tuned
        values = [line[METRIC] for line in of_hospitals if METRIC in line]
        line = {"tried": dict(trial), "hospitals": values}
        # One choice for all hospitals: each alone has too few validation patients to choose by.
        diverged = len(values) < len(of_hospitals)
        lines.append(line | ({"diverged": True} if diverged else {METRIC: float(np.mean(values))}))
    chosen = tried[best_of(lines, f"{name}, seed {seed}, fine-tuning")]
    record |= {"tuning": chosen, "tunings": lines}
    frames = []
    for hospital, split in data.hospitals.items():
        tuned = found[chosen][hospital]
        tuned.save(scores_path(Path(config.output), name, seed).parent / hospital / _CHECKPOINT)
        frames += scored(data.bank, split, _predictor(tuned, device), config.bags, None)
    return frames


def _pretraining(
    config: ReproduceConfig, method: Method, content: tuple[str, Shared], name: str, seed: int
) -> Stage:
    fingerprint, data = content
    people, frame = data.healthy[TRAIN] | data.healthy[VALIDATION], data.bank.frame
    hospitals = sorted(frame.loc[frame["patient_id"].isin(list(people)), "hospital"].unique())
    return Stage(
        name=f"{name}, seed {seed}",
        model=method.form,
        training=dataclasses.replace(config.training, max_epochs=config.epochs, seed=seed),
        train_patients=data.healthy[TRAIN],
        validation_patients=data.healthy[VALIDATION],
        provenance=provenance(fingerprint, hospitals, config, data.healthy),
    )


def _tuning(config: ReproduceConfig) -> TrainingConfig:
    if config.fine_tuning is None:
        raise ConfigError("no fine-tuning was asked for")
    return config.fine_tuning


def _device(config: ReproduceConfig) -> torch.device:
    return torch.device("cuda" if config.gpus_per_run else "cpu")


def _predictor(checkpoint: Checkpoint, device: torch.device) -> Predictor:
    return Predictor(
        checkpoint.build(), checkpoint.calibration, version=checkpoint.version, device=device
    )
