"""A champion that scores single transactions, as a batch of scores does."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fraud_detection.commands import Commands
from fraud_detection.features.definitions import feature_columns
from fraud_detection.model.encoding import RowEncoder
from fraud_detection.model.reasons import top_reasons
from fraud_detection.registry import Champion
from fraud_detection.runs.retired_columns import missing_columns
from fraud_detection.settings import Settings


@dataclass(frozen=True)
class Score:
    """What a champion says of a transaction."""

    probability: float
    alert: bool | None
    """None where its version has no threshold."""
    reasons: list[str] | None
    """Of an alert; see `model.reasons`."""


class Scorer:
    """A champion, ready to score."""

    def __init__(self, champion: Champion, settings: Settings, commands: Commands) -> None:
        """Prepare a champion.

        Raises:
            FraudDetectionError: it reads columns that the settings no longer map.
        """
        columns = settings.data.columns
        given = (*feature_columns(columns), *columns.extra_numeric, *columns.extra_categorical)
        retire = commands.retire_champion(champion.version)
        missing = missing_columns(champion, given, settings.data.retired_columns, retire).features
        self.version, self.sha256 = champion.version, champion.sha256
        self.threshold = None if champion.threshold is None else champion.threshold.probability
        self._model, self._reasons = champion.model, settings.scoring.reasons
        self._model.booster.set_param({"nthread": 1})  # for one row, threads cost more than they bring
        self._missing = dict.fromkeys(missing)
        self._encode = RowEncoder(self._model.inputs, (*given, *missing))

    def score(self, values: Mapping[str, float | str | None]) -> Score:
        """Score a transaction, given its features and extra columns."""
        inputs = self._encode({**values, **self._missing})
        probability = self._model.predict_inputs(inputs)
        # As in a batch, the threshold is compared as a double.
        alert = None if self.threshold is None else bool(probability.astype(np.float64)[0] >= self.threshold)
        reasons = top_reasons(self._model, inputs, self._reasons)[0] if alert else None
        return Score(float(probability[0]), alert, reasons)
