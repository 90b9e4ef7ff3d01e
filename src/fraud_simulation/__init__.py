"""Simulated card transactions: the same for a seed and a day, with frauds that change and labels that come late."""
