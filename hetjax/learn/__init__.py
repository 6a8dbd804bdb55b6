"""Learning of precisions: regularizers, budgets, assignment of levels, training and its records."""
