"""How well two models rank the transactions of one hold-out, and how certain their difference is.

Pure functions of numpy arrays: no engine, no registry, no clock. `assess` measures everything that the promotion rule
needs.
"""

from fraud_detection.evaluation.assessment import Assessment, Holdout, assess
from fraud_detection.evaluation.slices import SliceMetrics, new_cards

__all__ = ["Assessment", "Holdout", "SliceMetrics", "assess", "new_cards"]
