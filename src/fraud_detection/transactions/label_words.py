"""What the values of a label mean by their words: in messages of a run, and where `init` looks for the label."""

import re
from collections.abc import Iterable
from typing import Literal

from fraud_detection.format_rules import plain_label
from fraud_detection.transactions.numbers import MISSING

Meaning = Literal["fraud", "genuine", "unknown"]

_NAMED = {
    "fraud", "fraudulent", "fraudulent transaction", "is fraud", "isfraud", "chargeback", "charged back", "scam",
    "illicit", "illegit", "illegitimate", "stolen", "fraude", "fraudulento", "fraudulenta", "frauduleux", "frode",
    "betrug", "betrugsfall", "betrügerisch", "мошенничество", "мошеннический", "мошенническая", "фрод",
}  # fmt: skip
_ANSWERS = {
    "1", "true", "t", "y", "yes", "bad", "positive", "suspicious", "confirmed", "anomaly", "abnormal", "да", "ja",
    "si", "sí", "sì", "oui", "sim",
}  # fmt: skip
_GENUINE = {
    "0", "false", "n", "no", "g", "l", "genuine", "legit", "legitimate", "licit", "normal", "ok", "good", "valid",
    "negative", "nonfraud", "non fraud", "non fraudulent", "notfraud", "not fraud", "not fraudulent", "no fraud",
    "clean", "authentic", "settled", "refunded", "нет", "не мошенничество", "легитимный", "легитимная", "echt",
    "nein", "kein betrug", "non", "não", "no fraude", "legítimo", "légitime",
}  # fmt: skip
_UNKNOWN = {
    "u", "x", "unknown", "unlabelled", "unlabeled", "pending", "open", "undecided", "undetermined", "unconfirmed",
    "tbd", "review", "in review", "under review", "not known", "missing", "--", "неизвестно", "unbekannt", "offen",
    "inconnu", "desconocido",
}  # fmt: skip
_WORDS: tuple[tuple[Meaning, set[str]], ...] = (
    ("fraud", _NAMED | _ANSWERS),
    ("genuine", _GENUINE),
    ("unknown", _UNKNOWN),
)


def meanings(values: Iterable[str]) -> dict[str, Meaning | None]:
    """What each value means, by its trimmed lower-case form; None where its words say too little.

    What a letter or a number says depends on the others: f is false beside t and fraud beside g, a number beside 0 and
    1 means that the label is not known. Missing values are left out.

    Args:
        values: the different ones of a label column.
    """
    found = {plain_label(value) for value in values} - MISSING
    return {plain: _meaning(plain, found) for plain in sorted(found)}


def names_fraud(value: str) -> bool:
    """Whether a value says fraud in whatever column it stands, as yes and 1 do not."""
    return _plain(plain_label(value)) in _NAMED


def _meaning(plain: str, others: set[str]) -> Meaning | None:
    if plain == "f":
        return "fraud" if others & {"g", "l", "n"} and "t" not in others else "genuine"
    word = _plain(plain)
    for meaning, words in _WORDS:
        if word in words or plain in words:
            return meaning
    is_number = re.fullmatch(r"[+-]?\d+", plain) is not None
    return "unknown" if is_number and {"0", "1"} <= others else None


def _plain(text: str) -> str:
    words = re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", text)
    return re.sub(r"^(confirmed|actual|is) (?=\w)", "", words)
