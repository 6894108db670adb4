"""The report of an exported vector: one HTML file that stands alone. Needs no model and no torch."""

from trimtab.selector.report.report import render_report

__all__ = ["render_report"]
