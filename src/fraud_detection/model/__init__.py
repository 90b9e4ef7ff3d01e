"""The model: how it is fitted, and what scoring with it needs."""
