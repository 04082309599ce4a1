"""Settings of an endpoint, and how they are read from YAML."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from homnet.errors import ConfigError
from homnet.imaging.extraction import ExtractionConfig
from homnet.model.contract import Form
from homnet.model.network import HomNetConfig

C = TypeVar("C")


@dataclass(frozen=True)
class Limits:
    """Bounds on one request; a request over a bound is refused with a sentence."""

    max_body_bytes: int = 64 * 2**20
    """Bytes of a body as it is sent (64 MiB: the pairs of about 280 patients with five cells)."""
    max_expanded_bytes: int = 128 * 2**20
    """Bytes of a body after decompression, of Arrow buffers or of the files of a zip."""
    max_patients: int = 200
    """Patients of one request."""
    max_pairs: int = 30_000
    """Pairs of one request."""
    max_name_chars: int = 128
    """Characters of a pseudonym."""
    max_images: int = 10_000
    """Images of one zip (two for each pair)."""
    max_image_bytes: int = 2 * 2**20
    """Bytes of one image file."""

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) < 1:
                raise ConfigError(f"{item.name} must be at least 1, got {getattr(self, item.name)}")


@dataclass(frozen=True)
class ServiceConfig:
    """An endpoint."""

    registry: str = "registry"
    """Directory or URI of the registry of models."""
    keys: str = ""
    """File of API keys; if empty, the environment variable HOMNET_API_KEYS holds its content."""
    audit: str = "audit"
    """Directory of the audit log."""
    audit_sync: bool = True
    """Whether an answer waits until its line of the audit log is on the disk."""
    device: str = "cpu"
    """Where models are, for example ``cuda``."""
    num_threads: int = 1
    """Threads of one pass on the CPU; not more than the cores that a replica has to itself."""
    max_bags: int = 184
    """Bags of one pass: eight patients of 23 types. On a CPU more is hardly faster and makes the
    others wait longer; on a GPU set 1,000."""
    batch_wait_s: float = 0.002
    """How long a pass waits for requests that are just being read; a lone one never waits."""
    max_waiting_bags: int = 4600
    """Bags that may wait: 200 patients, some seconds on a small machine. More get 503."""
    max_waiting_images: int = 4
    """Zips of images that may be measured or wait for it. More get 503."""
    max_held_bytes: int = 512 * 2**20
    """Bytes of all bodies that are being read or answered (512 MiB). More get 503."""
    deadline_s: float = 30.0
    """Seconds from the end of its body after which a request is given up with 504."""
    body_timeout_s: float = 30.0
    """Seconds that a body may take to arrive; then 408."""
    refresh_s: float = 5.0
    """Seconds between two looks at the registry."""
    max_hospitals: int = 64
    """Hospitals whose models are kept loaded; those not asked for longest make room."""
    require_reference_bags: bool = False
    """Whether a model without reference bags may not answer."""
    shadow_candidates: bool = False
    """Whether the newest candidate of each hospital scores the same requests, for comparison in the
    metrics. Costs as much again as answering."""
    forms: str = ""
    """What reads the forms of other models than HomNet, so that they can be shadows:
    ``homnet_baselines.methods:read_form`` for the comparators. They never answer."""
    findings: str = ""
    """Checkpoint of a reader of findings (jobs/learn_reader.py), which says of flagged types what
    was found and where, as drafts. None is used by default."""
    limits: Limits = field(default_factory=Limits)
    """Bounds on one request."""
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    """How chromosomes are measured in images."""

    def __post_init__(self) -> None:
        for name in (
            "num_threads",
            "max_bags",
            "max_waiting_bags",
            "max_waiting_images",
            "max_hospitals",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("deadline_s", "body_timeout_s", "refresh_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.max_held_bytes < self.limits.max_body_bytes:
            raise ConfigError(
                f"max_held_bytes {self.max_held_bytes} is below limits.max_body_bytes "
                f"{self.limits.max_body_bytes}: such a body could never be read"
            )
        if self.batch_wait_s < 0:
            raise ConfigError(f"batch_wait_s must not be negative, got {self.batch_wait_s}")


def config_from(kind: type[C], content: Mapping[str, Any]) -> C:
    """Makes a config from the content of YAML or JSON.

    Raises:
        ConfigError: a name is unknown, or a value has another type than the field.
    """
    hints = get_type_hints(kind)
    known = {item.name for item in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in known:
            raise ConfigError(
                f"{kind.__name__} has no setting {name!r}; it has {', '.join(sorted(known))}"
            )
        wanted = hints[name]
        if is_dataclass(wanted) and isinstance(value, Mapping):
            values[name] = config_from(wanted, value)  # type: ignore[arg-type]
        elif wanted is float and type(value) is int:
            values[name] = float(value)
        elif type(value) is wanted:
            values[name] = value
        else:
            raise ConfigError(f"{kind.__name__}: {name} is {value!r}, expected {wanted.__name__}")
    return kind(**values)


def find_read_form(name: str) -> Callable[..., Form]:
    """The function that makes a form from the config of a checkpoint.

    Args:
        name: ``module:function``, for example ``homnet_baselines.methods:read_form``; empty for
            HomNet alone.

    Raises:
        ConfigError: there is no such function.
    """
    if not name:
        return HomNetConfig
    module, _, function = name.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"forms: {name!r} cannot be read ({error}); give module:function, for example "
            "homnet_baselines.methods:read_form"
        ) from None
    reader: Callable[..., Form] = found
    return reader
