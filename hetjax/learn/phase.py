"""What one phase of training does, as data."""

from __future__ import annotations

import dataclasses

from hetjax.learn.budget import Budget
from hetjax.learn.distillation import Distillation
from hetjax.learn.optimizer import OptimizerConfig
from hetjax.learn.regularizers import RegularizerConfig
from hetjax.nn.quantized import MODES, NOISE_MODES


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
  """One phase of training.

  Attributes:
    name: "float", "search" or "finetune"; names its checkpoints and metrics.
    mode: Mode of the layers, see `nn.quantized`.
    steps: Optimizer steps.
    optimizer: Learning rates.
    label_smoothing: Of the cross-entropy.
    regularizers: Penalties on the learned bits (search only), summed by name with their weights.
    budget: Budget held by an adaptive multiplier (search only), or None.
    distillation: What a teacher adds to the loss, or None.
    granularity: "channel", or "layer" to learn one precision for all channels of a layer (search
      only).
    freeze_fraction: Last part of the search in which channels come to rest on levels, see
      `learn.freezing`; None freezes none.
    norm_batches: Batches over which batch norms are re-estimated before finetuning; None for 50.
    noise_ramp_fraction: First part of the search over which noise grows to its full size; None for
      full noise from the first step.
    gradient_scaling: Strength of `learn.gradients.scaled_by_rounding`; None for plain
      straight-through gradients (finetuning only).
  """

  name: str
  mode: str
  steps: int
  optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
  label_smoothing: float = 0.05
  regularizers: tuple[RegularizerConfig, ...] = ()
  budget: Budget | None = None
  distillation: Distillation | None = None
  granularity: str = "channel"
  freeze_fraction: float | None = None
  norm_batches: int | None = None
  noise_ramp_fraction: float | None = None
  gradient_scaling: float | None = None

  def __post_init__(self):
    if self.mode not in MODES:
      raise ValueError(f"mode of phase {self.name!r} must be one of {MODES}, got {self.mode!r}")
    if not self.learns_bits:
      for field in ("granularity", "freeze_fraction", "noise_ramp_fraction"):
        if getattr(self, field) != getattr(type(self), field):
          raise ValueError(f"phase {self.name!r} learns no bits: {field} needs a noise mode")
    if self.freeze_fraction is not None:
      longest = 1.0 if self.budget is None else 1.0 - self.budget.ramp_fraction
      if not 0 < self.freeze_fraction <= longest + 1e-9:
        raise ValueError(
          f"freeze_fraction must be in (0, {longest:g}], after the budget's ramp, "
          f"got {self.freeze_fraction}"
        )
    if self.norm_batches is not None and (self.mode != "quantized" or self.norm_batches < 0):
      raise ValueError(
        f"norm_batches must not be negative and is for mode 'quantized', got {self.norm_batches} "
        f"for mode {self.mode!r}"
      )
    # Bits that were learned under less noise than they stand for are not worth assigning.
    if self.noise_ramp_fraction is not None and not 0 < self.noise_ramp_fraction <= 0.6:
      raise ValueError(f"noise_ramp_fraction must be in (0, 0.6], got {self.noise_ramp_fraction}")
    if self.gradient_scaling is not None and (
      self.mode != "quantized" or not 0 <= self.gradient_scaling <= 1
    ):
      raise ValueError(
        f"gradient_scaling must be in [0, 1] and is for mode 'quantized', got "
        f"{self.gradient_scaling} for mode {self.mode!r}"
      )
    if self.granularity not in ("channel", "layer"):
      raise ValueError(f"granularity must be 'channel' or 'layer', got {self.granularity!r}")
    if self.steps < 1:
      raise ValueError(f"steps of phase {self.name!r} must be positive, got {self.steps}")
    if not self.learns_bits and (self.regularizers or self.budget):
      raise ValueError(
        f"phase {self.name!r} learns no bits: regularizers and budget need a noise mode"
      )

  @property
  def learns_bits(self) -> bool:
    """Whether precisions are learned, under noise."""
    return self.mode in NOISE_MODES
