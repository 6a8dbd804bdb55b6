"""Timing of peers side by side."""

from hetjax.bench.timing import Timing, interleaved

__all__ = ["Timing", "interleaved"]
