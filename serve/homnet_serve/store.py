"""Which model answers for a hospital now: follows the registry, trusts nothing it did not check.

A model comes to answer when it is the newest of its hospital's line (the promoted one, before it
those that answered earlier) that loads and gives its reference bags their logits. Requests hold
the model that they began with, so a change never touches one that is under way.
"""

import logging
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Final

import torch

from homnet.errors import HomNetError, RegistryError
from homnet.model.predictor import Predictor
from homnet.model.reference_bags import check_reference_bags
from homnet.model.registry import Registry
from homnet_serve.answers import describe_model
from homnet_serve.metrics import Metrics
from homnet_serve.schemas import ModelOfHospital

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A model that answers for a hospital."""

    hospital: str
    """Whose."""
    version: str
    """Of the registry."""
    predictor: Predictor
    """The model with its calibration; a HomNet."""
    description: ModelOfHospital
    """What answers say about it."""


@dataclass(frozen=True)
class Shadow:
    """A model whose scores are compared with those of the one that answers."""

    hospital: str
    """Whose."""
    version: str
    """Of the registry."""
    predictor: Predictor
    """The model with its calibration."""


class ModelStore:
    """The models of a registry, loaded as they are asked for, at most so many at a time."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        *,
        device: str = "cpu",
        max_hospitals: int = 64,
        require_reference_bags: bool = False,
        shadow_candidates: bool = False,
    ) -> None:
        """Sets up an empty store; :meth:`refresh` fills it.

        Args:
            registry: where models and decisions are.
            metrics: what is counted.
            device: where models are.
            max_hospitals: hospitals whose models are kept loaded; the least recently asked go.
            require_reference_bags: whether a model without them may not answer.
            shadow_candidates: whether the newest candidate of each loaded hospital is loaded too.
        """
        self._registry = registry
        self._metrics = metrics
        self._device = torch.device(device)
        self._max_hospitals = max_hospitals
        self._require_reference_bags = require_reference_bags
        self._shadow_candidates = shadow_candidates
        self._loading = Lock()
        """Held by the one thread that loads models."""
        self._lock = Lock()
        """Held for a moment, where the loaded models are looked at or changed."""
        self._lines: dict[str, tuple[str, ...]] = {}
        self._current: OrderedDict[str, Served] = OrderedDict()
        self._shadows: dict[str, Shadow] = {}
        self._rejected: set[tuple[str, str]] = set()
        self.ready = False

    @property
    def hospitals(self) -> frozenset[str]:
        """Hospitals that have a promoted model."""
        return frozenset(self._lines)

    def cached(self, hospital: str) -> Served | None:
        """The loaded model of a hospital, at once; None where :meth:`load` may find one."""
        with self._lock:
            served = self._current.get(hospital)
            if served is not None:
                self._current.move_to_end(hospital)
            return served

    def load(self, hospital: str) -> Served | None:
        """The model of a hospital, loaded and checked if it was not; None where there is none."""
        with self._loading:
            served = self.cached(hospital) or self._choose(hospital)
            if served is not None and served is not self.cached(hospital):
                self._put(served)
            return served

    def shadow(self, hospital: str) -> Shadow | None:
        """The candidate whose scores are compared with those of the answering model."""
        return self._shadows.get(hospital)

    def refresh(self) -> None:
        """Looks into the registry and takes over what was decided; never raises."""
        try:
            lines = self._registry.lines()
            entries = self._registry.entries() if self._shadow_candidates else []
        except HomNetError as error:
            # What answers now goes on answering.
            self._metrics.registry_errors.inc()
            _LOG.error("registry_unreadable", extra={"reason": str(error)})
            return
        with self._loading:
            for hospital in [h for h, line in lines.items() if line != self._lines.get(h)]:
                self._rejected = {pair for pair in self._rejected if pair[0] != hospital}
            self._lines = lines
            # The first look loads what fits; later ones what is loaded and not its line's last.
            loaded = [served.hospital for served in self._loaded_now()]
            for hospital in loaded if self.ready else list(lines)[: self._max_hospitals]:
                self._renew(hospital)
            loaded = [served.hospital for served in self._loaded_now()]
            candidates = {
                entry.hospital: entry.version
                for entry in entries
                if entry.status == "candidate" and entry.hospital in loaded
            }
            for hospital in set(self._shadows) - set(candidates):
                del self._shadows[hospital]
            for hospital, version in candidates.items():
                self._renew_shadow(hospital, version)
            self.ready = True

    def _renew(self, hospital: str) -> None:
        served = self._choose(hospital)
        if served is None:
            self._drop(hospital)
        elif served is not self._current.get(hospital):
            self._put(served)

    def _choose(self, hospital: str) -> Served | None:
        """The newest model of a hospital's line that may answer."""
        for version in reversed(self._lines.get(hospital, ())):
            now = self._current.get(hospital)
            if now is not None and now.version == version:
                return now
            if (hospital, version) not in self._rejected:
                served = self._load(hospital, version)
                if served is not None:
                    return served
        return None

    def _load(self, hospital: str, version: str) -> Served | None:
        predictor = self._checked(hospital, version, answers=True)
        if predictor is None:
            return None
        return Served(hospital, version, predictor, describe_model(hospital, version, predictor))

    def _checked(self, hospital: str, version: str, *, answers: bool) -> Predictor | None:
        """Loads and checks one model; None, and a line in the log, if it may not be used."""
        try:
            predictor = self._predictor(version)
            if answers:
                predictor.homnet()
            reference = self._registry.reference_bags(version)
            if reference is not None:
                check_reference_bags(predictor, reference)
            elif self._require_reference_bags:
                raise HomNetError("it has no reference bags, and this endpoint requires them")
        except RegistryError as error:
            # It may be reachable again at the next look.
            self._metrics.registry_errors.inc()
            _LOG.error("registry_unreadable", extra={"reason": str(error)})
            return None
        except HomNetError as error:
            self._rejected.add((hospital, version))
            self._metrics.rejected.labels(hospital).inc()
            _LOG.error(
                "model_rejected",
                extra={"hospital": hospital, "version": version, "reason": str(error)},
            )
            return None
        return predictor

    def _predictor(self, version: str) -> Predictor:
        """A model; hospitals with the same version share one."""
        loaded: list[Served | Shadow] = [*self._loaded_now(), *self._shadows.values()]
        for one in loaded:
            if one.version == version:
                return one.predictor
        return Predictor.of_checkpoint(self._registry.checkpoint(version), self._device)

    def _put(self, served: Served) -> None:
        with self._lock:
            old = self._current.pop(served.hospital, None)
            self._current[served.hospital] = served
            surplus = list(self._current)[: -self._max_hospitals]
        if old is not None:
            self._metrics.models.remove(old.hospital, old.version)
        for hospital in surplus:
            self._drop(hospital)
        self._metrics.models.labels(served.hospital, served.version).set(1)
        self._metrics.swaps.inc()
        _LOG.info("model_answers", extra={"hospital": served.hospital, "version": served.version})

    def _drop(self, hospital: str) -> None:
        with self._lock:
            old = self._current.pop(hospital, None)
        if old is not None:
            self._metrics.models.remove(hospital, old.version)

    def _loaded_now(self) -> list[Served]:
        with self._lock:
            return list(self._current.values())

    def _renew_shadow(self, hospital: str, version: str) -> None:
        now = self._shadows.get(hospital)
        if (now is None or now.version != version) and (hospital, version) not in self._rejected:
            predictor = self._checked(hospital, version, answers=False)
            if predictor is not None:
                self._shadows[hospital] = Shadow(hospital, version, predictor)
