"""Launchers: `python -m experiments.train`, `python -m experiments.demo`."""
