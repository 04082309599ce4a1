"""Settings of an endpoint, and functions that read them from YAML."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from homnet.errors import ConfigError
from homnet.imaging.extraction import ExtractionConfig
from homnet.model.contract import Form
from homnet.model.network import HomNetConfig
from homnet.model.scoring import Precision
from homnet.patients.verdict import VerdictConfig

C = TypeVar("C")


@dataclass(frozen=True)
class Limits:
    """Bounds on one request; a request over a bound is refused with a message."""

    max_body_bytes: int = 64 * 2**20
    """Maximum body size in bytes as sent (64 MiB: pairs of about 280 patients with five cells)."""
    max_json_bytes: int = 8 * 2**20
    """Maximum size in bytes of a JSON body (8 MiB: base64 pairs of 25 patients with five cells).
    Python parses that much in .3 s, during which nothing else of a replica runs; Arrow has no such
    limit."""
    max_expanded_bytes: int = 128 * 2**20
    """Maximum size in bytes after decompression, of Arrow buffers or of the files of a zip."""
    max_patients: int = 200
    """Maximum number of patients per request."""
    max_pairs: int = 30_000
    """Maximum number of pairs per request."""
    max_cells: int = 200
    """Maximum number of cells in which one chromosome type of a patient is sent: a reader takes all
    of them in one pass, so its memory and time grow with their number. A laboratory counts 20, and
    50 to 100 where it looks for a mosaic."""
    max_pages: int = 40
    """Maximum number of patients whose pages an answer includes, the most urgent ones; a page takes
    about half a second, with the images of ten cells two to three."""
    max_name_chars: int = 128
    """Maximum length of a pseudonym in characters; the schema of the API allows 128 at most."""
    max_images: int = 10_000
    """Maximum number of images per zip (two per pair)."""
    max_image_bytes: int = 2 * 2**20
    """Maximum size in bytes of one image file."""
    max_pictures: int = 20
    """Maximum number of karyograms per request. One takes 1 to 3 s of a core, so many more would
    need a longer ``deadline_s``."""
    max_picture_bytes: int = 32 * 2**20
    """Maximum size in bytes of the file of a karyogram."""

    def __post_init__(self) -> None:
        _check_whole_numbers(self)


@dataclass(frozen=True)
class ServiceConfig:
    """Settings of an endpoint."""

    registry: str = "registry"
    """Directory or URI of the model registry."""
    keys: str = ""
    """File of API keys, whose changes take effect at the next request. If empty, or if there is no
    such file at the start, the environment variable HOMNET_API_KEYS holds its content, which is
    read once."""
    audit: str = "audit"
    """Directory or URI of the audit log. On an object store each answer is one object, and waits
    for its upload."""
    audit_key: str = ""
    """File with the key of the audit log's digests, at least 16 bytes; if empty, the environment
    variable HOMNET_AUDIT_KEY holds it. Without a key the chain can be computed anew unnoticed."""
    audit_anchor: str = ""
    """Directory or URI, on another disk or account, that keeps the newest digest of each audit log;
    each answer waits for it. If empty, nothing reveals that the newest log was shortened."""
    audit_sync: bool = True
    """Whether an answer waits until its audit line is on the local disk."""
    device: str = "cpu"
    """Device of the models, for example ``cuda``. A replica whose device cannot be used does not
    start."""
    precision: str = "float32"
    """Precision of the models' matrix products: ``float32``, or ``bfloat16``, which a model gets
    only if it gives its reference bags logits within .02 of the stored ones. Its probabilities then
    differ by up to .005 from those of the batch job; the reader stays in float32."""
    num_threads: int = 1
    """CPU threads of one forward pass; at most the cores reserved for a replica."""
    max_bags: int = 184
    """Maximum number of bags per forward pass: eight patients of 23 types. On a CPU more is hardly
    faster and delays other requests; on a GPU set 1,000."""
    batch_wait_s: float = 0.002
    """Seconds that a pass waits for requests still being read; a single request never waits."""
    max_waiting_bags: int = 4600
    """Maximum number of queued bags: 200 patients, seconds on a small machine. More get 503."""
    max_waiting_images: int = 4
    """Maximum number of zips of images or karyograms being measured or queued. More get 503."""
    max_held_bytes: int = 512 * 2**20
    """Maximum total bytes of all bodies being read or answered (512 MiB). More get 503. A form
    takes its bytes twice, three times while it is opened; they count once."""
    max_requests: int = 256
    """Maximum number of requests being read or answered: max_ongoing_requests of Ray Serve."""
    max_share: float = 0.75
    """Share, 0..1, of requests, bytes, zips, queue and threads that one key may use: another key
    always finds room. What is over it gets 429; for a thread it waits."""
    deadline_s: float = 30.0
    """Seconds after the end of its body until a request is abandoned with 504."""
    body_timeout_s: float = 30.0
    """Seconds within which a body must arrive; then 408."""
    refresh_s: float = 5.0
    """Seconds between two checks of the registry."""
    max_hospitals: int = 64
    """Maximum number of hospitals with loaded models; the least recently used are unloaded."""
    require_reference_bags: bool = False
    """Whether models without reference bags are refused."""
    shadow_candidates: bool = False
    """Whether the newest candidate of each hospital scores the same requests for the metrics;
    doubles the computation."""
    forms: str = ""
    """Function that reads the configs of models other than HomNet, so that they can be shadows:
    ``homnet_baselines.methods:read_form`` for the comparators. They never answer."""
    findings: str = ""
    """Checkpoint of a reader (jobs/learn_reader.py) for models that were calibrated without one: it
    says kind and place of flagged types and changes no verdict. A model that was calibrated with a
    reader brings it along in the registry."""
    max_types: int = 64
    """Maximum number of types that a reader reads per pass."""
    verdict: VerdictConfig = field(default_factory=VerdictConfig)
    """Caution of the verdicts, and the laboratory's prevalence."""
    limits: Limits = field(default_factory=Limits)
    """Bounds on one request."""
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    """Settings of the measurement of chromosomes in images."""

    def __post_init__(self) -> None:
        _check_whole_numbers(self)
        if self.precision not in get_args(Precision):
            raise ConfigError(
                f"precision is {self.precision!r}, expected {' or '.join(get_args(Precision))}"
            )
        for name in ("deadline_s", "body_timeout_s", "refresh_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 < self.max_share <= 1:
            raise ConfigError(f"max_share must be above 0 and at most 1, got {self.max_share}")
        if self.max_share * self.max_held_bytes < self.limits.max_body_bytes:
            raise ConfigError(
                f"max_share {self.max_share} of max_held_bytes {self.max_held_bytes} is below "
                f"limits.max_body_bytes {self.limits.max_body_bytes}: such a body could never be "
                "read"
            )
        if self.batch_wait_s < 0:
            raise ConfigError(f"batch_wait_s must not be negative, got {self.batch_wait_s}")


def _check_whole_numbers(config: Limits | ServiceConfig) -> None:
    for item in fields(config):
        if item.type is int and getattr(config, item.name) < 1:
            raise ConfigError(f"{item.name} must be at least 1, got {getattr(config, item.name)}")


def config_from(kind: type[C], content: Mapping[str, Any]) -> C:
    """Builds a config from parsed YAML or JSON.

    Raises:
        ConfigError: a name is unknown, or a value does not have the type of the field.
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
            continue
        # ``X | None`` allows None as well.
        allowed = get_args(wanted) or (wanted,)
        if float in allowed and type(value) is int:
            value = float(value)
        if type(value) not in allowed:
            raise ConfigError(
                f"{kind.__name__}: {name} is {value!r}, expected "
                f"{' or '.join(one.__name__ for one in allowed)}"
            )
        values[name] = value
    return kind(**values)


def find_read_form(name: str) -> Callable[..., Form]:
    """Returns the function that builds a form from the config of a checkpoint.

    Args:
        name: ``module:function``, for example ``homnet_baselines.methods:read_form``; empty for
            HomNet only.

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
