"""Scoring a champion that reads a column which the data no longer have.

Gradient-boosted trees accept missing values, so a champion can be scored without a column. That changes what the
challenger is compared with, so it happens only if the settings declare the column retired.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fraud_detection.errors import FraudDetectionError
from fraud_detection.features import source_columns
from fraud_detection.registry import Champion


@dataclass(frozen=True)
class MissingColumns:
    """What the champion reads and the data no longer have."""

    features: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """The retired columns that the features are made from, sorted."""


def missing_columns(
    champion: Champion, features: Sequence[str], retired_columns: tuple[str, ...], retire: str
) -> MissingColumns:
    """What the champion is scored without.

    Args:
        champion: the model in service.
        features: the columns of the Features rows.
        retired_columns: `data.retired_columns`.
        retire: the command that retires this champion.

    Raises:
        FraudDetectionError: it reads columns that neither exist nor are declared retired.
    """
    lost = source_columns(champion.model.missing_columns(pd.DataFrame(columns=list(features))))
    undeclared = sorted({*lost.values()} - {*retired_columns})
    if undeclared:
        names = ", ".join(undeclared)
        read = sorted(feature for feature, source in lost.items() if source in undeclared)
        raise FraudDetectionError(
            f"the schema changed: version {champion.version}, the champion, was trained with {names}, which the"
            f" settings no longer map; it reads {', '.join(read)}; nothing was trained; map the column again, or,"
            " where it is gone for good, declare it in the settings, and the champion is scored with it missing:"
            f" data.retired_columns: [{names}]; or retire the champion, and the next run trains a successor from the"
            f" start: {retire}"
        )
    return MissingColumns(tuple(sorted(lost)), tuple(sorted({*lost.values()})))
