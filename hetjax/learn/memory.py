"""Memory that a training process keeps from step to step."""

from __future__ import annotations

import ctypes
import sys

# <malloc.h> of the GNU C library.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_MOST, _AT_ONCE = 2**31 - 1, 1 << 28


def keep_memory() -> bool:
  """Has the C library keep freed memory instead of returning it to the system.

  XLA allocates a step's temporaries anew in every step. By default each is mapped, cleared page by
  page as it is first touched, and unmapped, which on CPU is a good part of a small network's step.
  For processes that train and end; to be called before JAX has done anything, as threads that
  allocated before stay with what they have.

  Returns:
    Whether the C library is one that can be told.
  """
  if not sys.platform.startswith("linux"):
    return False
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except AttributeError:  # musl
    return False
  options = (
    (_M_MMAP_MAX, 0),
    (_M_TRIM_THRESHOLD, _MOST),
    (_M_TOP_PAD, _AT_ONCE),
    (_M_ARENA_MAX, 1),
  )
  return all([mallopt(option, value) == 1 for option, value in options])
