"""Bit layout, packer and the artifact file."""

from hetjax.pack.accumulator import accumulator_bound, check_accumulator
from hetjax.pack.activations import pack_activations, unpack_activations
from hetjax.pack.artifact import Artifact, PackedLayer
from hetjax.pack.errors import ArtifactError
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.narrow import narrow
from hetjax.pack.reader import from_bytes, map_artifact, read_artifact
from hetjax.pack.sizes import float32_file_bytes
from hetjax.pack.weights import PackedWeights, pack_weights, unpack_weights, weight_bytes
from hetjax.pack.writer import float32_bytes, size_breakdown, to_bytes, write_artifact

__all__ = [
  "Artifact",
  "ArtifactError",
  "ChannelLayout",
  "PackedLayer",
  "PackedWeights",
  "accumulator_bound",
  "check_accumulator",
  "float32_bytes",
  "float32_file_bytes",
  "from_bytes",
  "map_artifact",
  "narrow",
  "pack_activations",
  "pack_weights",
  "read_artifact",
  "size_breakdown",
  "to_bytes",
  "unpack_activations",
  "unpack_weights",
  "weight_bytes",
  "write_artifact",
]
