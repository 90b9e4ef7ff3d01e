"""One self-contained HTML page per run: did the challenger win, by how much, can it be trusted, how to go back."""

from fraud_detection.report.evidence import DailyCounts, ReportData
from fraud_detection.report.page import render

__all__ = ["DailyCounts", "ReportData", "render"]
