"""The language model sees no later token, in any mode."""

import jax
import numpy as np
import pytest

from hetjax import models
from tests.shared.families import tiny_case


@pytest.mark.parametrize("mode", ["float", "quantized"])
def test_no_token_changes_what_is_predicted_before_it(mode):
  case = tiny_case("language")
  run = jax.jit(lambda x: case.model.apply(case.variables, x, mode=mode))
  tokens = case.inputs
  before = np.asarray(run(tokens))
  for place in range(1, tokens.shape[1]):
    changed = tokens.copy()
    changed[:, place:] = (changed[:, place:] + 1) % 11
    after = np.asarray(run(changed))
    np.testing.assert_array_equal(after[:, :place], before[:, :place])
    assert np.all(np.any(after[:, place] != before[:, place], axis=-1))


def test_wrong_inputs_are_named():
  model = models.create("language_model", width=8, depth=1, heads=2, max_length=4)
  init = lambda x: model.init(jax.random.key(0), x)
  with pytest.raises(ValueError, match=r"x must be integers \[batch, tokens\], got float32"):
    init(np.zeros((1, 4), np.float32))
  with pytest.raises(ValueError, match="at most 4 tokens, got 5"):
    init(np.zeros((1, 5), np.int32))
