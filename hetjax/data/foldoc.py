"""The Free On-line Dictionary of Computing as text to predict (Debian's dict-foldoc)."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

from hetjax.data import files
from hetjax.data.text import TextDataset, create_text_dataset, encode

FILE = "foldoc.dict.dz"  # dictzip, which gzip reads
_DICTD = Path("/usr/share/dictd")
_MOST = 64 << 20
_INSTRUCTIONS = (
  f"install the Debian package dict-foldoc, or put its {FILE} into a directory and set "
  "HETJAX_DATA_DIR to it"
)


def load_foldoc(data_dir: str | Path | None = None, *, context: int = 128) -> TextDataset:
  """About 5.6 million characters of English (GFDL), found on disk.

  Editions differ, so the name of the data set holds the beginning of the text's SHA-256.

  Args:
    data_dir: Directory with the file. Without it `hetjax.data.files.search_path("foldoc")` and the
      dictionaries' directory are looked at.
    context: Characters that a model reads.

  Raises:
    FileNotFoundError: the file is nowhere; the message says how to get it.
    ValueError: it is no complete gzip file, or much larger than the dictionary is.
  """
  places = files.search_path("foldoc", data_dir)
  if data_dir is None:
    places.append(_DICTD)
  path = files.find_directory([FILE], places, "FOLDOC", _INSTRUCTIONS) / FILE
  try:
    with gzip.open(path) as stream:
      text = stream.read(_MOST + 1)
  except (EOFError, gzip.BadGzipFile, zlib.error) as error:
    raise ValueError(f"{path} must be a complete gzip file: {error}") from error
  if len(text) > _MOST:
    raise ValueError(f"{path} must unpack to at most {_MOST} bytes, got more")
  digest = hashlib.sha256(text).hexdigest()[:8]
  return create_text_dataset(f"foldoc-{digest}", encode(text), context)
