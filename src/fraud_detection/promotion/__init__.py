"""When a challenger takes the champion's place.

`precondition_failure` says, before anything is trained, why no decision is possible; `decide` applies the promotion
rule to what was measured; `checks` declares every check, and `explain_decision` says why a decision came out as it did.
Pure functions: evidence in, verdict out. How and why: `docs/decision.md`.
"""

from fraud_detection.promotion.explanation import explain_decision
from fraud_detection.promotion.rule import Evidence, Verdict, decide, precondition_failure

__all__ = ["Evidence", "Verdict", "decide", "explain_decision", "precondition_failure"]
