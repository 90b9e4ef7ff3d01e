"""Transactions as the rest of the system knows them: mapped, checked, each once; and what was wrong with the others.

The contract with the data's owner is in `docs/data.md`.
"""

from fraud_detection.datasets.checks import REASONS
from fraud_detection.datasets.profile import LabelTableProfile, Profile
from fraud_detection.datasets.quarantine import quarantine_file, write_quarantine
from fraud_detection.datasets.transactions import Transactions, read_transactions

__all__ = [
    "REASONS",
    "LabelTableProfile",
    "Profile",
    "Transactions",
    "quarantine_file",
    "read_transactions",
    "write_quarantine",
]
