"""Peers that tests need: a right one, a wrong one, and one that is not there."""

import numpy as np

from hetjax.bench import execute
from hetjax.bench.peers import Candidate, Missing


class Right:
  """Computes every graph by the judge itself, in two settings of which the second sleeps."""

  def __init__(self, bits=32, factor=1.0):
    self.name, self.bits, self.factor = f"right {bits}", bits, factor

  def version(self):
    return "1"

  def candidates(self, problem):
    y = self.factor * execute.run(problem.graph, problem.x)
    return [
      Candidate(name, lambda n=n: np.ones(n).sum(), lambda: y, problem.graph.layers)
      for name, n in (("slow", 3_000_000), ("fast", 10))
    ]


class Wrong(Right):
  """Is off by a tenth."""

  def __init__(self):
    super().__init__(factor=1.1)
    self.name = "wrong"


class Gone(Right):
  """Is not installed."""

  def __init__(self):
    super().__init__()
    self.name = "gone"

  def version(self):
    raise Missing("gone is not installed")
