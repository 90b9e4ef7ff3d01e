"""The models and their versions, on MLflow: log, register, promote, resume what a killed run left, roll back.

MLflow is imported when it is first used, which takes seconds: see `connection.import_mlflow`.
"""

from fraud_detection.registry.aliases import Retirement
from fraud_detection.registry.candidates import CandidateChangedError, CandidateLostError, NewCandidate
from fraud_detection.registry.champion import Champion, ChampionAlias, load_champion
from fraud_detection.registry.lease import Leases
from fraud_detection.registry.log_chain import VerifiedLog
from fraud_detection.registry.recording import RunRecord
from fraud_detection.registry.versions import Registry

__all__ = [
    "CandidateChangedError",
    "CandidateLostError",
    "Champion",
    "ChampionAlias",
    "Leases",
    "NewCandidate",
    "Registry",
    "Retirement",
    "RunRecord",
    "VerifiedLog",
    "load_champion",
]
