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
    constants = constants_of(graph)
    as_arguments = jax.jit(lambda constants, x: execute(graph, constants, x))
    as_constants = jax.jit(lambda x: execute(graph, constants, x))
    calls = {
      "weights as arguments": lambda: as_arguments(constants, x),
      "weights as constants": lambda: as_constants(x),
    }
    return [self._candidate(name, call, graph.layers) for name, call in calls.items()]

  def _candidate(self, setting, call, layers) -> Candidate:
    return Candidate(
      setting, lambda: jax.block_until_ready(call()), lambda: np.asarray(call()), layers
    )
