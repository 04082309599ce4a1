"""Handles a request once its body is read; independent of HTTP routes and Ray."""

import asyncio
import gc
import hashlib
import logging
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import pyarrow.compute as pc
import torch

from homnet.bags.assessment import NOTHING_SENT, Assessment, assess
from homnet.errors import HomNetError
from homnet.imaging.extraction import ExtractionConfig
from homnet.model.allocator import keep_freed_memory
from homnet.model.predictor import Evidence
from homnet.model.registry import Registry
from homnet.model.scoring import Precision, prepare_device
from homnet.patients.finding import Finding, FindingReader
from homnet.patients.pictures import with_pictures
from homnet.patients.verdict import PatientVerdict
from homnet.reader.reading import CalibratedReader
from homnet.secret_key import read_secret_key
from homnet_serve.answers import Wanted, add_pages, patient_results
from homnet_serve.archives import ImagesOfBody, measure_images, read_manifest_of_body
from homnet_serve.audit import KEY_VARIABLE, AuditLog
from homnet_serve.batching import BatchQueue, ReadWork, ScoreWork, chained, read, score
from homnet_serve.bodies import read_pairs_of_body
from homnet_serve.config import ServiceConfig, find_read_form
from homnet_serve.errors import RequestError
from homnet_serve.karyogram_zips import Pictures, cells_of_body, open_pictures
from homnet_serve.karyograms import cut_picture, describe_picture, measure_karyograms
from homnet_serve.keys import Key, open_keys
from homnet_serve.logs import fault_of
from homnet_serve.metrics import Metrics
from homnet_serve.schemas import NOTICE, DiagnoseResponse, KaryogramsResponse, ModelOfHospital
from homnet_serve.shadow import ShadowComparison
from homnet_serve.shares import SharedThreads, Shares, Stopped
from homnet_serve.store import ModelStore, Served
from homnet_serve.warm_up import warm_up

R = TypeVar("R")
_LOG: Final = logging.getLogger(__name__)
_MAX_FOREIGN: Final = 8
"""Number of hospitals that the audit line of a refusal names."""


@dataclass(frozen=True)
class Asked:
    """A request with its body."""

    key: Key
    """The API key of the request."""
    request_id: str
    """Id of the request."""
    caller_request_id: str | None
    """What the caller calls it."""
    route: str
    """Path of the route."""
    body: bytes
    """The whole body."""
    content_type: str = ""
    """Its media type, with parameters."""
    sequences: Wanted = "none"
    """Types whose sequences the answer includes."""
    pages: Wanted = "none"
    """Patients whose pages the answer includes."""
    samples_per_px: float | None = None
    """Scale of the hospital's sequences; None takes that of the model, or else of the config."""


@dataclass(frozen=True)
class Answer:
    """A successful answer."""

    content: bytes
    """JSON of a response in :mod:`homnet_serve.schemas`."""
    counts: Mapping[str, int]
    """Numbers for the log line."""
    audit: str
    """Digest of the audit line."""


