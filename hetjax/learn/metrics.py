"""Records of a run: JSON lines on disk, and progress on the terminal."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

_log = logging.getLogger(__name__)


def _plain(value: Any) -> Any:
  """A JSON value of a scalar array or number; non-finite numbers become "nan", "inf", "-inf"."""
  if isinstance(value, str | bool) or value is None:
    return value
  if isinstance(value, Mapping):
    return {str(k): _plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  array = np.asarray(value)
  if array.ndim:
    return [_plain(v) for v in array]
  number = array.item()
  if isinstance(number, float) and not math.isfinite(number):
    return str(number)
  return number if isinstance(number, int | float) else float(array)


def _parse(line: str) -> dict[str, Any] | None:
  """The record of a line, or None if it is no record of this writer (cut off by a kill, say)."""
  try:
    record = json.loads(line)
  except ValueError:
    return None
  good = isinstance(record, dict) and type(record.get("step")) is int
  return record if good else None


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Records of a metrics file in order; a damaged line is left out with a logged warning."""
  records = []
  with open(path, encoding="utf-8", errors="replace") as file:
    for number, line in enumerate(file, 1):
      record = _parse(line)
      if record is None:
        _log.warning("%s line %d is not a metrics record, leaving it out", path, number)
      else:
        records.append(record)
  return records


def _drop_from(path: Path, step: int) -> None:
  """Removes the records with a step of at least `step`, and damaged lines, atomically."""
  kept = [r for r in read_metrics(path) if r["step"] < step]
  temporary = path.with_name(path.name + ".tmp")
  with open(temporary, "w", encoding="utf-8") as file:
    file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in kept)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


class MetricsWriter:
  """Appends one JSON object a line, each flushed as it is written; a context manager.

  Args:
    path: The file; its folder is created.
    resume_step: First step that the run will write. Records of an earlier run with this step or a
      later one are dropped, so that a resumed run leaves the file an undisturbed one would have
      left. 0, the default, starts afresh.
  """

  def __init__(self, path: str | os.PathLike, *, resume_step: int = 0):
    self.path = Path(path)
    self.path.parent.mkdir(parents=True, exist_ok=True)
    if self.path.exists():
      _drop_from(self.path, resume_step)
    self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()

  def write(self, step: int, values: Mapping[str, Any]) -> None:
    """Appends `{"step": step, **values}`; values are numbers, strings, scalar or small arrays.

    Raises:
      ValueError: `values` has a key "step", or the writer is closed.
    """
    if "step" in values:
      raise ValueError("values must not hold the key 'step', the record's own")
    record = {"step": int(step), **{k: _plain(v) for k, v in values.items()}}
    self._file.write(json.dumps(record, allow_nan=False) + "\n")
    self._file.flush()

  def close(self) -> None:
    """Closes the file; may be called again."""
    self._file.close()

  def __enter__(self) -> MetricsWriter:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def format_values(values: Mapping[str, Any]) -> str:
  """`name=value` pairs for people, four significant digits."""
  return " ".join(
    f"{k}={v if isinstance(v, str | int) else format(float(v), '.4g')}" for k, v in values.items()
  )


class Progress:
  """A progress bar with time left on a terminal; a plain line now and then anywhere else.

  Args:
    total: Steps at the end, counted from 0.
    label: What is going on.
    start: Steps done by an earlier run; time left is judged by this run's steps only.
    stream: Where to write, standard error by default.
    every_seconds: Least time between plain lines. The last step always writes one.
    clock: Seconds, monotonic.
  """

  def __init__(
    self,
    total: int,
    label: str = "",
    *,
    start: int = 0,
    stream: TextIO | None = None,
    every_seconds: float = 15.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._stream = sys.stderr if stream is None else stream
    self._total, self._label, self._start, self._done = total, label, start, start
    self._every, self._clock = every_seconds, clock
    self._begun = self._printed = clock()
    self._bar = None
    if self._stream.isatty():
      self._bar = tqdm(
        total=total, initial=start, desc=label, file=self._stream, dynamic_ncols=True
      )

  def update(self, steps: int = 1, **values: Any) -> None:
    """Counts `steps` more as done and shows `values` beside them.

    Values may be arrays on a device: they are fetched only when they are written.
    """
    self._done += steps
    if self._bar is not None:
      if values and self._clock() - self._printed >= 0.2:
        self._printed = self._clock()
        self._bar.set_postfix_str(format_values(values), refresh=False)
      self._bar.update(steps)
      return
    now = self._clock()
    if now - self._printed >= self._every or self._done >= self._total:
      self._printed = now
      self._stream.write(f"{self._line(now)} {format_values(values)}".rstrip() + "\n")
      self._stream.flush()

  def _line(self, now: float) -> str:
    elapsed = now - self._begun
    steps = self._done - self._start
    text = f"{self._label} {self._done}/{self._total} {tqdm.format_interval(elapsed)}".strip()
    left = max(self._total - self._done, 0)
    if steps > 0 and left:
      text += f" eta {tqdm.format_interval(elapsed / steps * left)}"
    return text

  def close(self) -> None:
    """Ends the bar; may be called again."""
    if self._bar is not None:
      self._bar.close()

  def __enter__(self) -> Progress:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()
