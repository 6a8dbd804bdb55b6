"""Results for people and for programs: tables, histograms, JSON with provenance."""

from hetjax.report.provenance import provenance
from hetjax.report.results import write_json
from hetjax.report.tables import Column, bar, render

__all__ = ["Column", "bar", "provenance", "render", "write_json"]
