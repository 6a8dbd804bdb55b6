"""Networks whose input channels each have their own precision (SySMOL, arXiv 2311.14114v2)."""

__version__ = "0.1.0"
