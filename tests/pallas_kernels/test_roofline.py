"""Bounds on paper, by hand where a hand suffices."""

import json

import pytest

from experiments import gpu_roofline
from hetjax.hardware import load_target
from pallas_kernels import roofline, verify
from pallas_kernels.roofline import Chip, Layer

# A GB a millisecond, a tera-operation a second for int8, one multiprocessor at a GHz.
CHIP = Chip("chip", 1000, 0.5, 1.0, 1, 1.0, "a100", 2.0)


def test_bytes_operations_and_instructions_of_a_product():
  layer = Layer(64, 64, 1, {4: 256, 1: 256}, 128)
  bound = roofline.packed(CHIP, layer, True)
  codes, records, out = 128 * (256 * 5) / 8, 64 * 256 * 5 / 8, 64 * 128 * 2.5 / 8
  assert bound.memory == pytest.approx((codes + records + out) / 1e6)
  assert bound.matrix == pytest.approx(2 * 64 * 512 * 128 / 1e6)
  counts = roofline.instructions("a100")["matmul 64"]
  assert bound.issue == pytest.approx(128 * 256 * (counts[4] + counts[1]) / 128 / 1e3)
  assert bound.longest == max(bound.memory, bound.matrix, bound.issue)
  assert getattr(bound, bound.binds) == bound.longest
  built = roofline.packed(CHIP, layer, False)
  assert built.memory - bound.memory == pytest.approx(2 * (64 * 512 + 8 * 64 * 128) / 1e6)


def test_eight_bits_take_two_columns_and_rows_whole_tiles():
  few = roofline.packed(CHIP, Layer(9, 9, 1, {4: 64}, 64), True)
  assert few.matrix == pytest.approx(2 * 16 * 64 * 64 / 1e6)
  eight = roofline.packed(CHIP, Layer(9, 9, 1, {8: 64}, 64), True)
  assert eight.matrix == pytest.approx(2 * few.matrix)
  once = json.loads(verify.BUDGETS.read_text())["matmul 8-bit, 16 rows"]["a100"]["per_weight"]
  assert eight.issue == pytest.approx(64 * 64 * 2 * once / 128 / 1e3)


def test_few_vectors_and_groups_need_no_matrix_units():
  bound = roofline.packed(CHIP, Layer(2, 2, 1, {1: 1024}, 64), True)
  per_weight = roofline.instructions("a100")["matvec"][1]
  assert bound.matrix == 0
  assert bound.issue == pytest.approx(2 * 1024 * 64 * per_weight / 128 / 1e3)
  depthwise = Layer(100, 100, 9, {4: 32}, 32, groups=32)
  assert depthwise.weights == 9 * 32
  assert roofline.packed(CHIP, depthwise, True).matrix == 0
  assert roofline.dense(CHIP, depthwise, 8).issue == pytest.approx(100 * 9 * 32 / 4 / 128 / 1e3)


def test_dense_layers_move_whole_numbers():
  layer = Layer(64, 64, 1, {4: 512}, 128)
  assert roofline.dense(CHIP, layer, 16).memory == pytest.approx(
    2 * (512 * 128 + 64 * 512 + 64 * 128) / 1e6
  )
  assert roofline.dense(CHIP, layer, 16).matrix == 2 * roofline.dense(CHIP, layer, 8).matrix


def test_one_bit_weights_at_batch_1_are_sixteen_times_fewer_bytes():
  row = gpu_roofline.row(gpu_roofline.TRANSFORMER, roofline.chips()["H100"], 1, "1-bit")
  assert row["over_bf16"] == pytest.approx(16, rel=0.01)
  assert row["over_bf16"] > row["over_bf16_launched"] > row["over_bf16_as_built"]
  assert row["binds"] == {"memory": 1.0}


@pytest.mark.parametrize("chip", roofline.chips().values(), ids=lambda c: c.name)
def test_shipped_targets_are_those_of_the_model(chip):
  made = roofline.target(chip, gpu_roofline.TARGET_BATCH)
  assert load_target(made.name) == made
  assert [v.bits for v in made.levels] == [1, 2, 4, 8]
