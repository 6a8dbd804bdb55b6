"""Packed networks from files and models to functions: loaded, fused, exported."""

from hetjax.runtime.export import export, load_exported
from hetjax.runtime.load import build, load
from hetjax.runtime.network import Network, compile

__all__ = ["Network", "build", "compile", "export", "load", "load_exported"]
