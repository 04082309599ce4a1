"""Settings of the C library's allocator for large arrays, which are allocated and freed often."""

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Parameters of mallopt(3)."""
_KEPT_BYTES: Final = 2**30


def keep_freed_memory() -> bool:
    """Makes this process reuse freed memory for its next arrays, up to 1 GiB each.

    By default glibc returns large arrays to the kernel when they are freed, and the next array
    causes a page fault on each page: 1,700 faults per patient (LAB.md). With this setting, memory
    stays at the peak of the largest pass.

    Returns:
        Whether the allocator has this setting; only glibc does.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(
        set_option(option, _KEPT_BYTES) == 1 for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD)
    )
