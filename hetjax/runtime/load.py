"""From an artifact to a network that runs."""

from __future__ import annotations

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np

from hetjax import models
from hetjax import nn as hnn
from hetjax.pack import Artifact, ArtifactError, map_artifact
from hetjax.runtime.network import Network, compile


def build(
  artifact: Artifact, image_shape: tuple[int, ...], implementation: str | None = None
) -> Network:
  """Makes the network of an artifact and checks that the artifact holds exactly its variables.

  Args:
    artifact: A packed network.
    image_shape: (height, width, channels) of its images; of other inputs, their shape without
      the batch.
    implementation: Of the packed ops.

  Raises:
    ArtifactError: the model is unknown, or layers or tensors are missing, foreign or of another
      shape than the model's.
  """
  try:
    model = models.create(artifact.model_name, **dict(artifact.model_config))
    if model.blocks > len(artifact.layers):  # before a trace whose length the file would choose
      raise ValueError(f"its config asks for {model.blocks} blocks, more than the file's layers")
    dtype = getattr(model, "input_dtype", jnp.float32)
    example = jax.ShapeDtypeStruct((1, *image_shape), dtype)
    specs = hnn.layer_specs(model, example)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), example)
  except (TypeError, ValueError, IndexError, ArithmeticError) as error:
    raise ArtifactError(f"model {artifact.model_name!r} cannot be made: {error}") from error
  _check_layers(artifact, specs)
  wanted = hnn.packing.other_leaves(shapes, specs)
  have = {path: np.shape(value) for path, value in artifact.tensors.items()}
  want = {path: tuple(leaf.shape) for path, leaf in wanted.items()}
  for path in sorted(set(have) | set(want)):
    if have.get(path) != want.get(path):
      raise ArtifactError(
        f"tensor {path!r}: the model needs {want.get(path)}, the file has {have.get(path)}"
      )
  network = compile(model, hnn.variables_of(artifact), implementation=implementation)
  return dataclasses.replace(network, artifact=artifact)


def _check_layers(artifact: Artifact, specs) -> None:
  for name in sorted(set(specs) | set(artifact.layers)):
    if name not in specs or name not in artifact.layers:
      where = "model" if name not in specs else "file"
      raise ArtifactError(f"layer {name!r}: the {where} does not have it")
    have, want = artifact.layers[name].spec, specs[name]
    # Positions depend on the image at hand and change nothing about the weights.
    if dataclasses.replace(have, positions=want.positions) != want:
      raise ArtifactError(f"layer {name!r}: the model needs {want}, the file has {have}")


def load(
  path: str | os.PathLike[str],
  image_shape: tuple[int, ...],
  implementation: str | None = None,
) -> Network:
  """Maps an artifact file and builds its network; see `build` and `pack.map_artifact`.

  Weights go from the file straight into the layout in which they run, one layer after the other.
  The network then needs the file no more; only codes in `network.artifact` are still read from it.
  """
  network = build(map_artifact(path), image_shape, implementation)
  jax.block_until_ready(network.variables)
  return network
