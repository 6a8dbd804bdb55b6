"""JSON from an untrusted file: what Python's parser lets pass and a header must not."""

from __future__ import annotations

import json
import math
from typing import Any

from hetjax.pack.errors import ArtifactError

MAX_DEPTH = 32
MAX_DIGITS = 18  # every integer fits in 64 bits, with room for messages to print products


def loads(text: str, field: str) -> Any:
  """Parses JSON strictly.

  Args:
    text: The JSON text.
    field: What is parsed, for messages.

  Raises:
    ArtifactError: not JSON, a key that repeats within an object, NaN or an infinity (also by
      overflow), an integer beyond 18 digits, or more than 32 levels of nesting.
  """

  def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(items)
    if len(out) != len(items):
      seen: set[str] = set()
      twice = next(k for k, _ in items if k in seen or seen.add(k))
      raise ArtifactError(f"{field}: keys must be unique, got {twice!r:.80} twice")
    return out

  def integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
      raise ArtifactError(f"{field}: integers must have at most {MAX_DIGITS} digits")
    return int(digits)

  def real(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
      raise ArtifactError(f"{field}: numbers must be finite, got {digits[:32]}")
    return value

  def constant(name: str) -> None:
    raise ArtifactError(f"{field}: numbers must be finite, got {name}")

  try:
    value = json.loads(
      text,
      object_pairs_hook=pairs,
      parse_int=integer,
      parse_float=real,
      parse_constant=constant,
    )
  except ArtifactError:
    raise
  except json.JSONDecodeError as e:
    raise ArtifactError(f"{field}: not JSON at character {e.pos}: {e.msg}") from None
  except RecursionError:
    raise ArtifactError(f"{field}: nested deeper than {MAX_DEPTH} levels") from None
  check_depth(value, field)
  return value


def check_depth(value: Any, field: str) -> None:
  """Refuses lists and objects nested more than 32 deep, without recursion.

  Raises:
    ArtifactError: nested too deep.
  """
  stack = [(value, 1)]
  while stack:
    node, depth = stack.pop()
    if isinstance(node, (list, dict)):
      if depth > MAX_DEPTH:
        raise ArtifactError(f"{field}: nested deeper than {MAX_DEPTH} levels")
      children = node.values() if isinstance(node, dict) else node
      stack.extend((child, depth + 1) for child in children)


def dumps(value: Any, field: str) -> str:
  """Compact ASCII JSON that `loads` accepts.

  Raises:
    ArtifactError: the value is not JSON, holds something that `loads` refuses, or is an object
      with keys that are not strings.
  """
  try:
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
  except (TypeError, ValueError, RecursionError) as e:
    raise ArtifactError(f"{field}: must be JSON: {e}") from None
  if loads(text, field) != _lists(value):
    raise ArtifactError(f"{field}: must be JSON with string keys, got {value!r}")
  return text


def _lists(value: Any) -> Any:
  """`value` with tuples as lists, as JSON returns it."""
  if isinstance(value, dict):
    return {k: _lists(v) for k, v in value.items()}
  return [_lists(v) for v in value] if isinstance(value, (list, tuple)) else value
