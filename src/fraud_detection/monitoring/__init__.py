"""How the champion does at work, and the page that shows it. For people to look at: no decision reads it."""

from fraud_detection.monitoring.dashboard import write_dashboard

__all__ = ["write_dashboard"]
