import jax
import numpy as np
import pytest

from hetjax.core.noise import uniform_noise

N = 1 << 18


def draw(seed, shape=(N,)):
  return np.asarray(uniform_noise(jax.random.key(seed), shape), np.float64)


def test_is_uniform_on_its_interval():
  x = draw(0)
  assert -1 <= x.min() < -0.9999
  assert 0.9999 < x.max() < 1
  counts, _ = np.histogram(x, 64, (-1, 1))
  chi2 = ((counts - N / 64) ** 2 / (N / 64)).sum()
  assert chi2 < 63 + 5 * np.sqrt(2 * 63)
  assert abs(x.mean()) < 5 * np.sqrt(1 / 3 / N)
  assert abs(x.var() - 1 / 3) < 0.003


@pytest.mark.parametrize("lag", [1, 2, 3, 16, 64, 1024])
def test_neighbours_are_uncorrelated(lag):
  x = draw(1)
  assert abs(np.mean(x[lag:] * x[:-lag])) * 3 < 5 / np.sqrt(N - lag)
  # Nor are their magnitudes.
  m = np.abs(x) - np.abs(x).mean()
  assert abs(np.mean(m[lag:] * m[:-lag])) * 12 < 5 / np.sqrt(N - lag)


def test_keys_and_steps_draw_unrelated_noise():
  key = jax.random.key(0)
  draws = [np.asarray(uniform_noise(jax.random.fold_in(key, i), (N,))) for i in range(4)]
  draws += [draw(s) for s in (1, 2)]
  for i, a in enumerate(draws):
    for b in draws[:i]:
      assert abs(np.mean(a * b)) * 3 < 5 / np.sqrt(N)


def test_is_a_pure_function_of_key_and_shape_and_row_major():
  np.testing.assert_array_equal(draw(3, (4, 5)), draw(3, (20,)).reshape(4, 5))
  np.testing.assert_array_equal(
    draw(3, (4, 5)), jax.jit(lambda k: uniform_noise(k, (4, 5)))(jax.random.key(3))
  )
