"""Fits of costs, steps of staircases, and layers timed for real."""

import math
import time

import numpy as np
import pytest

from hetjax.bench import fitting, repeats
from hetjax.bench.calibration_layers import COUNTS
from hetjax.bench.timing import Timing
from hetjax.bench.workloads import ConvSpec


def test_fits_are_exact_where_they_can_be_and_never_negative():
  rng = np.random.default_rng(0)
  a = rng.uniform(size=(20, 3)) * [1e9, 1e3, 1]
  x = np.array([1e-9, 0.0, 3.0])
  np.testing.assert_allclose(fitting.non_negative_fit(a, a @ x), x, rtol=1e-6, atol=1e-9)
  assert np.all(fitting.non_negative_fit(a, a @ np.array([1e-9, -1e-4, 3.0])) >= 0)
  assert fitting.non_negative_fit(np.array([[0.0, 2.0], [0.0, 1.0]]), np.array([2, 1.0]))[0] == 0


def test_relative_fits_ignore_what_was_disturbed():
  """Times from microseconds to milliseconds; a fifth of them is twice what it should be."""
  rng = np.random.default_rng(1)
  counts = np.stack([10 ** rng.uniform(3, 7, 50), np.ones(50)], axis=1)
  costs = np.array([1e-10, 2e-6])
  seconds = counts @ costs
  seconds[::5] *= 2
  found = fitting.relative_fit(counts, seconds)
  np.testing.assert_allclose(found, costs, rtol=0.02)
  squares = fitting.non_negative_fit(counts / seconds[:, None], np.ones(50))
  assert np.max(np.abs(squares / costs - 1)) > 0.08


def test_relative_errors_by_hand():
  counts, costs = np.array([[1.0, 0], [1, 1]]), np.array([2.0, 1.0])
  assert fitting.relative_error(counts, costs, np.array([1.0, 6.0])) == pytest.approx(0.75)


@pytest.mark.parametrize("granule", fitting.GRANULES)
def test_granules_are_found_in_staircases(granule):
  counts = np.array(COUNTS)
  noise = 1 + 0.005 * np.random.default_rng(granule).normal(size=len(counts))
  seconds = (20 + 100 * np.ceil(counts / granule) * granule / 64) * noise
  assert fitting.granule_of(counts, seconds) == granule


def test_noise_is_no_granule():
  """Where time is a line, the stairs that happen to fit the noise a little better are not taken."""
  counts = np.array(COUNTS)
  for seed in range(10):
    noise = 1 + 0.02 * np.random.default_rng(seed).normal(size=len(counts))
    assert fitting.granule_of(counts, (20 + counts) * noise) == 1


def test_layers_are_timed_for_real():
  small, large = ConvSpec("", 2, 4, 4), ConvSpec("", 14, 64, 64)
  found = repeats.layer_seconds([(small, {2: 1.0}), (large, {2: 0.5, 8: 0.5})], 0.0)
  assert found.shape == (2,) and 0 < found[0] < found[1]


def test_calls_and_repeats_are_taken_out_of_times(monkeypatch):
  """On a clock by which a call takes 30 us and each layer 10: others' work only lengthens calls."""

  def bursts(functions, **_):
    low = {key: 30e-6 + key[1] * (0 if key[0] == "nothing" else 10e-6) for key in functions}
    return {k: Timing(9.0, v, 9.9, 1) for k, v in low.items()}

  monkeypatch.setattr(repeats, "bursts", bursts)
  monkeypatch.setattr(repeats, "repeated", lambda *_: lambda times: None)
  found = repeats.layer_seconds([(ConvSpec("", 2, 4, 4), {2: 1.0})] * 2, 1.0)
  np.testing.assert_allclose(found, 10e-6)


def test_repeats_run_the_layer_each_time():
  """The time of a call grows with its repeats: none is merged with another.

  Were they merged, times would be equal; by counting, one is about fifty times the other. What
  other work on the machine does to either is less than what lies between.
  """
  run = repeats.repeated(ConvSpec("", 28, 64, 64), {8: 1.0})
  taken = {1: math.inf, 50: math.inf}
  run(1)
  for _ in range(5):
    for times in taken:
      taken[times] = min(taken[times], _seconds(run, times))
  assert taken[50] > 5 * taken[1]


def _seconds(run, times):
  begun = time.perf_counter()
  run(times)
  return time.perf_counter() - begun
