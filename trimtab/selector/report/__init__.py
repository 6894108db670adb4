"""The report of an exported vector: one HTML file that stands alone. Needs no model, no torch."""

from trimtab.selector.report.report import render_report, reply_to_show
from trimtab.selector.report.sentence import found, how_many

__all__ = ["found", "how_many", "render_report", "reply_to_show"]
