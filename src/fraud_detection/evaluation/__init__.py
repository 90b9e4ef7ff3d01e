"""How well two models rank the transactions of one hold-out, and how certain their difference is.

Pure functions of numpy arrays: no engine, no registry, no clock. `compare` measures everything that the promotion rule
needs of a look, `measure_alone` what it needs of a first champion.
"""

from fraud_detection.evaluation.assessment import Comparison, FirstTest, Holdout, amount_floor, compare, measure_alone
from fraud_detection.evaluation.slices import SliceMetrics, new_cards

__all__ = [
    "Comparison",
    "FirstTest",
    "Holdout",
    "SliceMetrics",
    "amount_floor",
    "compare",
    "measure_alone",
    "new_cards",
]
