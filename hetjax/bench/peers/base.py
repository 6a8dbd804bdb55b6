"""What a peer is to the benchmarks."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float

from hetjax.bench.graph import Graph
from hetjax.bench.quantization import Range, ranges_of


class Missing(RuntimeError):
  """A peer cannot take part; the message says why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
  """A graph made ready to run in one setting of a peer.

  Attributes:
    setting: Which setting.
    run: Runs the graph once on the problem's input and waits for the result.
    result: The last run's output, float32, channels last.
    layers: The graph's `layers`: time per layer is a run's time divided by it.
    want: What `result` should give if the peer quantizes in a format of its own; None: what any
      peer with as many bits should give.
    again: Makes one more in the same setting, with weights of its own in memory; None: it cannot.
  """

  setting: str
  run: Callable[[], object]
  result: Callable[[], Float[np.ndarray, ...]]
  layers: int = 1
  want: Float[np.ndarray, ...] | None = None
  again: Callable[[], Candidate] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
  """What a peer is asked to run.

  Attributes:
    graph: The layers.
    x: float32 input.
    threads: How many the peer may use.
    quantized_ends: Whether int8 peers take and leave uint8 codes, as inside a network; otherwise
      they take and leave float32.
  """

  graph: Graph
  x: Float[np.ndarray, ...]
  threads: int
  quantized_ends: bool = False

  @functools.cached_property
  def ranges(self) -> dict[str, Range]:
    """Of every tensor of the graph on this input, for peers that quantize statically."""
    return ranges_of(self.graph, self.x)


class Peer(Protocol):
  """An engine to compare with.

  Attributes:
    name: As tables print it.
    bits: Nominal bits of its weights: 32, 8, 4 or 2.
  """

  name: str
  bits: int

  def version(self) -> str:
    """The version of what runs.

    Raises:
      Missing: it is not installed.
    """

  def candidates(self, problem: Problem) -> Sequence[Candidate]:
    """The problem in every setting worth trying; the fastest is the one that counts.

    Raises:
      Missing: it cannot run here or cannot run this graph.
    """


def imported(module: str, distribution: str):
  """An optional module.

  Raises:
    Missing: it is not installed, or fails to load.
  """
  try:
    return importlib.import_module(module)
  except ModuleNotFoundError as error:
    raise Missing(f"{distribution} is not installed (extra 'peers')") from error
  except (ImportError, OSError) as error:
    raise Missing(f"{distribution} fails to load: {error}") from error


def installed(distribution: str) -> str:
  """The version of an optional package.

  Raises:
    Missing: it is not installed.
  """
  try:
    return importlib.metadata.version(distribution)
  except importlib.metadata.PackageNotFoundError as error:
    raise Missing(f"{distribution} is not installed (extra 'peers')") from error
