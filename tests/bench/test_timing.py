"""Interleaved timing on a clock that the test turns."""

import threading
import time

import pytest

from hetjax.bench import Timing, interleaved, timing


class _Clock:
  """Functions that take a given time by it."""

  def __init__(self, monkeypatch):
    self.now, self.calls = 0.0, []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)

  def takes(self, name, durations):
    turns = iter(durations)

    def run():
      self.calls.append(name)
      self.now += next(turns)

    return run


def test_peers_take_turns_and_warm_up_first(monkeypatch):
  clock = _Clock(monkeypatch)
  functions = {"a": clock.takes("a", [100.0] * 3 + [1.0] * 9), "b": clock.takes("b", [2.0] * 12)}
  found = interleaved(functions, seconds=0.0, least=4)
  assert "".join(clock.calls) == "aaabbb" + "ab" * 4
  assert found == {"a": Timing(1.0, 1.0, 1.0, 4), "b": Timing(2.0, 2.0, 2.0, 4)}


def test_it_goes_on_until_the_time_is_used_up(monkeypatch):
  clock = _Clock(monkeypatch)
  found = interleaved({"a": clock.takes("a", [0.5] * 99)}, seconds=10.0, least=2)
  assert found["a"].repeats == 20


def test_quartiles_in_seconds(monkeypatch):
  clock = _Clock(monkeypatch)
  durations = [9.0] * 3 + [0.004, 0.001, 0.005, 0.002, 0.003]
  found = interleaved({"a": clock.takes("a", durations)}, seconds=0.0, least=5)["a"]
  assert (found.low, found.median, found.high) == pytest.approx((0.002, 0.003, 0.004))
  assert found.microseconds == pytest.approx(3000)


def test_bursts_wait_warm_up_and_share_the_time(monkeypatch):
  clock = _Clock(monkeypatch)
  monkeypatch.setattr(timing, "settle", lambda: clock.calls.append("-"))
  functions = {
    "a": clock.takes("a", [9.0, 1.0, 1.0, 1.0] * 2),
    "b": clock.takes("b", [9.0, 5.0, 5.0] * 2),
  }
  found = timing.bursts(functions, seconds=0.0, burst=2.5, least=2)
  assert "".join(clock.calls) == "-aaaa-bbb" * 2
  assert found == {"a": Timing(1.0, 1.0, 1.0, 6), "b": Timing(5.0, 5.0, 5.0, 4)}


def test_bursts_go_on_until_the_time_is_used_up(monkeypatch):
  clock = _Clock(monkeypatch)
  monkeypatch.setattr(timing, "settle", lambda: None)
  found = timing.bursts({"a": clock.takes("a", [1.0] * 99)}, seconds=12.0, burst=2.0, least=1)
  assert found["a"].repeats == 8


def test_turns_begin_when_threads_rest():
  """A thread that works for a while is waited for, one that never rests is not."""

  def spin(stop):
    while not stop.is_set():
      sum(range(1000))

  stop = threading.Event()
  spinner = threading.Thread(target=spin, args=(stop,))
  spinner.start()
  threading.Timer(0.05, stop.set).start()
  begun = time.perf_counter()
  timing.settle(longest=10.0)
  assert stop.is_set() and time.perf_counter() - begun < 5.0
  spinner.join()

  stop = threading.Event()
  spinner = threading.Thread(target=spin, args=(stop,))
  spinner.start()
  timing.settle(longest=0.05)
  assert not stop.is_set()
  stop.set()
  spinner.join()
