"""Whole networks on the GPU's kernels: interpreted here, and exported for where a GPU is."""

import jax
import numpy as np
import pytest

import hetjax
import pallas_kernels
from experiments import measure
from hetjax.learn import methods
from tests.runtime.zoo import NETS, packed
from tests.shared import tiny


@pytest.mark.every_case
def test_a_trained_artifact_gives_the_same_classes(tmp_path):
  exp, path = tiny.shared(), tmp_path / "network.safetensors"
  measure.pack(exp, methods.train("heterogeneous", exp, exp.train_float()), path)
  images = exp.dataset.inputs("test")[:32]
  expected = hetjax.load(path, image_shape=images.shape[1:])(images)
  with pallas_kernels.interpreted():
    got = hetjax.load(path, image_shape=images.shape[1:], implementation="triton")(images)
  np.testing.assert_array_equal(np.argmax(got, -1), np.argmax(expected, -1))
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_one_file_for_cpu_and_gpu(tmp_path):
  variables, images = packed("relu_mlp")
  model, path = NETS["relu_mlp"].model, tmp_path / "network.bin"
  expected = hetjax.compile(model, variables, implementation="reference")(images)
  with pallas_kernels.interpreted():
    net = hetjax.compile(model, variables, implementation="triton")
    hetjax.export(net, images.shape, path, platforms=("cpu", "cuda"))
  np.testing.assert_array_equal(hetjax.load_exported(path)(images), expected)
  exported = jax.export.deserialize(bytearray(path.read_bytes()))
  assert set(exported.platforms) == {"cpu", "cuda"}
  assert pallas_kernels.CALLS["triton"] in exported.mlir_module()


def test_what_calls_the_cpu_engine_is_for_the_cpu(tmp_path):
  if hetjax.ops.implementations()["xla_cpu"]:
    pytest.skip("needs the CPU engine")
  variables, images = packed("relu_mlp")
  net = hetjax.compile(NETS["relu_mlp"].model, variables)
  with pytest.raises(ValueError, match="calls the CPU engine .* 'cuda'"):
    hetjax.export(net, images.shape, tmp_path / "f", platforms=("cpu", "cuda"))
  for wrong in (("tpu",), "cuda", ()):
    with pytest.raises(ValueError, match="platforms must be a sequence of some of"):
      hetjax.export(net, images.shape, tmp_path / "f", platforms=wrong)
  assert not list(tmp_path.iterdir())
