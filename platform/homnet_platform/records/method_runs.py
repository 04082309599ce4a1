"""The runs of one method of a comparison: its trials, and each seed from pre-training to scores.

The directory of a method holds folders ``trial-N`` and ``seed-N``. Each holds the measured rate of
its training with the settings of trial N in ``rate-N.json``. A seed folder holds what was
pre-trained with them in ``pretrained-N``, the fine-tuned checkpoints and scores.parquet. The last
epoch of a training, from which a killed one resumes, is beside its checkpoint. A run is done when
its folder has a record.json.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from homnet.cohorts.split import TRAIN, VALIDATION
from homnet.model.checkpoint import Checkpoint
from homnet.model.predictor import Predictor
from homnet.records.beside_paper import CONVERGED
from homnet.results import read_json, write_json
from homnet.training.learning import METRIC
from homnet.training.stage import Stage
from homnet_platform.data import Participants
from homnet_platform.records.budget import seconds_per_pair, sized
from homnet_platform.records.method_trials import Method, line_of, ranked_of, try_once
from homnet_platform.records.plan import Comparison
from homnet_platform.records.side_by_side import scored, write_scores
from homnet_platform.runs import provenance

_UNFINISHED: Final = "unfinished"


@dataclass(frozen=True)
class MethodRuns:
    """One method of a comparison and its runs on disk. Sent to the workers."""

    name: str
    """Line in the table."""
    method: Method
    """The method that is trained."""
    comparison: Comparison
    """Settings shared with the other methods."""
    fingerprint: str
    """Fingerprint of the cohort, for the provenance of checkpoints."""
    directory: Path
    """Directory of the runs; absolute, as workers may have another working directory."""
    device: str = "cpu"
    """Device of training and scoring: "cpu" or "cuda"."""

    def folder(self, what: str, number: int) -> Path:
        """Directory of one run, for example of trial 2."""
        return self.directory / f"{what}-{number}"

    def is_done(self, what: str, number: int) -> bool:
        """Whether a run is finished."""
        return (self.folder(what, number) / "record.json").is_file()

    def record(self, what: str, number: int) -> dict[str, Any]:
        """The record of a run.

        Raises:
            DataError: the run is not finished.
        """
        return read_json(self.folder(what, number) / "record.json")

    def scores(self, seed: int) -> Path:
        """Path of the scores of one seed."""
        return self.folder("seed", seed) / "scores.parquet"

    def trials(self) -> list[dict[str, Any]]:
        """Records of all trials; none for a method with nothing to choose.

        Raises:
            DataError: a trial is not finished.
        """
        return [self.record("trial", number) for number in range(len(self.method.pretraining))]

    def chosen_trial(self) -> int:
        """Number of the trial whose settings the first seed was trained with in the end.

        Raises:
            DataError: the first seed is not finished.
        """
        return int(self.record("seed", self.comparison.seeds[0])["trial"])

    def pretraining(self, shared: Participants, seed: int) -> Stage:
        """The pre-training of one seed, before the values of a trial are applied."""
        people, frame = shared.healthy, shared.bank.frame
        own = frame["patient_id"].isin([*people[TRAIN], *people[VALIDATION]])
        hospitals = sorted(frame.loc[own, "hospital"].unique())
        return Stage(
            name=f"{self.name}, seed {seed}",
            model=self.method.form,
            training=self.comparison.pretraining(seed),
            train_patients=people[TRAIN],
            validation_patients=people[VALIDATION],
            provenance=provenance(
                self.fingerprint, shared.scale_of(hospitals), self.comparison, people
            ),
        )

    def sized(
        self, shared: Participants, run: tuple[str, int], number: int, minutes: float
    ) -> Stage:
        """The pre-training of one run with the values of a trial, of the size of its minutes.

        The rate is measured when the training begins, as the machine then is, and kept, so that a
        killed run has the same size.
        """
        what, which = run
        seed = which if what == "seed" else self.comparison.seeds[0]
        bank = shared.bank
        stage = self.method.stage(self.pretraining(shared, seed), self.method.trials[number])
        if not minutes:
            return stage
        path = self.folder(what, which) / f"rate-{number}.json"
        if not path.is_file():
            found = seconds_per_pair(self.method, stage, bank, self.device)
            write_json(path, {"seconds_per_pair": found})
        return sized(stage, bank, read_json(path)["seconds_per_pair"], 60 * minutes)

    def try_trial(self, shared: Participants, number: int) -> dict[str, Any]:
        """Pre-trains one trial with the first seed.

        Returns:
            Its record.
        """
        stage = self.sized(shared, ("trial", number), number, self.comparison.trial_minutes)
        trial = self.method.trials[number]
        kept = self.folder("trial", number) / _UNFINISHED
        return try_once(self.method, trial, stage, shared.bank, self.device, kept)[1]

    def judge(self, shared: Participants, seed: int) -> dict[str, Any]:
        """Pre-trains and fine-tunes one seed with the chosen trials, and scores its bags.

        Returns:
            Its record: the chosen ``trial`` with its training (see
            :func:`~homnet_platform.records.method_trials.line_of`), ``collapsed`` if others were
            trained first, and, after fine-tuning, the chosen ``tuning`` and all ``tunings``.

        Raises:
            DataError: trials are missing, or all diverged.
        """
        comparison, method, bank = self.comparison, self.method, shared.bank
        record = self._pretrain(shared, seed)
        path = self._pretrained(seed, record["trial"])
        parent = Checkpoint.load(path, type(method.form))
        if comparison.fine_tuned:
            tuned, lines = self._fine_tune(shared, seed, parent, path)
            record |= lines
            judged = [(tuned[name], bank, split) for name, split in shared.hospitals.items()]
        else:
            judged = [(parent, bank.normal(), shared.healthy)]
        events = None if comparison.fine_tuned else comparison.events
        frames = []
        for model, pairs, split in judged:
            predictor = Predictor(
                model.build(), model.calibration, version=model.version, device=self.device
            )
            frames += scored(pairs, split, predictor, method.bags(comparison.bags), events)
        write_scores(frames, self.scores(seed))
        return record

    def _pretrained(self, seed: int, number: int) -> Path:
        return self.folder("seed", seed) / f"pretrained-{number}"

    def _pretrain(self, shared: Participants, seed: int) -> dict[str, Any]:
        """Pre-trains one seed; returns the record of the best training.

        What learns well for a quarter of the minutes may collapse in all of them, as the rate stays
        high for longer. If the first seed ends below its trial, the next best trial is trained too.
        """
        tried = self.trials()
        if seed != self.comparison.seeds[0]:
            ranked = [self.chosen_trial()]
        else:
            ranked = ranked_of(tried, self.name) if tried else [0]
        lines: list[dict[str, Any]] = []
        for number in ranked:
            trial, path = self.method.trials[number], self._pretrained(seed, number)
            stage = self.sized(shared, ("seed", seed), number, self.comparison.minutes)
            if path.is_dir():
                line = line_of(Checkpoint.load(path, type(self.method.form)), stage, shared.bank)
            else:
                kept = path.with_name(f"{_UNFINISHED}-{number}")
                found, line = try_once(self.method, trial, stage, shared.bank, self.device, kept)
                if found is not None:
                    found.save(path)
            lines.append(line | {"trial": number, "tried": dict(trial)})
            if tried and line.get(METRIC, 0.0) >= tried[number][METRIC] - CONVERGED:
                break
        best = lines.pop(ranked_of(lines, f"{self.name}, seed {seed}")[0])
        return best | ({"collapsed": lines} if lines else {})

    def _fine_tune(
        self, shared: Participants, seed: int, parent: Checkpoint, path: Path
    ) -> tuple[dict[str, Checkpoint], dict[str, Any]]:
        """Fine-tunes on every hospital; returns the chosen models and entries for the record."""
        first = self.comparison.seeds[0]
        tried = range(len(self.method.tunings))
        if seed != first:  # the first seed chooses for all
            tuning = self.record("seed", first)["tuning"]
            tried = range(tuning, tuning + 1)
        found: list[dict[str, Checkpoint]] = []
        lines: list[dict[str, Any]] = []
        for number in tried:
            trial, models, values = self.method.tunings[number], {}, []
            for hospital, split in shared.hospitals.items():
                stage = Stage(
                    name=f"{self.name}, seed {seed}, {hospital}",
                    model=parent.config,
                    training=dataclasses.replace(self.comparison.fine_tuning, seed=seed),
                    train_patients=split[TRAIN],
                    validation_patients=split[VALIDATION],
                    parent=str(path),
                    provenance=provenance(
                        self.fingerprint,
                        shared.scale_of([hospital]),
                        self.comparison,
                        split,
                        parent,
                    ),
                )
                stage = self.method.stage(stage, trial)
                tuned, line = try_once(self.method, trial, stage, shared.bank, self.device)
                if tuned is not None:
                    models[hospital] = tuned
                    values.append(line[METRIC])
            found.append(models)
            # One choice for all hospitals: each alone has too few validation patients.
            whole = len(models) == len(shared.hospitals)
            mean = {METRIC: float(np.mean(values))} if whole else {"diverged": True}
            lines.append({"tried": dict(trial), "hospitals": values, **mean})
        best = ranked_of(lines, f"{self.name}, seed {seed}, fine-tuning")[0]
        for hospital, model in found[best].items():
            model.save(self.folder("seed", seed) / hospital / "checkpoint")
        return found[best], {"tuning": tried[best], "tunings": lines}
