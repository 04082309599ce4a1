"""Fuzzes an endpoint with hostile bodies, and the stores behind it with damage.

One replica answers one body at a time. Measured are its statuses, its time, the memory it takes
above what it held when idle, and how long ``/healthz`` is silent meanwhile.
"""

import http.client
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from homnet.cohorts.cohort import Cohort, write_cohort
from homnet.cohorts.pairs import MEASURED, SCHEMA
from homnet.errors import ConfigError, HomNetError
from homnet.model.registry import Registry
from homnet.records.damage import Change, changes
from homnet.results import Record, describe_machine
from homnet_serve.archives import ZIP_TYPE
from homnet_serve.bodies import ARROW_TYPE, JSON_TYPE
from homnet_serve.records.hostile_bodies import arrow_bodies, json_bodies
from homnet_serve.records.hostile_zips import IMAGES_PER_ZIP, image_zips, manifest_zips
from homnet_serve.records.local_server import LocalServer
from homnet_serve.records.material import Material, MaterialConfig, make_material

_HEALTH_EVERY_S: Final = 0.05
_RIGHT: Final = ("the same", "refused", "refused, others untouched")
"""What may be read from a changed store."""
Bodies = Iterator[tuple[str, bytes]]


@dataclass(frozen=True)
class FuzzConfig:
    """How much is sent and changed."""

    material: MaterialConfig = MaterialConfig(num_hospitals=2, num_cells=2, num_patients=4)
    """Models and patients."""
    images: int = 16_000
    """Number of damaged images, eight in a zip."""
    manifests: int = 4_000
    """Number of damaged manifests and zips."""
    arrow: int = 5_000
    """Number of Arrow bodies."""
    json: int = 5_000
    """Number of JSON bodies."""
    changes: int = 2_000
    """Number of changes to stored files, half of a registry and half of a cohort."""
    deadline_s: float = 10.0
    """Deadline of the endpoint."""
    work: Path = Path("runs/fuzz")
    """Directory of the endpoint's files; replaced."""
    seed: int = 0
    """Seed of all bodies and changes."""
    record: Record = Record()
    """The result of record, for example results/fuzz.json."""

    def __post_init__(self) -> None:
        for name in ("images", "manifests", "arrow", "json", "changes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least 0")


def fuzz(config: FuzzConfig) -> dict[str, Any]:
    """Sends and changes everything, prints a line for each part, and writes the result.

    Raises:
        DataError: the endpoint did not start, or has ended.
    """
    material = make_material(config.material)
    shutil.rmtree(config.work, ignore_errors=True)
    rng = np.random.default_rng(config.seed)
    hospital = material.hospital_of[0]
    figures: dict[str, Any] = {"machine": describe_machine(), "deadline_s": config.deadline_s}
    parts: list[tuple[str, str, str, int, Bodies]] = [
        (
            "images",
            "/v1/diagnose/images",
            ZIP_TYPE,
            config.images // IMAGES_PER_ZIP,
            image_zips(rng, hospital),
        ),
        (
            "manifests",
            "/v1/diagnose/images",
            ZIP_TYPE,
            config.manifests,
            manifest_zips(rng, hospital),
        ),
        ("arrow", "/v1/diagnose", ARROW_TYPE, config.arrow, arrow_bodies(rng)),
        ("json", "/v1/diagnose", JSON_TYPE, config.json, json_bodies(rng)),
    ]
    secret, settings = material.publish(config.work / "endpoint")
    with LocalServer(config.work / "server.log") as server:
        server.deploy({**settings, "deadline_s": config.deadline_s, "num_threads": 1})
        (replica,) = server.processes()["replica"]
        for name, route, media_type, count, bodies in parts:
            sent = _Sent()
            with _Asker(server.url, route, media_type, secret, replica) as asker:
                for kind, body in islice(bodies, count):
                    sent.add(kind, *asker.ask(body))
                sent.longest_silence_s = asker.health.longest_s
            figures[name] = sent.figures(config.deadline_s)
            print(f"{name}: {figures[name]}", flush=True)
    figures["changes"] = _change_stores(material, config, rng)
    print(f"changes: {figures['changes']}", flush=True)
    config.record.write({"fuzz": figures}, recipe=config.material.recipe, seed=config.seed)
    return figures


@dataclass
class _Sent:
    """What became of the bodies of one part."""

    bodies: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    slowest_kind: str = ""
    largest_mib: float = 0.0
    largest_kind: str = ""
    longest_silence_s: float = 0.0
    failed: list[str] = field(default_factory=list)

    def add(self, kind: str, status: str, seconds: float, mib: float) -> None:
        self.bodies += 1
        self.statuses[status] += 1
        if seconds > self.slowest_s:
            self.slowest_s, self.slowest_kind = round(seconds, 2), kind
        if mib > self.largest_mib:
            self.largest_mib, self.largest_kind = round(mib, 1), kind
        # 503 and 504 are answers of a server that is full or late, as documented.
        if not status.isdigit() or (status.startswith("5") and status not in ("503", "504")):
            self.failed.append(f"{kind}: {status}")

    def figures(self, deadline_s: float) -> dict[str, Any]:
        return {
            **asdict(self),
            "statuses": dict(sorted(self.statuses.items())),
            "failed": self.failed[:20],
            "num_failed": len(self.failed),
            "over_deadline_s": round(max(self.slowest_s - deadline_s, 0.0), 2),
        }


