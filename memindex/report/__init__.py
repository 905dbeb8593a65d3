"""Figures and the self-contained HTML report of a study; the only place that imports matplotlib."""

from memindex.report.families import Families, families_of
from memindex.report.figures import save_figure
from memindex.report.page import write_report

__all__ = ["Families", "families_of", "save_figure", "write_report"]
