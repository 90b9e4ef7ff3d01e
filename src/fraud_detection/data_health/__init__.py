"""Whether data are sound enough to decide on: counts against their own history, and features against training.

Counts need no engine: `counts` holds them by day, `volume`, `fraud_rate`, `label_delay` and `known_labels` each compare
them with what came before, with limits that know how much chance alone moves them. `leakage` looks at the training
sample. For users: `docs/data_health.md`.
"""
