"""Chooses the model that serves each hospital: follows the registry and checks every model.

A hospital is served by the newest model of its line (the promoted one, then earlier promoted ones)
that loads and reproduces the logits of its reference bags. While a decision of a hospital is
damaged or missing, the hospital keeps the line that was read last; other hospitals go on. A request
keeps the model that it started with, so a change never affects a running request.

A model that fails a check is rejected until there is another decision on its hospital. What this
machine fails at, for example for lack of memory or disk, says nothing about the model: it is tried
again.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Final, TypeVar

import pyarrow as pa
import torch

from homnet.calibration.patients import NO_READER_USED
from homnet.errors import CheckpointError, HomNetError, RegistryError, StoreError
from homnet.model.checkpoint import Checkpoint
from homnet.model.decisions import Promotion, Standing
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import check_reference_bags
from homnet.model.registry import Registry
from homnet.model.scoring import Precision
from homnet.patients.diagnostician import Diagnostician, calibration_digest
from homnet.patients.verdict import VerdictConfig
from homnet.reader.network import ReaderConfig
from homnet.reader.reading import CalibratedReader
from homnet_serve.logs import fault_of
from homnet_serve.metrics import Metrics
from homnet_serve.schemas import ModelOfHospital

_LOG: Final = logging.getLogger(__name__)
M = TypeVar("M")


class _NoReferenceBagsError(HomNetError):
    """A model has no reference bags yet, and this endpoint requires them."""


@dataclass(frozen=True)
class Served:
    """A model that serves a hospital."""

    hospital: str
    """Whose."""
    version: str
    """Version in the registry."""
    predictor: Predictor
    """The model, a HomNet."""
    judge: Diagnostician
    """Judges by the model's calibration of patients."""
    reader: CalibratedReader | None
    """The reader that its calibration names, or else the endpoint's; None without one."""
    description: ModelOfHospital
    """Description of the model in answers."""


@dataclass(frozen=True)
class Shadow:
    """A model whose scores are compared with those of the serving model."""

    version: str
    """Version in the registry."""
    predictor: Predictor
    """The model with its calibration."""


