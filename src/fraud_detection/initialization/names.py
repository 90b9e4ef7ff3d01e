"""What the name of a column says of its meaning, in the words of published data sets and common exports."""

import re
from collections.abc import Mapping

_WORDS = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case: `cardHolder_ID` gives card, holder, id."""
    return tuple(word.lower() for word in _WORDS.findall(_CAMEL.sub(" ", name)))


def score(name: str, vocabulary: Mapping[str, float]) -> float:
    """The best worth of the phrases of a vocabulary that occur in a name; 0 where none does.

    A phrase of several words occurs where they follow one another; `fraud` also in `isfraud`. A name that says more
    than the phrase is worth a little less.
    """
    found = words(name)
    joined = "".join(found)
    text = f" {' '.join(found)} "
    best = 0.0
    for phrase, worth in vocabulary.items():
        plain = phrase.replace(" ", "")
        if joined == plain:
            best = max(best, worth + 1.0)
        elif f" {phrase} " in text:
            best = max(best, worth - 0.01 * len(found))
        elif len(plain) > 4 and plain in joined:
            best = max(best, worth - 0.3)
    return best


TIME = {
    "transaction time": 9, "transaction date": 9, "transaction datetime": 9, "transaction timestamp": 9,
    "transaction dt": 9, "trans date": 9, "trans time": 9, "tx datetime": 9, "tx time": 9, "tx date": 9,
    "trans date trans time": 9, "event time": 8, "datetime": 8, "timestamp": 8, "time": 7, "date": 6.5, "ts": 7,
    "created": 6, "created at": 6, "booked": 6, "booking": 6,
    "posting": 5, "occurred": 6, "authorized": 6, "authorised": 6, "step": 5, "when": 5, "authorization": 5,
    "posted": 4,
    "unix time": 4,
    "second": 5, "seconds": 5, "hour": 3, "day": 3, "дата": 7, "время": 6.5, "datum": 6, "uhrzeit": 5, "fecha": 6,
    "hora": 5,
}  # fmt: skip
YEAR = frozenset({"year", "yr", "jahr", "год", "año", "annee", "année", "ano", "anno"})
MONTH = frozenset({"month", "mon", "monat", "месяц", "mes", "mois", "mês", "mese"})
DAY_OF_MONTH = frozenset({"day", "dayofmonth", "dom", "tag", "день", "dia", "día", "jour", "giorno"})
HOUR = frozenset({"hour", "hours", "hh", "stunde", "час", "hora", "heure", "ora"})
MINUTE = frozenset({"minute", "minutes", "min", "минута", "minuto"})
SECOND = frozenset({"second", "seconds", "sec", "sekunde", "секунда", "segundo", "seconde", "secondo"})
NOT_TRANSACTION_TIME = re.compile(
    r"birth|dob|expir|label|chargeback|dispute|report|known|opened|issued|since|joined|regist|update|confirmed|detected"
)
AMOUNT = {
    "amount": 9, "transaction amount": 9.5, "transaction amt": 9.5, "tx amount": 9.5, "amt": 9, "purchase value": 8,
    "sum": 7, "value": 6, "price": 6, "total": 6, "purchase": 5, "betrag": 9, "importe": 9, "montant": 9,
    "сумма": 9, "spent": 5,
}  # fmt: skip
NOT_AMOUNT = re.compile(r"balance|limit|average|avg|mean|median|max|min|count|fee|id$|std|ratio|income|salary")
LABEL = {
    "fraud": 10, "is fraud": 10, "tx fraud": 10, "fraud label": 10, "fraud flag": 9.5, "isfraud": 10,
    "fraudulent": 10, "fraud reported": 9.5, "chargeback": 8.5, "is chargeback": 8.5, "class": 7, "label": 7,
    "target": 6,
    "fraud bool": 10, "y": 4, "outcome": 5, "scam": 8, "is bad": 6, "мошенничество": 10, "betrug": 10, "fraude": 10,
    "status": 3,
}  # fmt: skip
NOT_LABEL = re.compile(r"scenario|flagged|predict|score|type|reason|prob|category|time|date|merchant")
CARD = {
    "card": 10, "card id": 10.5, "card number": 10, "card num": 10, "cc num": 10, "card1": 9, "pan": 9,
    "card token": 10.5,
    "customer id": 8.5, "customer": 8, "client": 7.5, "client id": 8, "account": 7, "account id": 7.5, "acct": 7,
    "user": 6.5, "user id": 7, "name orig": 8, "sender": 6.5, "payer": 6.5, "cardholder": 8, "holder": 6,
    "nameorig": 8,
    "карта": 10, "клиент": 8, "karte": 10, "kunde": 8, "tarjeta": 10,
}  # fmt: skip
NOT_CARD = re.compile(
    r"type|brand|present|category|country|age|name$|level|class|expir|limit|balance|amount|entry|bank|since|gender"
)
TERMINAL = {
    "terminal": 10, "terminal id": 10.5, "merchant id": 10, "merchant": 9, "shop": 9, "store": 8.5, "pos": 7,
    "pos id": 8, "name dest": 8, "namedest": 8, "device": 5, "device id": 5.5, "recipient": 6, "payee": 6.5,
    "seller": 7.5, "beneficiary": 6, "acceptor": 8, "терминал": 10, "магазин": 9, "haendler": 9, "händler": 9,
    "comercio": 8,
}  # fmt: skip
NOT_TERMINAL = re.compile(
    r"category|type|mcc|group|state|country|city|zip|lat|long|entry|mode|risk|balance|amount|code$|rating"
    r"|(?<!merchant )(?<!shop )(?<!store )\bname$"
)
ID = {
    "transaction id": 10, "trans id": 10, "trans num": 9.5, "tx id": 10, "id": 8, "transaction": 8, "uuid": 8,
    "reference": 7, "ref": 6, "operation id": 8, "payment id": 9, "order id": 7, "key": 4, "row id": 3, "index": 2,
    "номер": 5,
}  # fmt: skip
LABEL_TIME = {
    "label available at": 10, "label time": 10, "label date": 10, "labelled at": 9, "fraud reported at": 10,
    "chargeback": 9, "chargeback date": 10, "chargeback time": 10, "reported": 9, "reported at": 9.5, "dispute": 8,
    "dispute date": 9, "confirmed at": 8, "detected at": 8, "known at": 8, "fraud date": 9, "fraud time": 9,
}  # fmt: skip
BLOCKED = {"blocked": 9, "is blocked": 9, "declined": 8, "stopped": 7, "prevented": 7, "rejected": 6, "denied": 7}
CONTROL = {"control group": 9, "in control group": 9, "control": 6, "let through": 8, "holdout group": 8}
OF_LABEL = re.compile(r"fraud|chargeback|dispute|label|scam", re.IGNORECASE)
"""Columns whose name says that they come from the label; of values that are known late."""
CODE = re.compile(r"(^|[^a-z])(mcc|code|type|category|channel|country|brand|currency|mode|state|region)([^a-z]|$)")
"""Whole numbers that name something rather than count it."""
