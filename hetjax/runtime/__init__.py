"""Packed networks from files to functions."""

from hetjax.runtime.load import Network, build, load

__all__ = ["Network", "build", "load"]
