"""Transactions as the rest of the system knows them: mapped, checked, each once; and what was wrong with the others.

The contract with the data's owner is in `docs/data.md`.
"""

from fraud_detection.transactions.profile import LabelTableProfile, Profile
from fraud_detection.transactions.quarantine import quarantine_file, write_quarantine
from fraud_detection.transactions.reader import Transactions, read_transactions
from fraud_detection.transactions.rules import REASONS

__all__ = [
    "REASONS",
    "LabelTableProfile",
    "Profile",
    "Transactions",
    "quarantine_file",
    "read_transactions",
    "write_quarantine",
]
