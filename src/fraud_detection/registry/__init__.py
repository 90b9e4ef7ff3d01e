"""The models and their versions, on MLflow: log, register, promote, complete what a killed run left, roll back.

MLflow is imported when it is first used, which takes seconds: see `connection.import_mlflow`.
"""

from fraud_detection.registry.connection import import_mlflow
from fraud_detection.registry.registry import Champion, Registry
from fraud_detection.registry.state import Pin, Retirement

__all__ = ["Champion", "Pin", "Registry", "Retirement", "import_mlflow"]
