"""Exported networks: files that a fresh process runs without the model's code."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hetjax
from hetjax import ops
from tests.runtime.zoo import NETS, packed

RUN = """
import sys
import numpy as np
import hetjax
images = np.load(sys.argv[2])
run = hetjax.load_exported(sys.argv[1])
assert "flax" not in sys.modules or "hetjax.nn" in sys.modules
np.savez(sys.argv[3], *[run(images[:b]) for b in map(int, sys.argv[4].split(","))])
"""
IMPLEMENTATIONS = [None, "reference"]


def fresh_process(path, images, batches, folder, **environment):
  """Results for the first images, a result a batch, from another process."""
  np.save(folder / "images.npy", images)
  arguments = [str(path), str(folder / "images.npy"), str(folder / "results.npz")]
  done = subprocess.run(
    [sys.executable, "-c", RUN, *arguments, ",".join(map(str, batches))],
    env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
    capture_output=True,
    text=True,
  )
  if done.returncode:
    return done.stderr
  with np.load(folder / "results.npz") as file:
    return [file[k] for k in file.files]


def same_classes(got, expected):
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(np.argmax(got, -1), np.argmax(expected, -1))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=str)
@pytest.mark.parametrize("name", ["resnet", "encoder"])
def test_a_fresh_process_runs_any_batch(name, implementation, tmp_path):
  variables, images = packed(name)
  net = hetjax.compile(NETS[name].model, variables, implementation=implementation)
  path = tmp_path / "network.bin"
  hetjax.export(net, ("b", *images.shape[1:]), path)
  batches = (1, 7, 64) if implementation is None else (1, 7)
  results = fresh_process(path, images, batches, tmp_path)
  assert isinstance(results, list), results
  for batch, got in zip(batches, results, strict=True):
    assert got.shape == (batch, 5)
    same_classes(got, np.asarray(net(images[:batch])))


def test_a_fixed_shape_takes_no_other(tmp_path):
  variables, images = packed("relu_mlp")
  net = hetjax.compile(NETS["relu_mlp"].model, variables)
  hetjax.export(net, (3, 8, 8, 3), tmp_path / "network.bin")
  run = hetjax.load_exported(tmp_path / "network.bin")
  expected = net(images[:3])
  same_classes(run(images[:3]), expected)
  same_classes(jax.jit(lambda x: run(x) * 2.0)(images[:3]), expected * 2.0)
  with pytest.raises(ValueError, match="shape"):
    run(images[:4])


def test_any_function_can_be_exported(tmp_path):
  hetjax.export(lambda x: {"sum": x.sum(), "twice": 2 * x}, ("n", 3), tmp_path / "f", dtype="int32")
  got = hetjax.load_exported(tmp_path / "f")(jnp.ones((5, 3), jnp.int32))
  assert got["sum"] == 15 and got["twice"].shape == (5, 3)


def test_without_the_engine_only_what_needs_it_is_refused(tmp_path):
  if ops.implementations()["xla_cpu"]:
    pytest.skip("needs the CPU engine")
  variables, images = packed("relu_mlp")
  no_engine = {"HETJAX_CPU_LIBRARY": str(tmp_path / "none.so")}
  for implementation in ("xla_cpu", "reference"):
    net = hetjax.compile(NETS["relu_mlp"].model, variables, implementation=implementation)
    path = tmp_path / implementation
    hetjax.export(net, images.shape, path)
    result = fresh_process(path, images, (64,), tmp_path, **no_engine)
    if implementation == "xla_cpu":
      assert "RuntimeError" in result and "calls the CPU engine, which cannot run" in result
    else:
      same_classes(result[0], net(images))


@pytest.mark.parametrize("shape", [(0, 3), ("", 3), ("2b", 3), (1.5, 3), (True, 3), (-1, 3)])
def test_a_malformed_shape_is_refused(shape, tmp_path):
  with pytest.raises(ValueError, match="example_shape must hold positive integers and names"):
    hetjax.export(lambda x: x, shape, tmp_path / "f")
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"not an artifact", bytes(1000)], ids=len)
def test_a_file_that_is_no_artifact_is_refused(data, tmp_path):
  path = tmp_path / "f"
  path.write_bytes(data)
  with pytest.raises(ValueError, match="is not a jax.export artifact"):
    hetjax.load_exported(path)


def test_a_function_that_cannot_be_exported_leaves_the_old_file(tmp_path):
  path = tmp_path / "f"
  path.write_bytes(b"old")
  with pytest.raises(TypeError):
    hetjax.export(lambda x: x + jnp.zeros((7,)), (3,), path)
  assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
