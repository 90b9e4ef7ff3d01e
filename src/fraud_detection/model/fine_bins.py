"""Fine bins of a model's inputs: by them distributions are counted in one pass, whatever the values are.

Numbers have 32 bins of equal width from each power of two to the next; categories are those that the model knows.
"""

import numpy as np
from numpy.typing import NDArray

from fraud_detection.model.encoding import FloatArray

_LOST_BITS = 18  # of the 23 of a float32's fraction 5 stay
_LARGEST_BIN = 0x7FFFFFFF >> _LOST_BITS
FIRST_BIN = MISSING_BIN = -_LARGEST_BIN - 2
"""Of what is missing; all others are larger."""
OTHER_BIN = -1
"""Of a category that the model does not know."""
BINS = _LARGEST_BIN - FIRST_BIN + 1

Ints = NDArray[np.int64]


def fine_bins(values: FloatArray) -> Ints:
    """The fine bin of each number: bins ascend as the numbers do."""
    bits = (values + np.float32(0)).view(np.int32).astype(np.int64)  # −0 becomes 0
    ordered = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits) >> _LOST_BITS
    return np.where(np.isnan(values), MISSING_BIN, ordered)


def category_bins(chosen: FloatArray) -> Ints:
    """The place of each row's category in the vocabulary."""
    known = np.where(chosen.max(axis=1) > 0, chosen.argmax(axis=1), OTHER_BIN)
    return np.where(np.isnan(chosen[:, 0]), MISSING_BIN, known)
