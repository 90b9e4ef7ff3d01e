"""How well two models rank the transactions of one hold-out, and how certain their difference is.

Pure functions of numpy arrays: no engine, no registry, no clock. `compare` measures everything that the promotion rule
needs of a look, `measure_alone` what it needs of a first champion, `fit_threshold` from which score on a model alerts.
`estimate_average_precision` and `measure_alerts` say what a model that serves was worth.
"""

from fraud_detection.evaluation.assessment import Comparison, FirstTest, Holdout, amount_floor, compare, measure_alone
from fraud_detection.evaluation.interval import estimate_average_precision
from fraud_detection.evaluation.slices import SliceMetrics, new_cards
from fraud_detection.evaluation.threshold import fit_threshold, measure_alerts

__all__ = [
    "Comparison",
    "FirstTest",
    "Holdout",
    "SliceMetrics",
    "amount_floor",
    "compare",
    "estimate_average_precision",
    "fit_threshold",
    "measure_alerts",
    "measure_alone",
    "new_cards",
]
