"""Write invented card payments in the form of two foreign files: docs/your-data.md walks through both.

    python scripts/create_foreign_data.py --shape merchants --output merchants.csv
    python scripts/create_foreign_data.py --shape numbers --output numbers.csv

`numbers`: no card, no terminal and no id; seconds since the first payment, anonymous numbers V1 to V28, an amount and a
class. `merchants`: a date and a time of day, card numbers, merchants with categories, dollars, labels in words, and
columns that a model should not have. The same options give the same file.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

START = pd.Timestamp("2025-01-06")
_CATEGORIES = ("grocery", "fuel", "restaurant", "travel", "shopping_net", "shopping_pos", "misc_net", "health")
_LEVELS = (28.0, 42.0, 24.0, 160.0, 62.0, 48.0, 38.0, 55.0)
_RISKY = (4, 6, 3)
_ANONYMOUS = 28
_DIRECTIONS = {2: -1.1, 3: 1.4, 6: -0.9, 9: -1.3, 10: 1.2, 11: -1.6, 13: -1.9, 15: -0.8, 16: -1.4}
"""Which of the anonymous numbers frauds shift, and how far, in standard deviations."""


def numbers(rows: int, days: int, seed: int) -> pd.DataFrame:
    """Anonymous payments: frauds have shifted numbers and slightly other amounts."""
    random = np.random.default_rng(seed)
    seconds = np.sort(random.integers(0, days * 86_400, rows))
    seconds[0] = 0
    fraud = random.random(rows) < 0.008
    values = random.normal(0.0, np.linspace(1.9, 0.4, _ANONYMOUS), (rows, _ANONYMOUS))
    strength = random.gamma(2.0, 0.7, rows)
    for column, shift in _DIRECTIONS.items():
        values[:, column] += np.where(fraud, shift * strength, 0.0)
    amount = np.where(fraud, random.lognormal(3.2, 1.7, rows), random.lognormal(3.1, 1.2, rows))
    columns = {"Time": seconds} | {f"V{number + 1}": values[:, number].round(6) for number in range(_ANONYMOUS)}
    return pd.DataFrame(columns | {"Amount": amount.round(2), "Class": fraud.astype(int)})


@dataclass(frozen=True)
class _Payments:
    """Payments of cards at merchants, in the order of their times."""

    minute: Ints
    card: Ints
    merchant: Ints
    amount: Floats
    fraud: NDArray[np.bool_]


def merchants(rows: int, days: int, seed: int) -> pd.DataFrame:
    """Payments with merchants; frauds are bursts on single cards, large for the card and at risky merchants."""
    random = np.random.default_rng(seed)
    cards, shops = max(20, rows // 60), 300
    category = random.integers(0, len(_CATEGORIES), shops)
    spending = random.lognormal(0.0, 0.6, cards)
    usual = _usual_payments(random, rows, days, spending, category)
    stolen = _stolen_cards(random, max(5, rows // 450), days, spending, category)
    paid = _together(usual, stolen)
    when = START + pd.to_timedelta(paid.minute, unit="min")
    first = random.choice(["Anna", "Ben", "Clara", "David", "Eva", "Frank"], cards)
    return pd.DataFrame(
        {
            "trans_date": when.strftime("%d/%m/%Y"),
            "trans_time": when.strftime("%H:%M"),
            "cc_num": [_card_number(card) for card in paid.card],
            "merchant": [f"M{number:04d} Ltd" for number in paid.merchant],
            "category": np.array(_CATEGORIES)[category[paid.merchant]],
            "amt": [f"${amount:,.2f}" for amount in paid.amount],
            "first": first[paid.card],
            "street": [f"{17 + card % 90} Long Street" for card in paid.card],
            "city_pop": 1_000 + 137 * (paid.card % 400),
            "currency_code": "USD",
            "dispute_date": np.where(paid.fraud, (when + pd.Timedelta(days=9)).strftime("%d/%m/%Y"), ""),
            "is_fraud": np.where(paid.fraud, "Fraud", "Genuine"),
        }
    )


def _usual_payments(random: np.random.Generator, rows: int, days: int, spending: Floats, category: Ints) -> _Payments:
    card, merchant = random.integers(0, len(spending), rows), random.integers(0, len(category), rows)
    hour = np.clip(random.normal(14.0, 4.0, rows), 0.0, 23.9)
    minute = random.integers(0, days, rows) * 1440 + (hour * 60).astype(np.int64)
    level = np.array(_LEVELS)[category[merchant]] * spending[card]
    return _Payments(minute, card, merchant, level * random.lognormal(0.0, 0.5, rows), np.zeros(rows, bool))


def _stolen_cards(random: np.random.Generator, bursts: int, days: int, spending: Floats, category: Ints) -> _Payments:
    """Each burst: a few payments within two days, two to eight times what the card pays there."""
    size = random.integers(2, 8, bursts)
    rows = int(size.sum())
    card = np.repeat(random.integers(0, len(spending), bursts), size)
    begin = np.repeat(random.integers(0, max(1, days * 1440 - 2880), bursts), size)
    risky = np.flatnonzero(np.isin(category, _RISKY))
    merchant = np.where(random.random(rows) < 0.7, random.choice(risky, rows), random.integers(0, len(category), rows))
    level = np.array(_LEVELS)[category[merchant]] * spending[card]
    amount = level * random.uniform(2.0, 8.0, rows)
    return _Payments(begin + random.integers(0, 2880, rows), card, merchant, amount, np.ones(rows, bool))


def _together(one: _Payments, other: _Payments) -> _Payments:
    order = np.argsort(np.concatenate([one.minute, other.minute]), kind="stable")

    def both(name: str) -> NDArray[np.generic]:
        found: NDArray[np.generic] = np.concatenate([getattr(one, name), getattr(other, name)])[order]
        return found

    return _Payments(**{name: both(name) for name in ("minute", "card", "merchant", "amount", "fraud")})  # type: ignore[arg-type]


def _card_number(card: int) -> str:
    """An invented number of 16 digits with its check digit; no issuer has the prefix."""
    digits = f"999900{card:09d}"
    doubled = [int(digit) * 2 for digit in digits[::-2]]
    total = sum(value - 9 if value > 9 else value for value in doubled) + sum(map(int, digits[-2::-2]))
    return f"{digits}{-total % 10}"


SHAPES: dict[str, Callable[[int, int, int], pd.DataFrame]] = {"merchants": merchants, "numbers": numbers}


def main() -> None:
    """Write one file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--days", type=int, default=120)
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    table = SHAPES[given.shape](given.rows, given.days, given.seed)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(given.output, index=False)
    print(f"{len(table):,} payments in {given.output}")


if __name__ == "__main__":
    main()
