"""hetjax and other engines side by side: peers, limits, profiles, calibration of a target.

`python -m hetjax bench` is the way in. What this file exports is all that other rooms use.
"""

from hetjax.bench.timing import Timing, bursts, interleaved

__all__ = ["Timing", "bursts", "interleaved"]