class _Asker:
    """Sends bodies one by one and watches the replica; a context manager."""

    def __init__(self, url: str, route: str, media_type: str, secret: str, replica: int) -> None:
        self._address = urlsplit(url).netloc
        self._route = route
        self._headers = {"Authorization": f"Bearer {secret}", "Content-Type": media_type}
        self._process = Path("/proc") / str(replica)
        self.health = _Health(self._address)

    def __enter__(self) -> Self:
        self._idle = self._peak()
        self.health.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.health.stop()

    def ask(self, body: bytes) -> tuple[str, float, float]:
        """Status, seconds, and MiB at the peak above the memory of the idle replica."""
        (self._process / "clear_refs").write_text("5")  # the peak begins anew
        before = time.monotonic()
        connection = http.client.HTTPConnection(self._address, timeout=120)
        try:
            connection.request("POST", self._route, body, self._headers)
            answer = connection.getresponse()
            answer.read()
            status = str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            status = type(error).__name__
        finally:
            connection.close()
        return status, time.monotonic() - before, (self._peak() - self._idle) / 2**20

    def _peak(self) -> int:
        """Largest resident size in bytes since the last reset."""
        for line in (self._process / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return 0


class _Health(threading.Thread):
    """Asks for ``/healthz`` again and again, and keeps the longest time without an answer."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address, self._ended = address, threading.Event()
        self.longest_s = 0.0

    def run(self) -> None:
        while not self._ended.wait(_HEALTH_EVERY_S):
            before = time.monotonic()
            connection = http.client.HTTPConnection(self._address, timeout=60)
            try:
                connection.request("GET", "/healthz")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            self.longest_s = max(self.longest_s, round(time.monotonic() - before, 3))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _change_stores(
    material: Material, config: FuzzConfig, rng: np.random.Generator
) -> dict[str, Any]:
    """Changes a registry and a cohort, file by file, and reads them again each time."""
    registry = config.work / "changed"
    material.publish(registry)
    root = config.work / "cohort"
    tables = [_as_cohort(table) for table in material.tables]
    write_cohort(
        root, tables, scale=dict.fromkeys(material.hospital_of, 3.0), provenance={"made by": "fuzz"}
    )
    half = config.changes // 2
    return {
        "registry": _changed(
            registry / "registry", rng, half, lambda: _models(Registry(registry / "registry"))
        ),
        "cohort": _changed(root, rng, config.changes - half, lambda: _pairs(root)),
    }


def _changed(
    root: Path, rng: np.random.Generator, count: int, read: Callable[[], Any]
) -> dict[str, Any]:
    """Counts what reading gives after each change: the same, a refusal, or other content."""
    whole = read()
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    for change in islice(changes(root, rng), count):
        try:
            outcome = _compared(read(), whole)
        except HomNetError:
            outcome = "refused"
        except Exception as error:  # a traceback to a user
            outcome = f"uncaught {type(error).__name__}"
        outcomes[outcome] += 1
        if outcome not in _RIGHT:
            wrong.append(f"{outcome}: {_name(change, root)}")
    return {"outcomes": dict(outcomes), "wrong": wrong[:20], "num_wrong": len(wrong)}


def _models(registry: Registry) -> dict[str, object]:
    """Digest of the model of each hospital; damaged ones are left out."""
    found: dict[str, object] = {}
    standing = registry.standing()
    for hospital, line in standing.lines.items():
        try:
            found[hospital] = registry.checkpoint(line[-1].version).digest
        except HomNetError:
            continue
    return found


def _pairs(root: Path) -> pa.Table:
    return Cohort.open(root).read()


def _compared(found: Any, whole: Any) -> str:
    """What was read, compared with what was written."""
    if not isinstance(found, dict):
        return "the same" if found.equals(whole) else "other content"
    if any(whole.get(name) != value for name, value in found.items()):
        return "other content"
    return "the same" if len(found) == len(whole) else "refused, others untouched"


def _as_cohort(table: pa.Table) -> pa.Table:
    """Measured pairs as rows of a cohort."""
    more = [
        pa.array([False] * table.num_rows) if name == "abnormal" else pa.nulls(table.num_rows, kind)
        for name, kind in zip(
            SCHEMA.names[len(MEASURED) :], SCHEMA.types[len(MEASURED) :], strict=True
        )
    ]
    return pa.Table.from_arrays([*table.select(MEASURED.names).columns, *more], schema=SCHEMA)


def _name(change: Change, root: Path) -> str:
    return f"{change.kind} {', '.join(str(path.relative_to(root)) for path in change.paths)}"
