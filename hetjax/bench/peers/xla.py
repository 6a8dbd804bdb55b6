"""XLA's own float32 layers on CPU."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from hetjax.bench.execute import constants_of, execute
from hetjax.bench.peers.base import Candidate, Problem


class Xla:
  """The graph compiled by `jax.jit`, weights as arguments or as constants."""

  name, bits = "XLA float32", 32

  def version(self) -> str:
    return jax.lib.__version__

  def candidates(self, problem: Problem) -> list[Candidate]:
    graph, x = problem.graph, jnp.asarray(problem.x)
    as_arguments = jax.jit(lambda constants, x: execute(graph, constants, x))

    def with_arguments():
      # Copies: arrays from NumPy may share its memory.
      constants = jax.tree.map(jnp.copy, constants_of(graph))
      return lambda: as_arguments(constants, x)

    def with_constants():
      constants = constants_of(graph)
      as_constants = jax.jit(lambda x: execute(graph, constants, x))
      return lambda: as_constants(x)

    settings = {"weights as arguments": with_arguments, "weights as constants": with_constants}
    return [_candidate(name, make, graph.layers) for name, make in settings.items()]


def _candidate(setting: str, make, layers: int) -> Candidate:
  call = make()
  return Candidate(
    setting,
    lambda: jax.block_until_ready(call()),
    lambda: np.asarray(call()),
    layers,
    again=lambda: _candidate(setting, make, layers),
  )
