"""Scoring a champion that reads a column which the data no longer have.

Gradient-boosted trees accept missing values, so a champion can be scored without a column. That changes what the
challenger is compared with, so it happens only if the settings declare the column retired.
"""

import numpy as np
import pandas as pd

from fraud_detection.errors import FraudDetectionError
from fraud_detection.features import source_columns
from fraud_detection.registry import Champion


def rows_for_champion(
    champion: Champion, rows: pd.DataFrame, retired_columns: tuple[str, ...], retire: str
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows as the champion reads them: with retired columns, whose values are all missing.

    Args:
        champion: the model in service.
        rows: Features rows.
        retired_columns: `data.retired_columns`.
        retire: the command that retires this champion.

    Returns:
        The rows, and the retired columns that the champion reads.

    Raises:
        FraudDetectionError: it reads columns that neither exist nor are declared retired.
    """
    lost = source_columns(champion.model.missing_columns(rows))
    undeclared = sorted({*lost.values()} - {*retired_columns})
    if undeclared:
        names = ", ".join(undeclared)
        features = sorted(feature for feature, source in lost.items() if source in undeclared)
        raise FraudDetectionError(
            f"the schema changed: version {champion.version}, the champion, was trained with {names}, which the"
            f" settings no longer map; it reads {', '.join(features)}; nothing was trained; map the column again, or,"
            " where it is gone for good, declare it in the settings, and the champion is scored with it missing:"
            f" data.retired_columns: [{names}]; or retire the champion, and the next run trains a successor from the"
            f" start: {retire}"
        )
    return rows.assign(**dict.fromkeys(lost, np.nan)), tuple(sorted({*lost.values()}))
