"""Where data files lie, fetching them, and writing them whole or not at all."""

from __future__ import annotations

import os
import tempfile
import urllib.request
from collections.abc import Iterable
from pathlib import Path

SYSTEM_DIRECTORY = Path("/usr/share/datasets")  # Debian's dataset-* packages
_TIMEOUT_SECONDS = 30


def cache_directory() -> Path:
  """Where downloads are kept: `$XDG_CACHE_HOME/hetjax`, by default `~/.cache/hetjax`."""
  base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(base) / "hetjax"


def search_path(name: str, data_dir: str | Path | None = None) -> list[Path]:
  """Directories that may hold the files of source `name`, in the order to look at them.

  `data_dir` alone if given; otherwise `$HETJAX_DATA_DIR` and its subdirectory `name`, the system's
  directory of data sets, and the cache of downloads.
  """
  if data_dir is not None:
    return [Path(data_dir)]
  paths = []
  if os.environ.get("HETJAX_DATA_DIR"):
    root = Path(os.environ["HETJAX_DATA_DIR"])
    paths += [root / name, root]
  return [*paths, SYSTEM_DIRECTORY / name, cache_directory() / name]


def find_directory(
  files: Iterable[str], candidates: list[Path], what: str, instructions: str
) -> Path:
  """The first candidate directory that holds all `files`.

  Raises:
    FileNotFoundError: none does; the message lists the candidates and ends with `instructions`.
  """
  files = tuple(files)
  for directory in candidates:
    if all((directory / f).is_file() for f in files):
      return directory
  looked = ", ".join(map(str, candidates))
  raise FileNotFoundError(
    f"{what} not found: no directory of [{looked}] holds {', '.join(files)}. "
    f"To get it, {instructions}."
  )


def fetch(url: str, max_bytes: int) -> bytes:
  """The contents behind `url`.

  Raises:
    OSError: the transfer failed.
    ValueError: there are more than `max_bytes` bytes.
  """
  with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
    contents = response.read(max_bytes + 1)
  if len(contents) > max_bytes:
    raise ValueError(f"{url} must have at most {max_bytes} bytes, got more")
  return contents


def write_atomic(path: Path, contents: bytes) -> None:
  """Writes a file that appears under its name only when complete; makes its directory."""
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
  try:
    with os.fdopen(handle, "wb") as out:
      out.write(contents)
    os.replace(partial, path)
  except BaseException:
    Path(partial).unlink(missing_ok=True)
    raise
