"""Features of transactions: what was known about the card and the terminal at the time of each.

`definitions` names them; `cards`, `terminals` and `calendar` compute them in pure numpy; `compute` is the Spark plan
that calls these kernels on whole partitions.
"""

from fraud_detection.features.between import features_between, features_columns
from fraud_detection.features.compute import feature_names, with_features
from fraud_detection.features.definitions import BASE_FEATURES, source_columns

__all__ = ["BASE_FEATURES", "feature_names", "features_between", "features_columns", "source_columns", "with_features"]
