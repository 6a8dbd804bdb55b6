"""What the machine wants: granules and costs of precision levels, and a differentiable cost."""

from hetjax.hardware.cost import channel_costs, constant_cycles, layer_cycles, network_cycles
from hetjax.hardware.target import Level, Target, load_target, target_names

__all__ = [
  "Level",
  "Target",
  "channel_costs",
  "constant_cycles",
  "layer_cycles",
  "load_target",
  "network_cycles",
  "target_names",
]
