"""Networks of hetjax layers, created by name from a JSON-able config."""

from hetjax.models.lenet import LeNet
from hetjax.models.mobilenet import MobileNetV2
from hetjax.models.random_mix import random_packed_variables, random_variables
from hetjax.models.registry import FAMILIES, MODELS, config_of, create, name_of
from hetjax.models.resnet import ResNet
from hetjax.models.transformer import Transformer
from hetjax.models.vit import ViT

__all__ = [
  "FAMILIES",
  "MODELS",
  "LeNet",
  "MobileNetV2",
  "ResNet",
  "Transformer",
  "ViT",
  "config_of",
  "create",
  "name_of",
  "random_packed_variables",
  "random_variables",
]
