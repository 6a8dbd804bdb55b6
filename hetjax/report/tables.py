"""Plain-text tables and bars."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Column:
  """One column of a table.

  Attributes:
    key: Entry of a row's mapping.
    title: Heading.
    format: Value -> text; None prints as "-".
  """

  key: str
  title: str
  format: Callable[[Any], str] = str


def render(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
  """A table with a heading; the first column is left-aligned, the others right-aligned."""
  lines = [[c.title for c in columns]]
  for row in rows:
    values = [(c, row.get(c.key)) for c in columns]
    lines.append(["-" if value is None else c.format(value) for c, value in values])
  widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]

  def text(line: list[str]) -> str:
    cells = [line[0].ljust(widths[0])]
    cells += [cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True)]
    return "  ".join(cells).rstrip()

  return "\n".join([text(lines[0]), "  ".join("-" * w for w in widths), *map(text, lines[1:])])


def bar(share: float, width: int = 40) -> str:
  """A horizontal bar for a share in 0 .. 1."""
  return "#" * round(width * min(max(share, 0.0), 1.0))
