"""The one exception of the artifact file."""

from __future__ import annotations


class ArtifactError(ValueError):
  """An artifact is malformed or inconsistent; the message says where, what was expected and got."""
