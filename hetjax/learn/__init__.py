"""Learning of precisions: regularizers, budgets, assignment of levels, training and its records."""

from hetjax.learn.memory import keep_memory

__all__ = ["keep_memory"]
