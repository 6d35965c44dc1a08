"""Memory of one process: how it is handed out."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next tensor; return whether it could be asked.

    By default glibc maps every large tensor afresh and gives it back when it is freed, so that the
    kernel clears each page again: half of the time of the vision encoder on a CPU. Affects speed
    only, on Linux with glibc only.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL("libc.so.6")
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)
