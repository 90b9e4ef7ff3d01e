"""Measurements that take too long for a test; `make benchmark` and `make prove` run them."""
