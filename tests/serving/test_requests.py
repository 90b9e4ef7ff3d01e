"""Requests are checked as rows of the input are."""

from datetime import UTC, datetime

import pytest

from fraud_detection.serving.contract import Contract, ContractError, Value
from fraud_detection.serving.state import Arrival
from fraud_detection.settings import Columns, Data, Format, MissingId, Refunds

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SINCE = datetime(2026, 2, 1, tzinfo=UTC)
NUMBERS = {"transaction_id": "bigint", "customer_id": "bigint", "terminal_id": "string"}
GOOD: dict[str, Value] = {"transaction_id": 5, "transaction_time": "2026-03-01T10:00:00Z", "amount": 12}
TEN = 1_772_359_200_000_000


def contract(**data: object) -> Contract:
    return Contract(Data.model_validate(data), NUMBERS, SINCE)


def test_values_become_those_of_the_store() -> None:
    """Fails when a card is written as text in a request and as a number in the files, and its history is not found."""
    found = contract().check({**GOOD, "customer_id": "0007", "terminal_id": 3}, NOW)
    assert found.arrival == Arrival(5, TEN, 12.0, "7", "3")
    assert contract().check({**GOOD, "transaction_time": "2026-03-01T13:00:00+03:00"}, NOW).arrival.time == TEN
    local = contract(format=Format(time_zone="Europe/Moscow"))
    assert local.check({**GOOD, "transaction_time": "2026-03-01T13:00:00"}, NOW).arrival.time == TEN
    refund = contract(refunds=Refunds.ABSOLUTE).check({**GOOD, "amount": -3.5}, NOW)
    assert (refund.arrival.amount, refund.extra["amount"]) == (3.5, 3.5)


def test_a_missing_card_is_unknown_unless_the_settings_reject_it() -> None:
    """Fails when a request without a card is answered otherwise than a row without one."""
    assert contract().check({**GOOD, "customer_id": None}, NOW).arrival.card is None
    with pytest.raises(ContractError, match="customer_id is empty"):
        contract(missing_cards=MissingId.REJECT).check(GOOD, NOW)


def test_extra_columns_are_those_of_the_settings() -> None:
    """Fails when a misspelt column is taken for a missing value, and the score is silently wrong."""
    mapped = contract(columns=Columns(extra_numeric=("score",), extra_categorical=("channel", "online")))
    found = mapped.check({**GOOD, "score": 2, "channel": "web", "online": True}, NOW)
    assert found.extra == {"amount": 12.0, "score": 2.0, "channel": "web", "online": "true"}
    assert mapped.check(GOOD, NOW).extra == {"amount": 12.0, "score": None, "channel": None, "online": None}
    with pytest.raises(ContractError, match="score is not a finite number"):
        mapped.check({**GOOD, "score": "secret"}, NOW)
    with pytest.raises(ContractError, match="score is not a finite number"):
        mapped.check({**GOOD, "score": 10**400}, NOW)
    with pytest.raises(ContractError, match=r"1 field\(s\) that the settings do not map"):
        mapped.check({**GOOD, "chanel": "web"}, NOW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"transaction_id": None}, "transaction_id is empty"),
        ({"transaction_id": "secret"}, "transaction_id is not a whole number"),
        ({"transaction_id": "1_000"}, "transaction_id is not a whole number"),
        ({"transaction_id": 1 << 63}, "transaction_id is not a whole number"),
        ({"amount": -1.0}, "amount is out of range"),
        ({"amount": float("nan")}, "amount is not a finite number"),
        ({"amount": 2e12}, "amount is out of range"),
        ({"amount": 10**400}, "amount is not a finite number"),
        ({"transaction_time": "secret"}, "transaction_time is not a time"),
        ({"transaction_time": "2026-03-01T13:30:00Z"}, "more than an hour ahead"),
        ({"transaction_time": "2026-01-01T00:00:00Z"}, "next batch"),
    ],
)
def test_what_a_batch_rejects_is_refused_without_its_value(change: dict[str, Value], message: str) -> None:
    """Fails when a row that the input would quarantine is scored, or an answer repeats what a client sent."""
    with pytest.raises(ContractError, match=message) as caught:
        contract().check({**GOOD, **change}, NOW)
    assert "secret" not in str(caught.value)
