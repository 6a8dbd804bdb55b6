"""A background thread that computes a function of the step ahead of its use."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any

_POLL_SECONDS = 0.05


class _End:
  """Put by the thread when it is done; carries what it died of, if anything."""

  def __init__(self, error: BaseException | None):
    self.error = error


def _produce(function, step, stop, results: queue.Queue, closed: threading.Event):
  """The thread's body. It holds no reference to the Prefetcher, so an abandoned one is collected,
  which ends the thread."""
  error = None
  try:
    while not closed.is_set() and (stop is None or step < stop):
      if not _put(results, function(step), closed):
        return
      step += 1
  except BaseException as raised:
    error = raised
  _put(results, _End(error), closed)


def _put(results: queue.Queue, item: Any, closed: threading.Event) -> bool:
  """Waits for room; false if the consumer left meanwhile."""
  while not closed.is_set():
    try:
      results.put(item, timeout=_POLL_SECONDS)
      return True
    except queue.Full:
      continue
  return False


class Prefetcher:
  """Iterates over `function(step)` for consecutive steps.

  An exception in `function` is raised in the consumer, after the results that precede it. The
  thread ends when the iteration does, on `close`, at the end of a `with` block, or when the object
  is collected.

  Args:
    function: A pure function of the step.
    start: First step, at least 0.
    stop: One past the last step, or None for no end.
    depth: Results computed ahead, at least 1.

  Raises:
    ValueError: an argument is out of range.
  """

  def __init__(
    self, function: Callable[[int], Any], start: int, stop: int | None = None, depth: int = 2
  ):
    if start < 0:
      raise ValueError(f"start must be at least 0, got {start}")
    if depth < 1:
      raise ValueError(f"depth must be at least 1, got {depth}")
    self._results: queue.Queue = queue.Queue(maxsize=depth)
    self._closed = threading.Event()
    self._thread = threading.Thread(
      target=_produce,
      args=(function, start, stop, self._results, self._closed),
      name="hetjax-prefetch",
      daemon=True,
    )
    self._thread.start()
    self._finalizer = weakref.finalize(self, self._closed.set)

  def __iter__(self) -> Prefetcher:
    return self

  def __next__(self) -> Any:
    if self._closed.is_set():
      raise StopIteration
    item = self._results.get()
    if not isinstance(item, _End):
      return item
    self.close()
    if item.error is not None:
      raise item.error
    raise StopIteration

  def close(self) -> None:
    """Ends the thread and waits for it; further iteration stops at once. May be repeated."""
    self._closed.set()
    self._thread.join()

  def __enter__(self) -> Prefetcher:
    return self

  def __exit__(self, *exception) -> None:
    self.close()
