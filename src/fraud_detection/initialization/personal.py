"""Columns that look personal: names, addresses, days of birth, numbers of cards or documents; by name or by content."""

import re
import unicodedata
from collections.abc import Iterable

from fraud_detection.initialization import names
from fraud_detection.initialization.column import Column

_PHRASE = re.compile(
    r"(^| )(first|last|full|middle|sur|fore|given|family|holder|customer|client|user|cardholder|maiden)? ?name( |$)"
    r"|^(first|last)$|(^| )(card number|cc num|card num|e mail|codice fiscale)( |$)"
)
_WORDS = frozenset({
    "surname", "forename", "street", "address", "addr", "email", "mail", "phone", "mobile", "tel",
    "dob", "birth", "birthday", "ssn", "passport", "ip", "zip", "postcode", "postal", "iban", "pan", "cvv", "job",
    "occupation", "profession", "inhaber", "zuname", "familienname", "kundenname", "kartenname", "wohnort",
    "hausnummer",
    "plz", "postleitzahl", "handy", "handynummer", "rufnummer", "ausweisnummer", "steuernummer", "beruf", "nombre",
    "nombres", "apellido", "apellidos", "titular", "direccion", "domicilio", "calle", "correo", "telefono", "movil",
    "celular", "dni", "nif", "profesion", "nom", "prenom", "titulaire", "rue", "courriel", "metier", "nome", "cognome",
    "intestatario", "indirizzo", "nascita", "sobrenome", "endereco", "rua", "telefone", "cpf", "profissao", "naam",
    "voornaam", "achternaam", "adres", "straat", "imie", "nazwisko", "ulica", "pesel", "имя", "фамилия", "отчество",
    "фио", "адрес", "улица", "телефон", "почта", "паспорт", "снилс", "инн", "держатель", "владелец", "рождения",
    "профессия",
})  # fmt: skip
_PARTS = re.compile(
    r"karteninhaber|kontoinhaber|vorname|nachname|geburt|telefon|telephon|strasse|anschrift|adress|naissance|nacimiento"
    r"|nascimento|geboorte"
)
"""Of compound words, such as Lieferadresse."""
_PLACE = frozenset({"lat", "latitude", "long", "lon", "lng", "longitude"})
_NO_PERSON = frozenset({
    "merchant", "merch", "shop", "store", "terminal", "device", "product", "bank", "issuer", "handler", "haendler",
    "geschaft", "comercio", "tienda", "magasin", "commerce", "marchand", "negozio", "loja", "produkt", "producto",
    "магазин", "терминал", "банк", "товар",
})  # fmt: skip
_NO_NAMES = frozenset({"city", "town", "state", "country", "region", "county", "category", "type", "mode", "channel"})
_TWO_NAMES = re.compile(r"[^\W\d_]\w*(['’-]\w+)*,?( [^\W\d_]\w*\.?(['’-]\w+)*){1,3}")
_LEAST_NAMES = 10
_MOSTLY = 0.9


def find_personal(columns: Iterable[Column]) -> set[str]:
    """The names of the columns that look personal; coordinates do so beside names or addresses."""
    columns = list(columns)
    found = {column.name for column in columns if is_personal(column.name) or _holds_personal(column)}
    places = {column.name for column in columns if _said(column.name) <= _PLACE and _said(column.name)}
    return found | places if any(map(is_personal, found)) else found


def is_personal(name: str) -> bool:
    """Whether the name of a column is that of personal data, in one of several languages."""
    said, text = _said(name), " ".join(names.words(_plain(name)))
    if said & _NO_PERSON:
        return False
    return bool(said & _PLAIN_WORDS or _PHRASE.search(text) or any(map(_PARTS.search, said)))


def _holds_personal(column: Column) -> bool:
    return column.holds_emails or column.holds_card_numbers or _holds_names(column)


def _holds_names(column: Column) -> bool:
    """Whether nearly all of many different texts are two to four words that begin with capitals, as persons' names."""
    if not column.is_text or column.distinct < _LEAST_NAMES or _said(column.name) & (_NO_PERSON | _NO_NAMES):
        return False
    some = list(column.counts)[:200]
    return sum(map(_is_name, some)) >= _MOSTLY * len(some)


def _is_name(text: str) -> bool:
    words = text.split()
    begins = all(word[0].isupper() and not word.isupper() for word in words[:2])
    return begins and _TWO_NAMES.fullmatch(text) is not None


def _said(name: str) -> set[str]:
    return set(names.words(_plain(name)))


def _plain(text: str) -> str:
    """Without accents: Straße is Strasse, prénom prenom."""
    apart = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    return "".join(character for character in apart if not unicodedata.combining(character))


_PLAIN_WORDS = frozenset(map(_plain, _WORDS))