class ModelStore:
    """The models of a registry, loaded on request, for at most ``max_hospitals`` hospitals."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        *,
        device: str = "cpu",
        precision: Precision = "float32",
        max_hospitals: int = 64,
        require_reference_bags: bool = False,
        shadow_candidates: bool = False,
        verdict: VerdictConfig | None = None,
        reader: CalibratedReader | None = None,
    ) -> None:
        """Sets up an empty store; :meth:`refresh` fills it.

        Args:
            registry: registry of models and decisions.
            metrics: metrics to update.
            device: device of the models.
            precision: of the models whose reference bags allow it; others compute in float32.
            max_hospitals: maximum number of hospitals with loaded models (LRU).
            require_reference_bags: whether to refuse models without reference bags.
            shadow_candidates: whether to load the newest candidate of each loaded hospital too.
            verdict: settings of verdicts.
            reader: for models that were calibrated without a reader.
        """
        self._registry = registry
        self._metrics = metrics
        self._device, self._precision = torch.device(device), precision
        self._max_hospitals = max_hospitals
        self._require_reference_bags = require_reference_bags
        self._shadow_candidates = shadow_candidates
        self._verdict, self._reader = verdict, reader
        self._readers: dict[str, CalibratedReader] = {}
        self._loading = Lock()
        """Held by the thread that loads models."""
        self._lock = Lock()
        """Held briefly to read or change the loaded models."""
        self._lines: dict[str, tuple[Promotion, ...]] = {}
        self._names: dict[str, frozenset[str]] = {}
        """Files of the decisions of each hospital behind its line."""
        self._damage: dict[str, str] = {}
        """What is wrong with the decisions of a hospital."""
        self._current: OrderedDict[str, Served] = OrderedDict()
        self._shadows: dict[str, Shadow] = {}
        self._rejected: set[tuple[str, str]] = set()
        self._waiting: set[tuple[str, str]] = set()
        """Models that wait for their reference bags, which need no other decision."""
        self.ready = False
        """Whether the registry was read and, if it has promoted models, one of them loaded. A
        directory that does not exist is not read: nothing is taken over for a misspelt path."""

    @property
    def hospitals(self) -> frozenset[str]:
        """Hospitals that have a promoted model."""
        return frozenset(self._lines)

    def cached(self, hospital: str) -> Served | None:
        """The loaded model of a hospital; None if :meth:`load` has to look for one."""
        with self._lock:
            served = self._current.get(hospital)
            if served is not None:
                self._current.move_to_end(hospital)
            return served

    def load(self, hospital: str) -> Served | None:
        """The model of a hospital, loaded and checked if necessary; None if there is none."""
        with self._loading:
            served = self.cached(hospital) or self._choose(hospital)
            if served is not None and served is not self.cached(hospital):
                self._put(served)
            return served

    def loaded(self) -> list[Served]:
        """The loaded models, one for each hospital."""
        with self._lock:
            return list(self._current.values())

    def reference_bags(self) -> pa.Table | None:
        """Reference bags of one of the loaded models; None if none has any."""
        found = (self._registry.reference_bags(served.version) for served in self.loaded())
        return next((table for table in found if table is not None), None)

    def shadow(self, hospital: str) -> Shadow | None:
        """The candidate that is compared with the serving model; None if there is none."""
        return self._shadows.get(hospital)

    def refresh(self) -> None:
        """Reads the registry and applies its decisions; never raises."""
        try:
            standing = self._registry.standing()
            is_missing = not self.ready and not self._registry.exists()
        except HomNetError as error:
            # The loaded models stay in service.
            self._metrics.registry_errors.inc()
            _LOG.error("registry_unreadable", extra={"reason": str(error)})
            return
        if is_missing:
            reason = (
                f"{self._registry.root}: there is no such directory; correct the path (a relative "
                "one is that of the replica), mount the disk, or publish a model first"
            )
            self._metrics.registry_errors.inc()
            _LOG.error("registry_missing", extra={"reason": reason})
            return
        with self._loading:
            lines = self._lines_of(standing)
            for hospital in [h for h, line in lines.items() if line != self._lines.get(h)]:
                self._rejected = {pair for pair in self._rejected if pair[0] != hospital}
                self._waiting = {pair for pair in self._waiting if pair[0] != hospital}
            self._lines = lines
            # Until it is ready it loads what fits; then it renews loaded models that are outdated.
            loaded = [served.hospital for served in self.loaded()]
            for hospital in loaded if self.ready else list(lines)[: self._max_hospitals]:
                self._renew(hospital)
            loaded = [served.hospital for served in self.loaded()]
            candidates = {
                entry.hospital: entry.version
                for entry in standing.entries
                if self._shadow_candidates
                and entry.status == "candidate"
                and entry.hospital in loaded
            }
            for hospital in set(self._shadows) - set(candidates):
                del self._shadows[hospital]
            for hospital, version in candidates.items():
                self._renew_shadow(hospital, version)
            self.ready = self.ready or not lines or bool(loaded)

    def _lines_of(self, standing: Standing) -> dict[str, tuple[Promotion, ...]]:
        """The lines to follow: the last good one of a hospital with damage. Reports the damage."""
        damage = {of: next(iter(own.values())) for of, own in standing.problems.items()}
        names = standing.names
        for hospital, known in self._names.items():
            gone = known - names.get(hospital, frozenset())
            line = standing.lines.get(hospital, ())
            promoted_since = bool(line) and line[-1].decision not in known
            if gone and hospital not in damage and not promoted_since:
                damage[hospital] = (
                    f"decision {min(gone)}: has vanished; restore it, or promote a model again"
                )
        for hospital in set(self._damage) - set(damage):
            self._metrics.registry_damage.set(0, tags={"hospital": hospital})
        for hospital, reason in damage.items():
            self._metrics.registry_damage.set(1, tags={"hospital": hospital})
            if self._damage.get(hospital) != reason:
                _LOG.error("decision_damaged", extra={"hospital": hospital, "reason": reason})
        if damage:
            self._metrics.registry_errors.inc()
        self._damage = damage
        kept = set(damage) & set(self._names)
        self._names = {**names, **{h: self._names[h] for h in kept}}
        good = {h: line for h, line in standing.lines.items() if h not in damage}
        return {**good, **{h: self._lines[h] for h in kept if h in self._lines}}

    def _renew(self, hospital: str) -> None:
        served = self._choose(hospital)
        if served is None:
            self._drop(hospital)
        elif served is not self._current.get(hospital):
            self._put(served)

    def _choose(self, hospital: str) -> Served | None:
        """The newest usable model of a hospital's line."""
        for promotion in reversed(self._lines.get(hospital, ())):
            now = self._current.get(hospital)
            if now is not None and now.version == promotion.version:
                return now
            if (hospital, promotion.version) not in self._rejected:
                load = partial(self._served, hospital, promotion)
                served = self._checked(hospital, promotion.version, load)
                if served is not None:
                    return served
        return None

    def _served(self, hospital: str, promotion: Promotion) -> Served:
        """Loads a model with its reader and checks both."""
        version = promotion.version
        self._registry.check_beside(promotion.beside)
        reference = self._reference_bags(version)
        checkpoint = self._registry.checkpoint(version)
        predictor = self._same(version) or Predictor.of_checkpoint(checkpoint, self._device)
        predictor.homnet()
        predictor = self._checked_by(reference, version, predictor)
        named = {one.reader for one in checkpoint.patients.values()} - {NO_READER_USED}
        reader = self._reader_of(named.pop()) if named else self._reader
        judge = Diagnostician(
            checkpoint,
            self._verdict,
            reader=NO_READER_USED if reader is None else reader.version,
        )
        return Served(
            hospital,
            version,
            predictor,
            judge,
            reader,
            _description(hospital, version, checkpoint, judge, reader),
        )

    def _reader_of(self, version: str) -> CalibratedReader:
        """The reader of a version, loaded once."""
        if self._reader is not None and self._reader.version == version:
            return self._reader
        if version not in self._readers:
            found = self._registry.reader(version, ReaderConfig.of_json)
            self._readers[version] = CalibratedReader.of_checkpoint(found, self._device)
        return self._readers[version]

    def _shadow_of(self, version: str) -> Shadow:
        reference = self._reference_bags(version)
        predictor = self._same(version) or Predictor.of_checkpoint(
            self._registry.checkpoint(version), self._device
        )
        return Shadow(version, self._checked_by(reference, version, predictor))

    def _checked(self, hospital: str, version: str, load: Callable[[], M]) -> M | None:
        """Loads one model; logs a line and returns None if that fails."""
        try:
            return load()
        except (RegistryError, StoreError) as error:
            # It may be reachable again at the next refresh.
            self._metrics.registry_errors.inc()
            _LOG.error("registry_unreadable", extra={"reason": str(error)})
        except _NoReferenceBagsError as error:
            if (hospital, version) not in self._waiting:  # said once
                self._waiting.add((hospital, version))
                self._metrics.rejected.inc(tags={"hospital": hospital})
                _LOG.error(
                    "reference_bags_missing",
                    extra={"hospital": hospital, "version": version, "reason": str(error)},
                )
        except HomNetError as error:
            self._rejected.add((hospital, version))
            self._metrics.rejected.inc(tags={"hospital": hospital})
            _LOG.error(
                "model_rejected",
                extra={"hospital": hospital, "version": version, "reason": str(error)},
            )
        except Exception as error:
            # No check of the model failed, but this machine (memory, disk, device) or this program.
            # The other hospitals go on.
            self._metrics.registry_errors.inc()
            _LOG.error(
                "model_not_loaded",
                extra={"hospital": hospital, "version": version, **fault_of(error)},
            )
        return None

    def _reference_bags(self, version: str) -> pa.Table | None:
        """The reference bags of a model; read before the model, which is large.

        Raises:
            CheckpointError: they are damaged.
            RegistryError: they cannot be read.
            _NoReferenceBagsError: there are none, and this endpoint requires them.
        """
        reference = self._registry.reference_bags(version)
        if reference is None and self._require_reference_bags:
            raise _NoReferenceBagsError(
                "it has no reference bags, and this endpoint requires them; publish it with "
                "--reference"
            )
        return reference

    def _checked_by(
        self, reference: pa.Table | None, version: str, predictor: Predictor
    ) -> Predictor:
        """The model in the precision that its reference bags allow.

        Raises:
            CheckpointError, HomNetError: it fails them in float32.
        """
        if reference is not None:
            check_reference_bags(predictor, reference)
        if predictor.precision == self._precision:
            return predictor
        lower = predictor.at(self._precision)
        try:
            if reference is None:
                raise CheckpointError("it has no reference bags to be checked with")
            check_reference_bags(lower, reference)
        except torch.OutOfMemoryError:
            raise
        except (CheckpointError, RuntimeError) as error:  # the latter: a device without bfloat16
            _LOG.warning("precision_refused", extra={"version": version, "reason": str(error)})
            return predictor
        return lower

    def _same(self, version: str) -> Predictor | None:
        """The model of another hospital with the same version, if it is loaded."""
        loaded: list[Served | Shadow] = [*self.loaded(), *self._shadows.values()]
        return next((one.predictor for one in loaded if one.version == version), None)

    def _put(self, served: Served) -> None:
        with self._lock:
            old = self._current.pop(served.hospital, None)
            self._current[served.hospital] = served
            surplus = list(self._current)[: -self._max_hospitals]
        if old is not None:
            self._tell_answers(old, 0)
        for hospital in surplus:
            self._drop(hospital)
        self._tell_answers(served, 1)
        self._metrics.swaps.inc()
        _LOG.info("model_answers", extra={"hospital": served.hospital, "version": served.version})

    def _drop(self, hospital: str) -> None:
        with self._lock:
            old = self._current.pop(hospital, None)
        if old is not None:
            self._tell_answers(old, 0)

    def _tell_answers(self, served: Served, value: int) -> None:
        tags = {"hospital": served.hospital, "version": served.version}
        self._metrics.models.set(value, tags=tags)

    def _renew_shadow(self, hospital: str, version: str) -> None:
        now = self._shadows.get(hospital)
        if (now is None or now.version != version) and (hospital, version) not in self._rejected:
            found = self._checked(hospital, version, partial(self._shadow_of, version))
            if found is not None:
                self._shadows[hospital] = found


def _description(
    hospital: str,
    version: str,
    checkpoint: Checkpoint,
    judge: Diagnostician,
    reader: CalibratedReader | None,
) -> ModelOfHospital:
    """The description of a hospital's model in answers."""
    calibration = judge.calibration_of(hospital)
    return ModelOfHospital(
        hospital=hospital,
        version=version,
        weights=checkpoint.version,
        reader=NO_READER_USED if reader is None else reader.version,
        samples_per_px=checkpoint.scale_of(hospital),
        calibration=calibration_digest(calibration) if calibration is not None else "none",
        calibrated_on=calibration.hospitals_for(hospital) if calibration is not None else [],
        threshold=calibration.threshold if calibration is not None else None,
        specificity=calibration.specificity if calibration is not None else None,
        prevalence=judge.prevalence_of(calibration) if calibration is not None else None,
    )
