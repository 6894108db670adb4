"""The report of an exported vector: one HTML file that stands alone. Needs no model, no torch."""

from trimtab.selector.report.report import render_report, reply_to_show
from trimtab.selector.report.sentence import found

__all__ = ["found", "render_report", "reply_to_show"]
