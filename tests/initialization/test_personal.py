"""Columns of persons, in several languages or under a name that says nothing, are no features."""

import pyarrow as pa
import pytest

from fraud_detection.initialization.column import Column
from fraud_detection.initialization.personal import find_personal, is_personal


@pytest.mark.parametrize(
    "name",
    ["Karteninhaber", "Vorname", "Kundenname", "Inhaber", "Straße", "STRASSE", "Geburtsdatum", "Lieferadresse",
     "nombre", "Apellido", "prénom", "PRENOM", "имя", "Фамилия", "телефон", "адрес_доставки", "дата рождения",
     "Telefonnummer", "customerName", "first", "last_name", "ip_address", "cc_num", "job", "Beruf"],
)  # fmt: skip
def test_a_name_of_a_person_is_seen_in_any_language(name: str) -> None:
    """Fails when a model is trained on the names of cardholders because they are not English."""
    assert is_personal(name)


@pytest.mark.parametrize(
    "name",
    ["amount", "Kanal", "merchant_name", "shop_street", "count_last_24h", "hours_since_first", "device_ip", "rating",
     "Händler Adresse", "channel", "V1", "nominal", "platform", "ruelle"],
)  # fmt: skip
def test_other_names_are_not_personal(name: str) -> None:
    """Fails when a useful feature is left out because its name holds a part of a word for a person."""
    assert not is_personal(name)


_PEOPLE = [f"{first} {last}" for first in ("Erika", "Jürgen", "Ana María", "Jo") for last in ("Grün", "O'Brien", "Li")]
_KINDS = ["Chip Transaction", "Online Transaction", "Swipe Transaction"]
_GOODS = [f"goods {number}" for number in range(12)]


@pytest.mark.parametrize(
    ("name", "texts", "personal"),
    [("who", _PEOPLE, True), ("use", _KINDS, False), ("goods", _GOODS, False), ("merchant", _PEOPLE, False)],
)
def test_texts_that_look_like_names_of_persons_are_seen(name: str, texts: list[str], *, personal: bool) -> None:
    """Fails when names of persons are learned under a column name that says nothing, or kinds of payment are not."""
    assert (find_personal([Column(name, pa.array(texts * 3))]) == {name}) is personal


def test_coordinates_beside_names_are_those_of_homes() -> None:
    """Fails when a model learns where a person lives, or not where a merchant is."""
    columns = [Column(name, pa.array(["1.5", "2.5"])) for name in ("lat", "long", "merch_lat", "merch_long")]
    assert find_personal(columns) == set()
    assert find_personal([*columns, Column("street", pa.array(["a", "b"]))]) == {"lat", "long", "street"}
