"""The timing that a GPU is for, at sizes that can be interpreted."""

import pallas_kernels
from hetjax.report import render
from pallas_kernels import timing, verify

SMALL = timing.Timing(((70, 20),), (2, 9), cache_bytes=1, copy_bytes=1000, repeats=1)


def test_every_mix_is_timed_beside_dense_products(monkeypatch):
  monkeypatch.setattr(timing, "MIXES", {"mixed": {1: 0.5, 4: 0.5}, "1-bit": {1: 1.0}})
  with pallas_kernels.interpreted():
    rows = timing.measure(SMALL)
  assert [row["what"] for row in rows] == ["copy"] + ["product"] * 4
  for row in rows[1:]:
    assert row["microseconds"] > 0 and row["over_bfloat16"] > 0 and row["over_int8"] > 0
  assert {(row["batch"], row["mix"]) for row in rows[1:]} == {
    (batch, mix) for batch in SMALL.batches for mix in ("mixed", "1-bit")
  }
  assert "over_bfloat16" in render(rows, verify.TIMES)


def test_shares_of_a_mix_add_up():
  layout = timing.layout_of({1: 0.6, 2: 0.3, 4: 0.1}, 33)
  assert layout.counts == {4: 5, 2: 9, 1: 19}
