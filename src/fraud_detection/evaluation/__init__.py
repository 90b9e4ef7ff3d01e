"""Is the challenger really better? Metrics, their uncertainty, and the rule that decides.

Pure functions of numpy arrays over the rows of one hold-out: no engine, no registry, no clock. `assess` measures both
models, `decide` applies the promotion rule, `obstacle` says beforehand whether a decision is possible at all. How and
why: `docs/decision.md`.
"""

from fraud_detection.evaluation.assessment import Assessment, Holdout, assess
from fraud_detection.evaluation.promotion import Evidence, Verdict, decide, obstacle
from fraud_detection.evaluation.slices import SliceMetrics, new_cards

__all__ = [
    "Assessment",
    "Evidence",
    "Holdout",
    "SliceMetrics",
    "Verdict",
    "assess",
    "decide",
    "new_cards",
    "obstacle",
]
