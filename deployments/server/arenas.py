"""Where the threads of a server take their memory from."""

import ctypes
import platform

ARENAS = 2
_M_ARENA_MAX = -8  # mallopt(3)


def share_memory() -> None:
    """Have all threads take memory from the same two places, as long as there are no more; glibc alone needs it.

    It gives threads up to eight for each core, and what was freed in one stays there: a server of many threads that
    take turns would grow for as long as it runs.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
