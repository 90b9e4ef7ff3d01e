"""When a challenger takes the champion's place.

`sequential` says when candidates are opened and looked at, and at what risk; `rule` checks what a look has measured;
`checks` declares every check, and `explanation` says why a decision came out as it did. Pure functions: measurements
in, checks out. How and why: `docs/promotion.md`.
"""

from fraud_detection.promotion.explanation import (
    explain_checks,
    explain_decision,
    explain_floor,
    explain_measurement,
)
from fraud_detection.promotion.refit import RefitScores, check_refit, refit_line
from fraud_detection.promotion.rule import (
    Evidence,
    check_first_champion,
    check_first_champion_possible,
    check_look,
    check_training_possible,
    shown_look,
)
from fraud_detection.promotion.summary import summarise

__all__ = [
    "Evidence",
    "RefitScores",
    "check_first_champion",
    "check_first_champion_possible",
    "check_look",
    "check_refit",
    "check_training_possible",
    "explain_checks",
    "explain_decision",
    "explain_floor",
    "explain_measurement",
    "refit_line",
    "shown_look",
    "summarise",
]
