"""Every peer runs small graphs right or says why it cannot; the choice among settings is fair."""

import warnings

import numpy as np
import pytest

from hetjax.bench.graph import Builder
from hetjax.bench.peers import PEERS, Candidate, Missing, Problem, pytorch
from hetjax.bench.peers.base import imported, installed
from hetjax.bench.peers.onednn import OneDnn
from hetjax.bench.peers.selection import Wanted, fastest, ready
from hetjax.bench.rows import NOT_BY_DEFAULT
from tests.bench.fakes import Gone, Right, Wrong

TOLERANCES = {32: 1e-3, 8: 0.1, 4: 0.02}


def _images():
  """Everything that convolutional networks have."""
  rng = np.random.default_rng(0)
  kernel = lambda *shape: rng.normal(size=shape) / np.sqrt(np.prod(shape[:3]))
  b = Builder((1, 10, 10, 4))
  bias = rng.normal(size=8)
  x = b.conv(b.input, kernel(3, 3, 4, 8), bias, strides=2, padding=1, activation="relu")
  y = b.conv(x, kernel(3, 3, 1, 8), bias, padding=1, groups=8, activation="relu6")
  x = b.add(b.conv(x, kernel(1, 1, 8, 8), bias), y, activation="relu")
  x = b.max_pool(x, window=3, strides=2, padding=1)
  b.dense(b.mean(x), rng.normal(size=(8, 5)), rng.normal(size=5))
  return b.graph()


def _vectors():
  """Images that dense layers read place by place."""
  rng = np.random.default_rng(4)
  b = Builder((1, 6, 8, 3))
  kernel = rng.normal(size=(3, 3, 3, 5)) / 5
  x = b.conv(b.input, kernel, rng.normal(size=5), activation="relu")
  x = b.flatten(b.max_pool(x, window=2, strides=2, padding=0), sizes=(2, 3, 5))
  x = b.dense(x, rng.normal(size=(30, 9)) / 5, rng.normal(size=9), activation="relu")
  b.dense(x, rng.normal(size=(9, 4)), rng.normal(size=4))
  return b.graph()


def _tokens():
  """Everything that transformers have."""
  rng = np.random.default_rng(1)
  b = Builder((1, 6, 8))
  dense = lambda x, n=8, **k: b.dense(x, rng.normal(size=(8, n)) / 3, rng.normal(size=n), **k)
  x = b.shift(dense(b.input), rng.normal(size=(6, 8)))
  y = b.layer_norm(x, rng.normal(size=8), rng.normal(size=8), epsilon=1e-6)
  x = b.add(x, b.attention(dense(y), dense(y), dense(y), heads=2, channels=8))
  dense(b.mean(dense(x, activation="gelu")), 3)
  return b.graph()


def _matrix():
  rng = np.random.default_rng(2)
  b = Builder((2, 256))
  b.dense(b.input, rng.normal(size=(256, 16)) / 16, np.zeros(16))
  return b.graph()


GRAPHS = {"images": _images(), "vectors": _vectors(), "tokens": _tokens(), "matrix": _matrix()}
WANTED = {
  name: Wanted(
    Problem(graph, np.random.default_rng(3).normal(size=graph.shape).astype(np.float32), 1)
  )
  for name, graph in GRAPHS.items()
}


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_peers_are_right_or_say_why_they_are_missing(peer, monkeypatch):
  def none(*args):
    raise RuntimeError("compiling takes too long for a test")

  monkeypatch.setattr(pytorch, "_compiled", none)
  for name, wanted in WANTED.items():
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # of other people's packages
      try:
        candidates = peer.candidates(wanted.problem)
      except Missing as reason:
        assert len(str(reason)) > 10
        continue
      assert candidates, name
      for candidate in candidates:
        wanted.check(candidate, peer.bits, TOLERANCES.get(peer.bits, 0.02))
        assert candidate.layers == 1
        if name == "matrix":
          another = candidate.again()
          assert another.setting == candidate.setting
          wanted.check(another, peer.bits, TOLERANCES.get(peer.bits, 0.02))


