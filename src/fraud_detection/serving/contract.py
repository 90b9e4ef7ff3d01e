"""A transaction of a request, checked as the data contract checks a row of the input."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from fraud_detection.runs.preflight import AHEAD
from fraud_detection.serving.rows import Key
from fraud_detection.serving.state import Arrival
from fraud_detection.settings import Data, Refunds
from fraud_detection.transactions.rules import MAX_AMOUNT

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_INTEGER = 1 << 63
_DECIMAL = re.compile(r"[+-]?[0-9]{1,30}")
Value = str | int | float | bool | None


class ContractError(Exception):
    """The transaction breaks the contract; the message holds no value of it."""


@dataclass(frozen=True)
class Checked:
    """A transaction that can be scored."""

    arrival: Arrival
    extra: dict[str, float | str | None]
    """The extra columns, and the amount."""


class Contract:
    """What the settings and the store say of transactions."""

    def __init__(self, data: Data, types: Mapping[str, str], since: datetime) -> None:
        """Take the settings, bigint or string of each id, and from when on transactions can be scored."""
        self._data, self._types, self._since = data, types, since
        columns = data.columns
        self._keys = tuple(name for name in ("customer_id", "terminal_id") if getattr(columns, name) is not None)
        self._known = {"transaction_id", "transaction_time", "amount", *self._keys}
        self._known |= {*columns.extra_numeric, *columns.extra_categorical}

    def check(self, given: Mapping[str, Value], now: datetime) -> Checked:
        """The transaction of a request.

        Args:
            given: by the canonical names; an extra column by its own.
            now: the clock, aware.

        Raises:
            ContractError: it would be rejected from the input, or cannot be scored here.
        """
        unknown = len(given.keys() - self._known)
        if unknown:
            raise ContractError(f"found {unknown} field(s) that the settings do not map; expected {self._names}")
        identifier = self._key(given, "transaction_id")
        if identifier is None:
            raise ContractError("transaction_id is empty; expected an id")
        amount = self._amount(given.get("amount"))
        time = self._time(given.get("transaction_time"), now)
        card, terminal = (
            self._key(given, name) if name in self._keys else None for name in ("customer_id", "terminal_id")
        )
        text = [None if key is None else str(key) for key in (card, terminal)]
        return Checked(Arrival(identifier, _micros(time), amount, *text), {"amount": amount, **self._extra(given)})

    @property
    def _names(self) -> str:
        return ", ".join(sorted(self._known))

    def _key(self, given: Mapping[str, Value], name: str) -> Key | None:
        value = given.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            if name in self._data.required_ids:
                raise ContractError(f"{name} is empty; expected an id, as the settings require it")
            return None
        if isinstance(value, bool | float):
            raise ContractError(f"{name} is not an id; expected a whole number or text")
        if self._types.get(name) != "bigint":
            return str(value)
        number = _integer(value)
        if number is None:
            raise ContractError(f"{name} is not a whole number; expected one, as in the store")
        return number

    def _amount(self, value: Value) -> float:
        if isinstance(value, bool | str) or value is None or not _is_finite(value):
            raise ContractError("amount is not a finite number; expected one, such as 1234.56")
        amount = abs(value) if self._data.refunds is Refunds.ABSOLUTE else value
        if not 0 <= amount <= MAX_AMOUNT:
            raise ContractError(
                "amount is out of range; expected 0 to 10^12, and below 0 only with data.refunds: absolute"
            )
        return float(amount)

    def _time(self, value: Value, now: datetime) -> datetime:
        expected = "expected ISO 8601, such as 2026-03-01T12:30:00Z"
        if not isinstance(value, str):
            raise ContractError(f"transaction_time is not text; {expected}")
        try:
            time = datetime.fromisoformat(value)
        except ValueError as error:
            raise ContractError(f"transaction_time is not a time; {expected}") from error
        if time.tzinfo is None:
            time = time.replace(tzinfo=ZoneInfo(self._data.format.time_zone))
        if time > now + AHEAD:
            raise ContractError("transaction_time is more than an hour ahead of the server's clock")
        if time < max(self._since, _EPOCH):
            raise ContractError(
                f"transaction_time is before {self._since:%Y-%m-%d %H:%M} UTC, from when on this server knows enough;"
                " next: score it with the next batch, fraud-detection score"
            )
        return time

    def _extra(self, given: Mapping[str, Value]) -> dict[str, float | str | None]:
        found: dict[str, float | str | None] = {}
        columns = self._data.columns
        for name in columns.extra_numeric:
            value = given.get(name)
            if isinstance(value, str) or (value is not None and not _is_finite(value)):
                raise ContractError(f"{name} is not a finite number; expected one, or null")
            found[name] = None if value is None else float(value)
        for name in columns.extra_categorical:
            value = given.get(name)
            if isinstance(value, float):
                raise ContractError(f"{name} is a number with a fraction; expected text, a whole number or a boolean")
            found[name] = None if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        return found


def _is_finite(value: float) -> bool:
    """Whether a number is one that a double holds; a whole number may be larger."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _integer(value: int | str) -> int | None:
    """A whole number in decimal; Python itself would also take 1_000 for one."""
    if isinstance(value, str) and not _DECIMAL.fullmatch(value.strip()):
        return None
    number = int(value)
    return number if -_MOST_INTEGER <= number < _MOST_INTEGER else None


def _micros(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)
