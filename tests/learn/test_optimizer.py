"""Groups of leaves, each by its own rule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hetjax.learn.optimizer import OptimizerConfig, in_log_space, label, make_optimizer


def _trainable():
  return {
    "params": {
      "block": {
        "conv": {
          "kernel": jnp.float32([1.0, -2.0]),
          "bias": jnp.float32([0.5]),
          "alpha": jnp.float32([0.1, 3.0]),
          "beta": jnp.float32(0.7),
        },
        "norm": {"scale": jnp.float32([1.5])},
      }
    },
    "precision": {"block": {"conv": {"s": jnp.float32([-2.0, 1.0])}}},
  }


def _path(path):
  return "/".join(entry.key for entry in path)


def _moves(config, steps=40, count=1):
  """Leaf path -> the update of each of `count` steps under gradients of one."""
  tree = _trainable()
  optimizer = make_optimizer(config, steps)
  state, moves = optimizer.init(tree), []
  for _ in range(count):
    updates, state = optimizer.update(jax.tree.map(jnp.ones_like, tree), state, tree)
    moves.append({_path(p): np.asarray(u) for p, u in jax.tree_util.tree_leaves_with_path(updates)})
    tree = optax.apply_updates(tree, updates)
  return {k: np.stack([m[k] for m in moves]) for k in moves[0]}


def test_every_leaf_has_its_group():
  tree = jax.tree_util.tree_map_with_path(label, _trainable())
  assert tree["params"]["block"]["conv"] == {
    "kernel": "weights", "bias": "other", "alpha": "scales", "beta": "scales"
  }  # fmt: skip
  assert tree["params"]["block"]["norm"]["scale"] == "other"
  assert tree["precision"]["block"]["conv"]["s"] == "precision"


def test_groups_at_rate_zero_stay_put():
  moves = _moves(OptimizerConfig(learning_rate=1e-2))
  frozen = ("/alpha", "/beta", "/s")
  for path, move in moves.items():
    assert np.all(move == 0) == path.endswith(frozen), path
  moves = _moves(OptimizerConfig(scale_rate=1e-2, precision_rate=1e-2))
  assert all(np.all(move != 0) for move in moves.values())


def test_what_is_no_kernel_can_have_a_rate_of_its_own():
  same = _moves(OptimizerConfig(learning_rate=1e-2))
  moves = _moves(OptimizerConfig(learning_rate=1e-2, other_rate=1e-3))
  for path, move in moves.items():
    rate = 1.0 if path.endswith("kernel") else 0.1
    np.testing.assert_allclose(move, rate * same[path], rtol=1e-6)


def test_weight_decay_is_for_kernels_only():
  plain = _moves(OptimizerConfig(learning_rate=1e-2, warmup_steps=1))
  decayed = _moves(OptimizerConfig(learning_rate=1e-2, warmup_steps=1, weight_decay=0.5))
  for path in plain:
    expected = plain[path].copy()
    if path.endswith("kernel"):
      expected -= 1e-2 * 0.5 * np.float32([[1.0, -2.0]])
    np.testing.assert_allclose(decayed[path], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("end", [None, 0.0, 0.25, 1.0])
def test_schedules(end):
  config = OptimizerConfig(
    learning_rate=1e-2, precision_rate=1e-1, warmup_steps=10, end_fraction=end
  )
  moves = _moves(config, steps=50, count=50)
  count = np.arange(50)
  ramp = np.minimum((1 + 9 * count / 10) / 10, 1)  # a tenth at first, all after ten steps
  # Adam under a constant gradient moves by its rate.
  least = end or 0.0
  cosine = (least + (1 - least) * 0.5 * (1 + np.cos(np.pi * count / 50))) * ramp
  np.testing.assert_allclose(-moves["params/block/conv/bias"][:, 0], 1e-2 * cosine, rtol=1e-3)
  level = np.where(count < 40, 1, 0.2) * ramp
  np.testing.assert_allclose(-moves["precision/block/conv/s"][:, 0], 1e-1 * level, rtol=1e-3)


def test_sgd_is_nesterov_momentum():
  moves = _moves(OptimizerConfig(learning_rate=1e-2, warmup_steps=1, rule="sgd"), 10**6, count=3)
  trace, expected = 0.0, []
  for _ in range(3):
    trace = 1 + 0.9 * trace
    expected.append(-1e-2 * (1 + 0.9 * trace))
  np.testing.assert_allclose(moves["params/block/conv/kernel"][:, 0], expected, rtol=1e-4)
  with pytest.raises(ValueError, match="rule must be 'adam' or 'sgd', got 'adamw'"):
    OptimizerConfig(rule="adamw")


@pytest.mark.parametrize("end", [-0.1, 1.1])
def test_an_end_that_is_no_fraction_of_the_peak_is_refused(end):
  with pytest.raises(ValueError, match=rf"end_fraction must be in \[0, 1\], got {end}"):
    OptimizerConfig(end_fraction=end)


def test_in_log_space_is_the_inner_rule_on_logarithms():
  inner = optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(0.1), optax.scale(-0.05))
  p = jnp.float32([1e-4, 0.5, 30.0])
  log = jnp.log(p)
  wrapped = in_log_space(inner)
  state, log_state = wrapped.init(p), inner.init(log)

  def loss(p):
    return jnp.sum(jnp.square(p - 1.0) * jnp.float32([1e3, 1.0, 0.1]))

  for _ in range(25):
    updates, state = wrapped.update(jax.grad(loss)(p), state, p)
    p = optax.apply_updates(p, updates)
    log_grads = jax.grad(lambda v: loss(jnp.exp(v)))(log)
    log_updates, log_state = inner.update(log_grads, log_state, log)
    log = optax.apply_updates(log, log_updates)
    np.testing.assert_allclose(p, jnp.exp(log), rtol=2e-4)
  assert np.all(np.asarray(p) > 0) and not np.allclose(p, [1e-4, 0.5, 30.0], rtol=0.1)


def test_groups_may_be_empty():
  config = OptimizerConfig(scale_rate=1e-2, precision_rate=1e-2)
  tree = {"params": {"norm": {"scale": jnp.ones(2)}}, "precision": {}}
  optimizer = make_optimizer(config, 10)
  updates, _ = optimizer.update(tree, optimizer.init(tree), tree)
  assert np.all(updates["params"]["norm"]["scale"] != 0)
