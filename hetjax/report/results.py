"""Results as JSON files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hetjax.core.files import write_atomically
from hetjax.report.provenance import provenance


def write_json(
  path: str | os.PathLike[str], rows: list[dict[str, Any]], *, seed: int | None = None, **extra: Any
) -> None:
  """Writes a table's rows with their provenance, atomically; folders are made.

  Args:
    path: The file.
    rows: One JSON-able object per row of the table.
    seed: The run's seed, or None where nothing is random.
    **extra: Further JSON-able entries beside "rows" and "provenance".
  """
  record = {"provenance": provenance(seed), "rows": rows, **extra}
  data = json.dumps(record, indent=2, allow_nan=False) + "\n"
  Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
  write_atomically(path, data.encode())


def read_rows(paths: Iterable[str | os.PathLike[str]]) -> list[dict[str, Any]]:
  """Rows of result files in order; files that do not exist are left out.

  Raises:
    ValueError: a file is not one that `write_json` wrote.
  """
  rows = []
  for path in map(Path, paths):
    if not path.exists():
      continue
    try:
      rows += json.loads(path.read_text(encoding="utf-8"))["rows"]
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(f"{path} is not a result file: {error!r}") from error
  return rows
