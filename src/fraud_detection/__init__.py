"""Scheduled retraining of a card-fraud model.

`retraining.retrain` tells the story of one run; `settings.Settings` holds every choice; `cli` is the command line.
"""

__version__ = "0.1.0"
