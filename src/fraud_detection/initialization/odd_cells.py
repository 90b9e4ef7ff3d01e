"""How many cells of a sound column may be odd: no time, no number, no label. A run rejects their rows by name."""

ODD_SHARE = 0.015
_FEW = 20


def most_odd(cells: int) -> float:
    """Of so many cells; of a small table one, however small the share."""
    return max(1.0 if cells >= _FEW else 0.0, ODD_SHARE * cells)