def test_quantized_ends_change_no_result():
  graph = _images().nodes[:1]
  from hetjax.bench.graph import Graph

  wanted = Wanted(Problem(Graph((1, 10, 10, 4), graph), WANTED["images"].problem.x, 1, True))
  for peer in PEERS:
    if peer.bits == 8:
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
          candidates = peer.candidates(wanted.problem)
        except Missing:
          continue
        for candidate in candidates:
          wanted.check(candidate, 8, 2 / 255)


def test_the_fastest_setting_counts():
  candidate = ready(Right(), [WANTED["matrix"]], TOLERANCES)
  assert candidate.setting == "fast"


def test_time_is_compared_per_layer():
  run = lambda n: lambda: np.ones(n).sum()
  one = Candidate("one", run(200_000), lambda: None, layers=1)
  many = Candidate("many", run(400_000), lambda: None, layers=100)
  assert fastest([one, many]).setting == "many"


def test_wrong_results_do_not_count():
  with pytest.raises(Missing, match="off by 10 % of the largest value"):
    ready(Wrong(), [WANTED["matrix"]], TOLERANCES)


def test_a_peer_with_its_own_format_is_held_to_it():
  wanted = WANTED["matrix"]
  own = np.full((2, 16), 7.0, np.float32)
  wanted.check(Candidate("own", lambda: None, lambda: own, want=own), 4, 0.0)
  with pytest.raises(Missing, match="result has shape"):
    wanted.check(Candidate("own", lambda: None, lambda: own[:1]), 32, 1e-3)


def test_missing_packages_are_named():
  with pytest.raises(Missing, match="gone is not installed"):
    ready(Gone(), [WANTED["matrix"]], TOLERANCES)
  with pytest.raises(Missing, match="nothing_of_this_name is not installed .extra 'peers'."):
    imported("nothing_of_this_name", "nothing_of_this_name")
  with pytest.raises(Missing, match="nothing_of_this_name is not installed"):
    installed("nothing_of_this_name")


def _convolutions(steps, channels, groups=1):
  """A chain of (kernel size, stride, activation)."""
  rng = np.random.default_rng(4)
  b = Builder((1, 9, 9, channels))
  x = b.input
  for size, strides, activation in steps:
    kernel = rng.normal(size=(size, size, channels // groups, channels)) / channels
    bias, padding = rng.normal(size=channels), size // 2
    x = b.conv(
      x, kernel, bias, strides=strides, padding=padding, groups=groups, activation=activation
    )
  image = rng.normal(size=(1, 9, 9, channels)).astype(np.float32)
  return Wanted(Problem(b.graph(), image, 1))


def _ready_again(peer, wanted):
  candidate = ready(peer, [wanted], TOLERANCES)
  again = candidate.again()
  again.run()
  np.testing.assert_array_equal(again.result(), candidate.result())


def _need(peer):
  try:
    peer.version()
  except Missing as reason:
    pytest.skip(str(reason))


@pytest.mark.parametrize("groups", [1, 8])
def test_onednn_runs_chains_of_convolutions(groups):
  """Right in all layouts that it chooses."""
  peer = OneDnn("direct")
  _need(peer)
  _ready_again(peer, _convolutions([(3, 1, "relu"), (3, 2, None), (1, 1, "relu")], 8, groups))


def test_onednn_runs_winograd_or_says_that_the_processor_cannot():
  peer = OneDnn("Winograd")
  _need(peer)
  try:
    _ready_again(peer, _convolutions([(3, 1, "relu"), (3, 1, "relu")], 32))
  except Missing as reason:
    assert str(reason) == "oneDNN has no implementation for this layer on this processor"


def test_peers_that_do_not_count_are_named_as_they_are():
  assert set(NOT_BY_DEFAULT) <= {peer.name for peer in PEERS}
