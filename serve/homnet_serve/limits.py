"""Bounds on what one request may ask for."""

from dataclasses import dataclass, fields

from homnet.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """Every bound of a request; what is over one is refused with a sentence."""

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
