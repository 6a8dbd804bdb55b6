"""Pages whose tables are written by the command that measures."""

from __future__ import annotations

import os
from pathlib import Path

from hetjax.core.files import write_atomically
from hetjax.report import provenance


def section(note: str, table: str) -> str:
  """A table with what made it, as Markdown."""
  about = provenance()
  machine = about["machine"]
  made = (
    f"{about['command']}\n{about['time'][:10]}, commit {about['commit'][:12]}, "
    f"{machine['processor']}, {machine['cores']} cores"
  )
  return f"```text\n{made}\n{note}\n\n{table}\n```"


def replace(path: str | os.PathLike[str], name: str, text: str | None) -> None:
  """Replaces what stands between `<!-- NAME -->` and `<!-- /NAME -->`; with None, only looks.

  Raises:
    ValueError: the page does not have the two marks in this order.
    OSError: it cannot be read or written.
  """
  page = Path(path).read_text(encoding="utf-8")
  opening, closing = f"<!-- {name} -->", f"<!-- /{name} -->"
  before, found, rest = page.partition(opening)
  _, ended, after = rest.partition(closing)
  if not found or not ended:
    raise ValueError(f"{path} must have the marks {opening} and {closing} around its table")
  if text is not None:
    write_atomically(path, f"{before}{opening}\n{text}\n{closing}{after}".encode())
