"""One self-contained HTML file that shows what a run did. Start at :func:`write_report`."""

from ganinv.report.report import ReportRequest, write_report

__all__ = ["ReportRequest", "write_report"]
