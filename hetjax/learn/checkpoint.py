"""Checkpoints of a run on orbax: atomic, verified, restored bit for bit.

A checkpoint is one folder per step, written under a temporary name and renamed when complete, with
two items: `state`, the leaves of a pytree of plain arrays by path, and `record`, JSON with the
run's configuration, the caller's metadata, and a SHA-256 of the leaves. A checkpoint that cannot be
read, or whose digest differs, is set aside and the one before it is used.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

_log = logging.getLogger(__name__)

FORMAT = 1
_MISSING = "(absent)"
_ARGUMENTS = ("model_config", "data_options")


@dataclasses.dataclass(frozen=True)
class Restored:
  """A checkpoint as read.

  Attributes:
    step: The step it was saved under.
    state: Pytree of the caller's structure; a leaf is a `jax.Array` where the template's is one, a
      NumPy array elsewhere.
    meta: The metadata saved with it.
  """

  step: int
  state: Any
  meta: Any


def _as_json(value: Any, what: str) -> Any:
  """`value` as it comes back from JSON (tuples as lists), so that comparisons are fair."""
  try:
    return json.loads(json.dumps(value))
  except (TypeError, ValueError) as error:
    raise ValueError(f"{what} must hold JSON values only: {error}") from error


def _flatten(tree: Any) -> dict[str, np.ndarray]:
  """Leaves on the host by path, e.g. `params/conv1/kernel`."""
  leaves = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
    key = jax.tree_util.keystr(path, simple=True, separator="/") or "value"
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      raise ValueError(f"state leaf {key!r} is a typed key, save jax.random.key_data of it")
    if key in leaves:
      raise ValueError(f"state has two leaves at path {key!r}")
    # A copy: the caller may donate the buffers to the next step.
    leaves[key] = np.array(leaf)
    if leaves[key].dtype == object:
      raise ValueError(f"state leaf {key!r} must be an array, got {type(leaf).__name__}")
  return leaves


def _signature(leaves: Mapping[str, np.ndarray]) -> dict[str, str]:
  return {k: f"{v.dtype.name}{list(v.shape)}" for k, v in sorted(leaves.items())}


def _digest(leaves: Mapping[str, np.ndarray]) -> str:
  digest = hashlib.sha256(json.dumps(_signature(leaves)).encode())
  for key in sorted(leaves):
    digest.update(np.ascontiguousarray(leaves[key]).reshape(-1).view(np.uint8))
  return digest.hexdigest()


def _stored(leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The leaves that orbax is given: it refuses empty arrays, which the record tells in full."""
  return {k: v for k, v in leaves.items() if v.size}


def differences(saved: Any, now: Any, path: str = "", strict: bool = False) -> list[str]:
  """Fields in which two JSON values differ, as `path: saved ..., now ...`.

  A field that is null does not differ from one that is not there: options added later are null.
  Within `_ARGUMENTS`, whose defaults are their functions' own, it does, as it does if `strict`.
  """
  if isinstance(saved, dict) and isinstance(now, dict):
    found = []
    for key in sorted(set(saved) | set(now)):
      below = f"{path}.{key}" if path else key
      if not strict and saved.get(key) is None and now.get(key) is None:
        continue
      values = (tree.get(key, _MISSING) for tree in (saved, now))
      found += differences(*values, below, strict or key in _ARGUMENTS)
    return found
  if saved == now and isinstance(saved, bool) == isinstance(now, bool):
    return []
  return [f"{path or 'config'}: saved {saved!r}, now {now!r}"]