class Service:
    """An endpoint without its HTTP part: models, keys, queue and audit log."""

    def __init__(self, config: ServiceConfig) -> None:
        """Opens keys, audit log and registry; :meth:`start` loads the models.

        Args:
            config: settings.

        Raises:
            ConfigError, CheckpointError, DataError: a setting is wrong, or a file or the device
                cannot be used.
        """
        self.config = config
        prepare_device(config.device)
        self.metrics = Metrics()
        self.keys = open_keys(config.keys)
        self.audit = AuditLog(
            config.audit,
            sync=config.audit_sync,
            key=read_secret_key(config.audit_key, KEY_VARIABLE),
            anchor=config.audit_anchor or None,
        )
        self.store = ModelStore(
            Registry(config.registry, find_read_form(config.forms)),
            self.metrics,
            device=config.device,
            precision=cast(Precision, config.precision),
            max_hospitals=config.max_hospitals,
            require_reference_bags=config.require_reference_bags,
            shadow_candidates=config.shadow_candidates,
            verdict=config.verdict,
            reader=CalibratedReader.load(config.findings, config.device)
            if config.findings
            else None,
        )
        # Both queues share a thread: on a device, passes at the same time only slow each other.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="homnet-pass")
        self.queue = BatchQueue[ScoreWork, Evidence](
            self.metrics,
            score,
            Evidence.concatenate,
            step="score",
            thread=self._thread,
            max_items=config.max_bags,
            waiting=Shares("patients", config.max_waiting_bags, config.max_share),
            wait_s=config.batch_wait_s,
        )
        self._reading = BatchQueue[ReadWork, list[Finding]](
            self.metrics,
            read,
            chained,
            step="read",
            thread=self._thread,
            max_items=config.max_types,
            # Requests were admitted by the first queue; none is refused half-way.
            waiting=Shares("patients", sys.maxsize, 1.0),
            wait_s=0.0,
        )
        # A separate pool: image measurement is slow and must not block bodies and models.
        share = config.max_share
        self._readers = SharedThreads(4, share, "homnet-read")
        # One for each of two keys: a zip takes many seconds.
        self._images = SharedThreads(2, min(share, 0.5), "homnet-images")
        # One, as models load one after the other: those who wait for it keep no body unread.
        self._loader = SharedThreads(1, 1.0, "homnet-load")
        self.requests = Shares("requests", config.max_requests, share)
        """Requests being read or answered."""
        self.held = Shares("large bodies", config.max_held_bytes, share)
        """Bytes of their bodies."""
        self._zips = Shares("zips", config.max_waiting_images, share, retry_after_s=5)
        self._tasks: list[asyncio.Task[None]] = []
        self._shadow = ShadowComparison(self.store, self.metrics)

    async def start(self) -> None:
        """Loads the models of the registry, warms up, and starts the background tasks."""
        keep_freed_memory()
        # What the imports made stays: without it a full collection stops all threads for less time.
        gc.freeze()
        torch.set_num_threads(self.config.num_threads)
        await self._refresh()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._warm_up)
        self._tasks = [
            asyncio.create_task(self.queue.run()),
            asyncio.create_task(self._reading.run()),
            asyncio.create_task(self._watch()),
        ]

    def _warm_up(self) -> None:
        try:
            reference = self.store.reference_bags()
        except HomNetError:  # lost since the models were loaded, which can answer
            reference = None
        if reference is None:
            _LOG.info("no_warm_up")
            return
        config = self.config
        warm_up(
            self.store.loaded(), reference, num_bags=config.max_bags, num_types=config.max_types
        )

    async def close(self) -> None:
        """Stops all threads and tasks."""
        self._shadow.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._thread.shutdown()
        self._images.close()
        self._readers.close()
        self._loader.close()
        self.audit.close()

    @property
    def alive(self) -> bool:
        """Whether the permanent tasks are running and passes do not fail one after the other."""
        is_running = bool(self._tasks) and not any(task.done() for task in self._tasks)
        return is_running and not (self.queue.is_failing or self._reading.is_failing)

    @property
    def ready(self) -> bool:
        """Whether requests can be answered; not if no promoted model could be loaded yet."""
        return self.alive and self.store.ready

    async def models(self, key: Key) -> list[ModelOfHospital]:
        """The models that serve the hospitals of a key."""
        known = sorted(set(key.hospitals) & set(self.store.hospitals))
        found = [await self._served(key, hospital) for hospital in known]
        return [served.description for served in found if served is not None]

    async def diagnose(self, asked: Asked) -> Answer:
        """Answers a body of pairs.

        Raises:
            RequestError: the body is wrong, the key does not permit this, or the queue is full.
        """
        key, limits = asked.key, self.config.limits
        self.queue.admit(key.id)
        with self.queue.arriving():
            table = await self._readers.run(
                key.id, lambda _: read_pairs_of_body(asked.body, asked.content_type, limits)
            )
            served = await self._models_for(asked, pc.unique(table["hospital"]).to_pylist())
            self._scales(asked, served)
            assessment = await self._readers.run(key.id, lambda _: assess(table))
        return await self._answer(asked, ImagesOfBody(table), assessment, served)

    async def diagnose_images(
        self, asked: Asked, *, hospital: str, band_level: int | None
    ) -> Answer:
        """Answers a zip of images.

        Args:
            asked: the request.
            hospital: default hospital of manifest rows without one.
            band_level: default band level of cells without one; None: it is estimated.

        Raises:
            RequestError: as :meth:`diagnose`.
        """
        key, limits = asked.key, self.config.limits
        with self._zips.taken(key.id):
            archive, manifest = await self._readers.run(
                key.id,
                lambda _: read_manifest_of_body(
                    asked.body, hospital=hospital, band_level=band_level, limits=limits
                ),
            )
            # Before measuring images: the key may not permit these hospitals.
            served = await self._models_for(asked, sorted(manifest["hospital"].unique()))
            configs = self._extraction(asked, served)
            images = await self._images.run(
                key.id,
                lambda stopped: measure_images(archive, manifest, configs, limits, stopped),
            )
        return await self._answer_images(asked, images, served)

    async def read_karyograms(self, asked: Asked, *, preview: bool) -> Answer:
        """Answers what is found on pictures of karyograms; no model is needed.

        Args:
            asked: the request, with a zip of pictures.
            preview: whether the answer includes the pictures.

        Raises:
            RequestError: the body is wrong, or there is no room for it.
        """
        key = asked.key
        with self._zips.taken(key.id):
            pictures = await self._open_pictures(asked)
            read = await self._page_by_page(
                key, pictures, lambda name: describe_picture(pictures, name, preview=preview)
            )

        def write(stopped: Stopped) -> tuple[bytes, str]:
            response = KaryogramsResponse(
                request_id=asked.request_id,
                caller_request_id=asked.caller_request_id,
                pictures=read,
            )
            content = response.model_dump_json().encode()
            return content, self._record(asked, content, {"num_pictures": len(read)}, stopped)

        content, audit = await self._readers.run(key.id, write)
        self._count_pictures(one.reason for one in read)
        return Answer(content, {"num_pictures": len(read)}, audit)

    async def diagnose_karyograms(
        self,
        asked: Asked,
        *,
        hospital: str,
        patient_id: str,
        band_level: int | None,
        px_per_um: float | None,
    ) -> Answer:
        """Answers a zip of karyograms.

        Args:
            asked: the request.
            hospital: default hospital of the cells.
            patient_id: patient of all pictures; empty if their names or a list say it.
            band_level: default band level of the cells; None: it is estimated.
            px_per_um: pixels of the pictures per micrometre; None takes what each says.

        Raises:
            RequestError: as :meth:`diagnose_images`.
        """
        key, limits = asked.key, self.config.limits
        with self._zips.taken(key.id):
            pictures = await self._open_pictures(asked)
            cells = await self._readers.run(
                key.id,
                lambda _: cells_of_body(
                    pictures, hospital=hospital, patient_id=patient_id, band_level=band_level
                ),
            )
            # Before reading pictures: the key may not permit these hospitals.
            served = await self._models_for(asked, sorted({cell["hospital"] for cell in cells}))
            configs = self._extraction(asked, served)
            cut = await self._page_by_page(
                key, pictures, lambda name: cut_picture(pictures, name, px_per_um)
            )
            self._count_pictures(one.reason for one in cut)
            by_name = dict(zip(pictures.names, cut, strict=True))
            images = await self._images.run(
                key.id, lambda stopped: measure_karyograms(cells, by_name, configs, limits, stopped)
            )
        entry = {"num_pictures": len(cut), "num_corrections": pictures.num_corrections}
        return await self._answer_images(asked, images, served, entry)

    async def _open_pictures(self, asked: Asked) -> Pictures:
        return await self._readers.run(
            asked.key.id,
            lambda _: open_pictures(asked.body, self.config.limits, asked.content_type),
        )

    async def _page_by_page(
        self, key: Key, pictures: Pictures, work: Callable[[str], R]
    ) -> list[R]:
        """Works on one picture of a request at a time: a large one takes seconds and 400 MiB.

        Each is work of its own, so that keys take turns, and what is given up stops.
        """

        async def one(name: str) -> R:
            return await self._images.run(key.id, lambda _: work(name))

        return [await one(name) for name in pictures.names]

    def _count_pictures(self, reasons: Iterable[str]) -> None:
        for reason in reasons:
            self.metrics.karyograms.inc(tags={"outcome": "refused" if reason else "read"})

    def _extraction(
        self, asked: Asked, served: Mapping[str, Served]
    ) -> dict[str, ExtractionConfig]:
        """How the chromosomes of each hospital are measured."""
        return {
            name: replace(self.config.extraction, samples_per_px=scale)
            for name, scale in self._scales(asked, served).items()
        }

    async def _answer_images(
        self,
        asked: Asked,
        images: ImagesOfBody,
        served: dict[str, Served],
        entry: Mapping[str, int] = MappingProxyType({}),
    ) -> Answer:
        """Answers measured images; ``entry`` goes into the log and the audit log."""
        assessment = await self._readers.run(asked.key.id, lambda _: assess(images.table))
        # A patient of whom no image could be measured is answered, too.
        nothing = dict.fromkeys([*images.refused, *images.karyograms], NOTHING_SENT)
        assessment = replace(assessment, left_out={**nothing, **assessment.left_out})
        return await self._answer(asked, images, assessment, served, entry)

    def _scales(self, asked: Asked, served: Mapping[str, Served]) -> dict[str, float]:
        """Samples per image pixel of each hospital: the model's, if it knows its scale.

        Raises:
            RequestError: the request gives another.
        """
        scales, given = {}, asked.samples_per_px
        for name, one in served.items():
            own = one.description.samples_per_px
            if given is not None and own is not None and not math.isclose(given, own, rel_tol=1e-6):
                raise RequestError(
                    422,
                    "other_scale",
                    f"samples_per_px: {given:g} is given, and the model of hospital {name!r} is "
                    f"for {own:g} samples per image pixel; measure the images at {own:g}",
                )
            scales[name] = given or own or self.config.extraction.samples_per_px
        return scales

    async def _answer(
        self,
        asked: Asked,
        images: ImagesOfBody,
        assessment: Assessment,
        served: dict[str, Served],
        entry: Mapping[str, int] = MappingProxyType({}),
    ) -> Answer:
        evidence = Evidence.concatenate([])
        if len(assessment.bags):
            predictors = [served[assessment.types[g].hospital].predictor for g in assessment.type_B]
            evidence = await self.queue.submit(ScoreWork(assessment.bags, predictors), asked.key.id)
        findings = await self._findings(asked.key, assessment, evidence, served)

        def write(stopped: Stopped) -> tuple[bytes, list[PatientVerdict], str]:
            verdicts = [
                with_pictures(verdict, images.sent(verdict.hospital, verdict.patient_id))
                for name in sorted(served)
                for verdict in served[name].judge.judge(name, assessment, evidence, findings)
            ]
            patients = patient_results(
                verdicts,
                assessment,
                evidence,
                images,
                sequences=asked.sequences,
                stopped=stopped,
            )
            add_pages(
                patients,
                verdicts,
                images,
                extraction=self._extraction(asked, served),
                pages=asked.pages,
                most=self.config.limits.max_pages,
                stopped=stopped,
            )
            response = DiagnoseResponse.model_construct(
                notice=NOTICE,
                request_id=asked.request_id,
                caller_request_id=asked.caller_request_id,
                models=[served[name].description for name in sorted(served)],
                patients=patients,
            )
            content = response.model_dump_json().encode()
            record = {
                "models": {name: one.version for name, one in sorted(served.items())},
                "readers": {name: one.description.reader for name, one in sorted(served.items())},
                "calibrations": {
                    name: one.description.calibration for name, one in sorted(served.items())
                },
                "num_patients": len(verdicts),
                "num_abnormal": sum(one.decision == "abnormal" for one in verdicts),
                **entry,
            }
            return content, verdicts, self._record(asked, content, record, stopped)

        content, verdicts, audit = await self._readers.run(asked.key.id, write)
        for verdict in verdicts:
            hospital = {"hospital": verdict.hospital}
            self.metrics.patients.inc(tags={**hospital, "decision": verdict.decision})
            if verdict.flagged:
                self.metrics.flagged.inc(len(verdict.flagged), tags=hospital)
        self._shadow.compare(assessment, evidence, served)
        counts = {"num_patients": len(verdicts), "num_bags": len(assessment.bags), **entry}
        return Answer(content, counts, audit)

    async def _findings(
        self, key: Key, assessment: Assessment, evidence: Evidence, served: dict[str, Served]
    ) -> dict[int, Finding]:
        """What the readers say of the types that they have to read, by index of the type."""

        def wanted(_: Stopped) -> dict[int, FindingReader]:
            return {
                int(g): one.reader
                for name, one in served.items()
                if one.reader is not None
                for g in one.judge.types_to_read(name, assessment, evidence)
            }

        readers = await self._readers.run(key.id, wanted)
        if not readers:
            return {}
        chosen = sorted(readers)
        work = ReadWork(assessment.only(chosen), [readers[g] for g in chosen])
        return dict(zip(chosen, await self._reading.submit(work, key.id), strict=True))

    def _record(
        self,
        asked: Asked,
        content: bytes | None,
        entry: Mapping[str, Any],
        stopped: Stopped | None = None,
    ) -> str:
        """Writes the audit line of an answer, or of a refusal, which has no content.

        Neither is sent without it. A refusal has its line also if nobody waits for it any more.

        Raises:
            RequestError: 503, the line cannot be written; or 504, the request was given up.
        """
        result = {} if content is None else {"result_sha256": hashlib.sha256(content).hexdigest()}
        try:
            return self.audit.append(
                {
                    "event": "refused" if content is None else "answered",
                    "request_id": asked.request_id,
                    "caller_request_id": asked.caller_request_id,
                    "key": asked.key.id,
                    "route": asked.route,
                    "request_sha256": hashlib.sha256(asked.body).hexdigest(),
                    **result,
                    **entry,
                },
                stopped,
            )
        except OSError:
            _LOG.critical("audit_unwritable")
            raise RequestError(
                503, "audit", "the audit log cannot be written; nothing is answered without it"
            ) from None

    async def _models_for(self, asked: Asked, hospitals: Sequence[str]) -> dict[str, Served]:
        """Returns the models of the hospitals; the key must permit all of them."""
        key = asked.key
        foreign = sorted(set(hospitals) - set(key.hospitals))
        if foreign:
            # Bounded: the caller chooses how many there are, and how long.
            named = [name[: self.config.limits.max_name_chars] for name in foreign[:_MAX_FOREIGN]]
            entry = {"hospitals": named, "num_hospitals": len(foreign)}
            await self._readers.run(key.id, lambda _: self._record(asked, None, entry))
            raise RequestError(
                403, "forbidden", "this key is not for every hospital that the request names"
            )
        served: dict[str, Served] = {}
        for hospital in sorted(hospitals):
            one = await self._served(key, hospital)
            if one is None:
                raise RequestError(
                    404, "no_model", f"no model answers for hospital {hospital!r}; promote one"
                )
            served[hospital] = one
        return served

    async def _served(self, key: Key, hospital: str) -> Served | None:
        cached = self.store.cached(hospital)
        if cached is not None or hospital not in self.store.hospitals:
            return cached
        return await self._loader.run(key.id, lambda _: self.store.load(hospital))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.config.refresh_s)
            try:
                await self._refresh()
            except Exception as error:  # the current models stay in use
                _LOG.error("refresh_failed", extra=fault_of(error))

    async def _refresh(self) -> None:
        # No key has an empty id.
        await self._loader.run("", lambda _: self.store.refresh())
