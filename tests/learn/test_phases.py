"""Each phase starts from its predecessor with the collections it needs."""

import dataclasses

import jax
import numpy as np
import pytest

from hetjax.core import Assignment
from hetjax.learn import phases
from hetjax.learn.budget import Budget
from tests.shared import tiny
from tests.shared.nets import random_assignment


class _Stop(Exception):
  """Ends a phase before its first step."""


@dataclasses.dataclass(frozen=True)
class _Peek(phases.Run):
  """A run whose training only shows what it would start from."""

  def train(self, phase, start, teacher=None):
    raise _Stop(phase, start())


@pytest.fixture(scope="module")
def run():
  shared = tiny.shared().run
  fields = {f.name: getattr(shared, f.name) for f in dataclasses.fields(shared)}
  return _Peek(**fields)


def _start(function, *arguments):
  with pytest.raises(_Stop) as stopped:
    function(*arguments)
  return stopped.value.args


def test_search_starts_calibrated_from_the_float_network(run):
  trained = tiny.start_variables(tiny.shared())
  stale = {**trained, "assignment": {"unused": 1}}
  phase, start = _start(phases.search, run, tiny.shared().recipe.search, stale)
  assert phase.mode == "noise" and set(start) == {"params", "batch_stats", "precision"}
  images = run.example()
  plain = {k: trained[k] for k in ("params", "batch_stats")}
  calibrated = {k: start[k] for k in ("params", "batch_stats")}
  apply = jax.jit(run.model.apply)
  np.testing.assert_allclose(apply(calibrated, images), apply(plain, images), rtol=1e-3, atol=1e-4)
  assert float(start["params"]["head"]["beta"]) != 1


def test_finetune_starts_at_its_levels_with_fresh_norms(run):
  trained = tiny.start_variables(tiny.shared())
  assignment = random_assignment(run.specs)
  phase, start = _start(phases.finetune, run, tiny.shared().recipe.finetune, trained, assignment)
  assert phase.mode == "quantized" and set(start) == {"params", "batch_stats", "assignment"}
  for name, bits in assignment.bits.items():
    if run.specs[name].pinned_bits is None:
      block, layer = name.split("/")
      np.testing.assert_array_equal(start["assignment"][block][layer]["bits"], bits)
  old, new = (v["batch_stats"]["stem_norm"]["mean"] for v in (trained, start))
  assert not np.allclose(old, new)


def test_levels_follow_learned_bits_within_the_budget(run):
  searched = tiny.start_variables(tiny.shared())
  s = np.linspace(-3, 3, 4, dtype=np.float32)
  searched["precision"] = jax.tree.map(lambda leaf: s, searched["precision"])
  assignment = phases.assign_levels(run, searched, Budget("mean_bits_params", 3.5))
  assert isinstance(assignment, Assignment)
  for name, spec in run.specs.items():
    bits = assignment.bits[name].tolist()
    assert bits == ([8] * len(bits) if spec.pinned_bits else sorted(bits, reverse=True))


def test_norms_are_re_estimated_over_as_many_batches_as_asked(run):
  exp, trained = tiny.shared(), tiny.start_variables(tiny.shared())
  assignment = Assignment.uniform(exp.run.specs, 4)

  def norms(batches):
    phase = dataclasses.replace(exp.recipe.finetune, norm_batches=batches)
    return phases.at_levels(exp.run, phase, trained, assignment)["batch_stats"]

  unlike = lambda a, b: (
    not all(
      np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )
  )
  assert not unlike(norms(0), trained["batch_stats"]) and not unlike(norms(None), norms(50))
  assert unlike(norms(1), norms(0)) and unlike(norms(1), norms(50))