class Checkpointer:
  """Saves and restores a run's state under one folder; a context manager.

  Args:
    directory: Folder of this run's checkpoints; created if absent.
    config: JSON-like configuration that a resumed run must share.
    keep: Checkpoints kept, the newest ones.
  """

  def __init__(self, directory: str | os.PathLike, config: Mapping[str, Any], *, keep: int = 2):
    if keep < 1:
      raise ValueError(f"keep must be at least 1, got {keep}")
    self.directory = Path(directory).absolute()
    self._config = _as_json(dict(config), "config")
    self._keep = keep
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
      max_to_keep=self._keep, create=True, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(self.directory, options=options)

  def steps(self) -> list[int]:
    """Steps of the complete checkpoints, ascending."""
    return sorted(self._manager.all_steps())

  def save(self, step: int, state: Any, meta: Any = None) -> None:
    """Writes a checkpoint; when it returns, the checkpoint is complete on disk.

    Args:
      step: Step of the run; must be above those already saved.
      state: Pytree of arrays or numbers; no typed PRNG keys.
      meta: JSON value to keep with it.

    Raises:
      ValueError: a leaf is no plain array, `meta` is not JSON, or the step is not above the newest.
    """
    newest = max(self.steps(), default=None)
    if newest is not None and step <= newest:
      raise ValueError(f"step must be above the newest checkpoint's {newest}, got {step}")
    leaves = _flatten(state)
    record = {
      "format": FORMAT,
      "config": self._config,
      "meta": _as_json(meta, "meta"),
      "leaves": _signature(leaves),
      "sha256": _digest(leaves),
    }
    items = {"record": ocp.args.JsonSave(record)}
    if stored := _stored(leaves):
      items["state"] = ocp.args.StandardSave(stored)
    self._manager.save(step, args=ocp.args.Composite(**items))
    self._manager.wait_until_finished()

  def _read(self, step: int, leaves: Mapping[str, np.ndarray]) -> tuple[dict, dict | None]:
    """Record and leaves of a checkpoint; no leaves if its config or structure is another's."""
    items = {"record": ocp.args.JsonRestore()}
    record = self._manager.restore(step, args=ocp.args.Composite(**items))["record"]
    if record["format"] != FORMAT:
      raise ValueError(f"format {record['format']}, expected {FORMAT}")
    saved_config, saved_leaves = record["config"], record["leaves"]
    if differences(saved_config, self._config) or saved_leaves != _signature(leaves):
      return record, None
    restored = dict(leaves)
    if stored := _stored(leaves):
      items = {"state": ocp.args.StandardRestore(stored)}
      arrays = self._manager.restore(step, args=ocp.args.Composite(**items))["state"]
      restored.update({k: np.asarray(v) for k, v in arrays.items()})
    if _digest(restored) != record["sha256"]:
      raise ValueError("the arrays differ from their recorded SHA-256")
    return record, restored

  def restore_latest(self, like: Any) -> Restored | None:
    """Newest checkpoint that is whole, or None if there has been no checkpoint.

    Damaged newer ones are renamed to `damaged-<step>` with a logged warning once an older one has
    been read, so that the run may save those steps again.

    Args:
      like: Pytree with the structure, shapes and dtypes of the state, e.g. a fresh one.

    Raises:
      ValueError: the checkpoint was saved under another configuration, or its arrays have other
        paths, shapes or dtypes; the message names what differs.
      RuntimeError: there are checkpoints, but none can be read.
    """
    template = _flatten(like)
    damaged: dict[int, Exception] = {}
    for step in reversed(self.steps()):
      try:
        record, leaves = self._read(step, template)
      except Exception as error:  # orbax and its storage raise many types for damaged files
        _log.warning("checkpoint of step %d in %s is damaged: %s", step, self.directory, error)
        damaged[step] = error
        continue
      if leaves is None:
        self._refuse(step, record, template)
      self._set_aside(damaged)
      _log.info("restored the checkpoint of step %d from %s", step, self.directory)
      return Restored(step, _rebuild(like, leaves), record["meta"])
    if damaged:
      newest = max(damaged)
      raise RuntimeError(
        f"none of the checkpoints {sorted(damaged)} in {self.directory} can be read; "
        "move them away to start afresh"
      ) from damaged[newest]
    return None

  def _refuse(self, step: int, record: dict, template: Mapping[str, np.ndarray]) -> None:
    changed = differences(record["config"], self._config)
    if changed:
      raise ValueError(
        f"the configuration differs from that of the checkpoint of step {step} in "
        f"{self.directory}: {'; '.join(changed)}"
      )
    changed = differences(record["leaves"], _signature(template))
    raise ValueError(f"the state differs from the checkpoint of step {step}: {'; '.join(changed)}")

  def _set_aside(self, damaged: Mapping[int, Exception]) -> None:
    if not damaged:
      return
    self._manager.close()
    for step in sorted(damaged):
      free = (f"damaged-{step}" + (f"-{i}" if i else "") for i in range(1_000_000))
      name = next(n for n in free if not (self.directory / n).exists())
      os.replace(self.directory / str(step), self.directory / name)
      _log.warning("set the damaged checkpoint of step %d aside as %s", step, name)
    self._manager = self._open()  # it remembers the steps it has seen

  def close(self) -> None:
    """Releases orbax's resources."""
    self._manager.close()

  def __enter__(self) -> Checkpointer:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()


def _rebuild(like: Any, leaves: Mapping[str, np.ndarray]) -> Any:
  """The tree of `like` with restored leaves, each as a device array where `like` has one."""

  def leaf_of(path, leaf):
    key = jax.tree_util.keystr(path, simple=True, separator="/") or "value"
    # A copy: the next step may be given the buffer to write to.
    return jnp.array(leaves[key]) if isinstance(leaf, jax.Array) else leaves[key]

  return jax.tree_util.tree_map_with_path(leaf_of, like)
