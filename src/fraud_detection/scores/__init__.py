"""The scores of the champion: which transactions are new, what is kept of each, and the lists of alerts.

`increments` finds what is new, `manifest` says what has been scored, `batches` writes it exactly once.
"""

from fraud_detection.scores.batches import Batch, ScoreStore
from fraud_detection.scores.manifest import ScoredDay, ScoreManifest

__all__ = ["Batch", "ScoreManifest", "ScoreStore", "ScoredDay"]
