"""Networks of hetjax layers, created by name from a JSON-able config."""

from hetjax.models.registry import MODELS, create
from hetjax.models.resnet import ResNet

__all__ = ["MODELS", "ResNet", "create"]
