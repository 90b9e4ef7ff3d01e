"""One self-contained HTML page per run: did the challenger win, by how much, can it be trusted, how to roll back."""

from fraud_detection.report.data import DailyCounts, ReportData
from fraud_detection.report.drawing import Drawing, draw
from fraud_detection.report.page import render

__all__ = ["DailyCounts", "Drawing", "ReportData", "draw", "render"]
