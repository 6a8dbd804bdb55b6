"""Networks whose input channels each have their own precision (SySMOL, arXiv 2311.14114v2).

`compile`, `load`, `export` and `load_exported` are those of `hetjax.runtime`, imported on first use
so that importing the package stays light.
"""

import importlib

__version__ = "0.1.0"

_RUNTIME = ("compile", "export", "load", "load_exported")


def __getattr__(name: str):
  if name in _RUNTIME:
    return getattr(importlib.import_module("hetjax.runtime"), name)
  raise AttributeError(f"module 'hetjax' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*globals(), *_RUNTIME])
