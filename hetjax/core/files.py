"""Files that are either as they were or whole: write beside, fsync, rename."""

from __future__ import annotations

import contextlib
import os
import secrets


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
  """Replaces the file at `path` by `data`; afterwards it is the old file or the whole new one.

  Args:
    path: Where; a symbolic link is followed. Its folder must exist.
    data: The new content.

  Raises:
    OSError: the disk refused; the temporary file has been removed.
  """
  target = os.path.realpath(path)
  folder, name = os.path.split(target)
  temporary = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
  try:
    # "x": never into a file that something else made; the mode follows the umask.
    with open(temporary, "xb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, target)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)
    raise
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)  # makes the rename durable
  finally:
    os.close(descriptor)
