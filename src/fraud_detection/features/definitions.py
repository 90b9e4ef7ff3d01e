"""The features: their names, the windows that they look at, and the input column that each is made of."""

from collections.abc import Iterable

from fraud_detection.settings import Columns

FEATURE_VERSION = 2
"""Raise it with any change by which a feature gets another value: candidates before and after it are not one recipe."""

DAY = 86_400_000_000
"""Microseconds in a day."""
HOUR = DAY // 24
WINDOW_DAYS = (1, 7, 30)
LOOK_BACK = 30 * DAY
"""No feature reads a card's past beyond this, or a terminal's beyond this and the label delay."""
LARGEST_AMOUNT = 1e12
"""Amounts are capped here before they become cents: a window of 90,000 such rows still sums exactly."""

LAST_LABELS = (2, 3, 5)

CARD_WINDOW_FEATURES = tuple(f"card_{what}_{days}d" for days in WINDOW_DAYS for what in ("count", "mean_amount"))
CARD_PAST_FEATURES = (
    "amount_to_past_mean",
    "amount_z",
    "amount_to_past_median",
    "amount_to_past_p90",
    "amount_to_past_max",
    "card_hours_since_last",
    *(f"card_large_count_{days}d" for days in WINDOW_DAYS),
    "card_large_sum_30d",
)
TERMINAL_WINDOW_FEATURES = tuple(f"terminal_{what}_{days}d" for days in WINDOW_DAYS for what in ("count", "fraud_rate"))
TERMINAL_FRAUD_FEATURES = (
    *(f"terminal_fraud_share_last_{last}" for last in LAST_LABELS),
    "terminal_unexplained_count_30d",
    "terminal_days_since_first_unexplained",
    "terminal_days_since_last_unexplained",
    "terminal_genuine_since_unexplained",
    "terminal_unexplained_least_amount",
    "terminal_unexplained_least_to_median",
    "terminal_unexplained_last_amount",
)
CARD_FEATURES = CARD_WINDOW_FEATURES + CARD_PAST_FEATURES
TERMINAL_FEATURES = TERMINAL_WINDOW_FEATURES + TERMINAL_FRAUD_FEATURES

BASE_FEATURES = (
    "amount",
    "night",
    "weekend",
    *CARD_WINDOW_FEATURES,
    *TERMINAL_WINDOW_FEATURES,
)
"""The 15 inputs of the Fraud Detection Handbook, under our names."""


def feature_columns(columns: Columns, *, base_only: bool = False) -> tuple[str, ...]:
    """The computed features, in order. Which there are depends on the mapped columns."""
    names = ["amount", "night", "weekend"]
    if columns.customer_id is not None:
        names += CARD_WINDOW_FEATURES if base_only else CARD_FEATURES
    if columns.terminal_id is not None:
        names += TERMINAL_WINDOW_FEATURES if base_only else TERMINAL_FEATURES
    return tuple(names)


def source_columns(features: Iterable[str]) -> dict[str, str]:
    """For each numeric feature or extra column, the optional input column that it is made of."""
    made = dict.fromkeys(CARD_FEATURES, "customer_id") | dict.fromkeys(TERMINAL_FEATURES, "terminal_id")
    return {feature: made.get(feature, feature) for feature in features}
