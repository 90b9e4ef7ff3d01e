"""Features of transactions: what was known about the card and the terminal at the time of each.

`kernels` computes them in pure numpy; `plan` carries them out on an engine.
"""

from fraud_detection.features.compute import BASE_FEATURES, feature_names, source_columns, with_features

__all__ = ["BASE_FEATURES", "feature_names", "source_columns", "with_features"]
