"""Every family of models from a file to a network that runs, and configs that are refused."""

import dataclasses

import jax
import numpy as np
import pytest

from hetjax import models, runtime
from hetjax.nn.packing import artifact_of
from hetjax.pack import ArtifactError, write_artifact
from tests.shared.families import TINY, tiny_case


def _artifact(name):
  case = tiny_case(name)
  return artifact_of(
    models.name_of(case.model), models.config_of(case.model), case.variables, case.specs
  )


@pytest.mark.parametrize("name", TINY)
def test_a_file_runs_as_its_variables_in_memory(name, tmp_path):
  case = tiny_case(name)
  path = tmp_path / "network.safetensors"
  write_artifact(path, _artifact(name))
  network = runtime.load(path, TINY[name].shape)
  unfused = jax.jit(network.apply)(network.variables, case.inputs)
  np.testing.assert_array_equal(unfused, case.expected[0])
  fused = network(case.inputs)
  # Folded norms may move a value by its last bits and so, rarely, a code by one.
  np.testing.assert_array_equal(np.argmax(fused, -1), np.argmax(unfused, -1))


@pytest.mark.parametrize(
  ("name", "shape", "change", "match"),
  [
    ("mobilenet_v2", None, {"stages": [[1, 8, 10**9, 1]]}, "1000000000 blocks, more than"),
    ("mobilenet_v2", None, {"stages": [[1, 8, 10**9, 1], [1, 8, -(10**9), 1]]}, "stages must be"),
    ("mobilenet_v2", None, {"stages": [[1, 8]]}, "cannot be made"),
    ("mobilenet_v2", None, {"stages": [[1, "8", 1, 1]]}, "cannot be made"),
    ("mobilenet_v2", None, {"stages": 3}, "cannot be made"),
    ("mobilenet_v2", None, {"width": -1}, "width must be positive"),
    ("mobilenet_v2", None, {"width": float("inf")}, "cannot be made"),
    ("mobilenet_v2", None, {"width": 3.0}, "layer 'head': the model needs"),
    ("lenet", None, {"kernel": 2}, "'conv0': the model needs"),
    ("lenet", (6, 6, 1), {}, "kernel must leave pixels to pool"),
    ("lenet", (16, 14, 1), {}, "'hidden0': the model needs"),
    ("pixels", None, {"hidden": [8, "6"]}, "cannot be made"),
    ("tokens", None, {"depth": 10**9}, "1000000000 blocks, more than"),
    ("tokens", None, {"depth": 1.5}, "cannot be made"),
    ("tokens", None, {"heads": 3}, "heads must divide width 8, got 3"),
    ("tokens", None, {"heads": 0}, "heads must be positive"),
    ("tokens", None, {"activation": "tanh"}, "activation must be one of"),
    ("tokens", None, {"activation": {}}, "cannot be made"),
    ("tokens", None, {"vocabulary": None}, "x must be floats"),
    ("tokens", None, {"vocabulary": -3}, "cannot be made"),
    ("tokens", None, {"vocabulary": 12}, "'params/embed/embedding': the model needs"),
    ("tokens", (7,), {}, "at most 6 tokens, got 7"),
    ("vit", None, {"patch": 3}, "patch must divide"),
    ("vit", None, {"patch": 0}, "patch must divide"),
    ("vit", (8, 8, 3), {}, r"'params/positions': the model needs \(4, 8\), the file has \(6, 8\)"),
  ],
)
def test_another_model_is_refused(name, shape, change, match):
  artifact = _artifact(name)
  changed = dataclasses.replace(artifact, model_config={**artifact.model_config, **change})
  with pytest.raises(ArtifactError, match=match):
    runtime.build(changed, shape or TINY[name].shape)
