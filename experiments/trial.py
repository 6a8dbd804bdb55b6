"""What a trial of a comparison is: a method at a budget with a seed, as configuration."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

FLOAT, QWIX = "float32", "qwix"
QWIX_BITS = (2, 4, 8)


@dataclasses.dataclass(frozen=True)
class Trial:
  """What to train.

  Raises:
    ValueError: options without a label, a label without options, or bits that Qwix does not have.

  Attributes:
    method: A name of `hetjax.learn.methods.METHODS`; "float32" for the network to compare with,
      trained in float mode for as many steps as any other method takes in all; or "qwix" for the
      peer of `experiments.qwix_peer`, whose bits are the limit.
    seed: Of everything random.
    limit: Of the budget's quantity.
    quantity: What the budget limits.
    machine: Hardware target of a budget of latency.
    options: Changed fields of the configuration, "phase.field" -> value, with a label in front of
      them in the trial's name.
    label: Of the options.
  """

  method: str
  seed: int = 0
  limit: float = 2.0
  quantity: str = "mean_bits_params"
  machine: str | None = None
  options: tuple[tuple[str, Any], ...] = ()
  label: str = ""

  def __post_init__(self):
    if bool(self.options) != bool(self.label):
      raise ValueError(
        f"options need a label and a label options, got {self.options}, {self.label!r}"
      )
    if self.method == QWIX and self.limit not in QWIX_BITS:
      raise ValueError(f"limit of a {QWIX!r} trial must be one of {QWIX_BITS}, got {self.limit}")

  @property
  def name(self) -> str:
    """Names files; `run_all` refuses two trials of one name."""
    parts = [self.method, *([self.label] if self.label else [])]
    if self.method != FLOAT:
      parts += [self.quantity, f"{self.limit:g}"]
    return "-".join([*parts, f"seed{self.seed}"])


def configured(config: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
  """The recipe's configuration with what the trial changes.

  Raises:
    KeyError: an option names a field of no phase.
  """
  config = copy.deepcopy(dict(config))
  budget = {k: getattr(trial, k) for k in ("quantity", "limit", "machine")}
  config |= {"seed": trial.seed, "budget": {**config["budget"], **budget}}
  for path, value in trial.options:
    *phase, field = path.split(".")
    node = config
    for part in phase:
      node = node[part]
      if not isinstance(node, dict):
        raise KeyError(f"option {path!r} of trial {trial.name!r}: {part!r} has no fields")
    node[field] = value
  return config
