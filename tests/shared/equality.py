"""What was trained is what runs: quantized and packed mode compared bit for bit."""

import dataclasses
import functools

import jax
import numpy as np

from hetjax import nn as hnn
from hetjax import xla_cpu
from tests.shared.backends import Backend


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
  """A network with its quantized variables, the same packed, and inputs."""

  model: object
  variables: dict
  specs: dict
  inputs: np.ndarray

  @functools.cached_property
  def packed(self) -> dict:
    return hnn.pack_variables(self.variables, self.specs)

  @functools.cached_property
  def expected(self) -> tuple[np.ndarray, dict]:
    """Logits and accumulators of quantized mode."""
    return self.run(self.variables, "quantized", Backend("reference"))

  def run(self, variables, mode, backend) -> tuple[np.ndarray, dict]:
    """Logits as a network computes them, and accumulators of every layer."""
    options = {"mode": mode, "implementation": backend.implementation}
    traced_for = xla_cpu.weight_format() if backend.isa else None
    logits, kept = _apply(self.model, tuple(options.items()), traced_for)(variables, self.inputs)
    names = {n: functools.reduce(dict.__getitem__, n.split("/"), kept) for n in self.specs}
    return np.asarray(logits), {n: np.asarray(v["accumulator"][0]) for n, v in names.items()}


@functools.cache
def _apply(model, options, traced_for):
  """Jitted once per format of weights, which a trace that prepares them is bound to."""
  del traced_for
  plain = jax.jit(lambda v, x: model.apply(v, x, **dict(options)))
  traced = jax.jit(
    lambda v, x: model.apply(v, x, **dict(options), mutable=["intermediates"])[1]["intermediates"]
  )
  return lambda v, x: (plain(v, x), traced(v, x[:16]))


def assert_packed_equals_quantized(case: Case, backend: Backend) -> None:
  """Packed mode on `backend`: quantized mode's accumulators, logits and classes, bit for bit."""
  logits, accumulators = case.expected
  with backend.forced():
    for packed in (case.packed, hnn.prepare(case.packed, backend.implementation)):
      got, sums = case.run(packed, "packed", backend)
      assert sums.keys() == accumulators.keys()
      for name in accumulators:
        np.testing.assert_array_equal(sums[name], accumulators[name], err_msg=name)
      np.testing.assert_array_equal(got, logits)
      np.testing.assert_array_equal(np.argmax(got, -1), np.argmax(logits, -1))
