from experiments.demo import broken_promises


def rows(**changes):
  network = {"name": "heterogeneous", "accuracy": 98.5, "mean_bits": 2.0, "compression": 9.0}
  return [
    {"name": "float32", "accuracy": 99.0, "disagreements": 0},
    {"disagreements": 0} | network | changes,
    {"name": "ResNet-18", "accuracy": None},
  ]


def test_a_demo_that_keeps_its_promises_says_nothing():
  assert broken_promises(rows(), "digits") == []
  assert broken_promises(rows(accuracy=90.0), "fashion_mnist") == []


def test_every_broken_promise_is_named():
  for change, words in (
    ({"accuracy": 97.9}, "loses 1.10 points"),
    ({"mean_bits": 2.01}, "2.010 mean bits"),
    ({"compression": 7.9}, "7.90x"),
    ({"disagreements": 3}, "3 test images"),
  ):
    (broken,) = broken_promises(rows(**change), "digits")
    assert words in broken
  assert len(broken_promises(rows(disagreements=1), "fashion_mnist")) == 1
