"""How the C library's allocator treats large arrays, which are made and freed all the time."""

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Parameters of mallopt(3)."""
_KEPT_BYTES: Final = 2**30


def keep_freed_memory() -> bool:
    """Makes this process keep freed memory for its next arrays, up to 1 GiB each.

    By default glibc returns large arrays to the kernel when they are freed, and every page of the
    next one causes a fault: 1,700 of them in the answer to one patient (LAB.md). With this, memory
    stays at what the largest pass needed.

    Returns:
        Whether the allocator has such a setting; C libraries other than glibc do not.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all(
        set_option(option, _KEPT_BYTES) == 1 for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD)
    )
