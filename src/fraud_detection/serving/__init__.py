"""Serving: scores of single transactions, from features that are kept up to date in memory."""
