"""Keep glibc's handling of large blocks from slowing down networks on the CPU."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any, Literal

Allocator = Literal["keep", "default"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
NEVER = -1  # largest size
OTHERS = ("jemalloc", "tcmalloc", "mimalloc")
_kept: list[bool] = []


def keep_blocks() -> bool:
    """Let glibc keep freed blocks for the next layer instead of returning them to the system.

    By default glibc allocates each large block by a separate `mmap` and returns it to the kernel
    when it is freed: every layer's output then consists of fresh pages, which the kernel zeroes on
    first touch. This call is equivalent to starting with `MALLOC_MMAP_MAX_=0` and
    `MALLOC_TRIM_THRESHOLD_=100000000000`, by `mallopt(3)`. The process does not shrink afterwards.
    `reid-lab cost --allocator compare ...` measures the gain.

    Returns:
        Whether it took effect; False without glibc (musl, macOS, Windows).
    """
    if _libc_version() is None or _preloaded():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, NEVER))
    if done:
        _kept.append(True)
    return done


def allocator_name() -> str:
    """`glibc 2.36, blocks kept`, `glibc 2.36`, a preloaded allocator, or the C library's."""
    other, version = _preloaded(), _libc_version()
    if other or version is None:
        return other or "not glibc"
    kept = bool(_kept) or os.environ.get("MALLOC_MMAP_MAX_") == "0"
    return f"glibc {version}{', blocks kept' * kept}"


def _libc_version() -> str | None:
    """Version of glibc; None for other C libraries."""
    try:
        version: Any = ctypes.CDLL(None).gnu_get_libc_version
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no such handle
        return None
    version.restype = ctypes.c_char_p
    result: str | None = version().decode()
    return result


def _preloaded() -> str | None:
    """Name of a preloaded allocator that replaces glibc's, if any."""
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return None
    text = maps.read_text(errors="replace")
    return next((name for name in OTHERS if f"lib{name}" in text), None)
