"""How the C library keeps memory that tensors gave back.

glibc returns every large block to the system at once and asks for it anew, page by page, zeroed each time. A step of optimisation
gives back hundreds of megabytes, so on a processor these page faults are up to half of its time. Results do not depend on it.
"""

from __future__ import annotations

import ctypes
import os
import sys

SWITCH = "GANINV_ALLOCATOR"
"""``system`` leaves the C library as it is."""
_OWN_CHOICE = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
_KEPT = 2**30
"""Bytes of free memory at the end of the heap from which it is given back."""
_MAPPED = 2**25
"""Bytes from which a block is not of the heap: the largest that glibc takes."""


def keep_freed_memory() -> None:
    """Let this process keep up to 1 GiB that was freed, and let torch ask for large pages for large tensors.

    To be called before the first tensor. Nothing happens on another C library than glibc (``mallopt(3)``), or where the
    environment has settings of malloc of its own.
    """
    if not sys.platform.startswith("linux") or os.environ.get(SWITCH) == "system":
        return
    # Of torch: blocks of 2 MiB and more are aligned to, and advised for, transparent huge pages.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if any(name in os.environ for name in _OWN_CHOICE):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_M_TRIM_THRESHOLD, _KEPT)
    mallopt(_M_MMAP_THRESHOLD, _MAPPED)
