"""Chance that can be replayed from any point: the same numbers for a day, whichever days were made before it."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class Stream(IntEnum):
    """What a stream of random numbers is for. A new purpose takes a new number; changing one changes all data."""

    PLACES = 1
    VALIDITY = 2
    PHASE = 3
    LEVEL = 4
    SPREAD = 5
    PACE = 6
    PRICES = 7
    SPENDING = 8
    LARGE_AMOUNTS = 9
    TERMINAL_SPELLS = 10
    TERMINAL_FRAUDS = 11
    CARD_SPELLS = 12
    CARD_FRAUDS = 13
    CARD_TESTING = 14
    LABELS = 15
    DIRT = 16


def generator(seed: int, stream: Stream, day: int = 0) -> np.random.Generator:
    """The random numbers of one purpose on one day (an ordinal; 0 for what no day changes)."""
    return np.random.default_rng((seed, int(stream), day))


def uniform(seed: int, stream: Stream, ids: IntArray) -> FloatArray:
    """One number in (0, 1) for each id, the same wherever the id turns up: the SplitMix64 mix of a keyed id.

    Reference: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    key = np.random.SeedSequence((seed, int(stream))).generate_state(1, np.uint64)
    mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    high_bits: FloatArray = (mixed >> np.uint64(11)).astype(np.float64)
    return (high_bits + 0.5) * 2.0**-53
