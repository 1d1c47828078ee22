"""Memory that a step frees stays with the process, for the next step."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next step, which needs as much again. By default glibc hands
    activations back to the system, which clears each of their pages anew: thousands of page faults a step. Memory at
    its peak is the same. Blocks over 1 GiB, and other C libraries, are left alone."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, -1)
        library.mallopt(_M_MMAP_THRESHOLD, 2**30)
