"""The digits run shrunk to seconds: one residual block of four channels, a few steps a phase."""

from experiments.configs import digits


def get_config():
  """As `experiments.configs`; every field can be overridden."""
  config = digits.get_config()
  config.model = "resnet"
  config.model_config.stage_sizes = (1,)
  config.model_config.widths = (4,)
  config.budget.limit = 3.5
  config.batch_size = 16
  config.log_every = 2
  config.checkpoint_every = 4
  for phase in ("train", "search", "finetune"):
    config[phase].steps = 16
    config[phase].warmup_steps = 4
  return config
