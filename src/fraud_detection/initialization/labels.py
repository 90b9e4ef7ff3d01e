"""Which values of a label mean fraud, genuine, and not known yet."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud_detection.format_rules import plain_label
from fraud_detection.initialization.column import Column
from fraud_detection.initialization.odd_cells import most_odd
from fraud_detection.shapes import shape
from fraud_detection.transactions import label_words
from fraud_detection.transactions.label_words import Meaning

MOST_VALUES = 10
LONGEST_VALUE = 20
_RARE = 0.3
_MOST_DIFFERENT = 10_000


@dataclass(frozen=True)
class LabelForm:
    """The values of each meaning beside 0, 1, true and false, and what each row says."""

    fraud_values: tuple[str, ...]
    genuine_values: tuple[str, ...]
    unknown_values: tuple[str, ...]
    is_fraud: NDArray[np.bool_]
    is_known: NDArray[np.bool_]
    why: str


def find_label_form(column: Column) -> LabelForm | None:
    """What the values of a label mean, by their words; of two that say nothing the rarer one is fraud."""
    counts = _without_odd(column.counts)
    if not 1 <= len(counts) <= MOST_VALUES or max(map(len, counts)) > LONGEST_VALUE:
        return None
    told = label_words.meanings(counts)
    meanings: dict[str, Meaning | None] = {text: told[plain_label(text)] for text in counts}
    why = "by the words of its values"
    unclear = [text for text, meaning in meanings.items() if meaning is None]
    if unclear:
        meanings, why = _by_rarity(counts, meanings)
        if not meanings:
            return None
    if "fraud" not in meanings.values():
        return None
    words, codes = column.encoded
    said = np.array([meanings.get(word) or "unknown" for word in words] + ["unknown"])[codes]
    return LabelForm(
        _beyond(meanings, "fraud", {"1", "1.0", "true"}),
        _beyond(meanings, "genuine", {"0", "0.0", "false"}),
        _beyond(meanings, "unknown", set()),
        said == "fraud",
        said != "unknown",
        why,
    )


def names_fraud(column: Column) -> bool:
    """Whether a column of few values has one that says fraud by itself, as yes and 1 do not."""
    return column.distinct <= MOST_VALUES and any(map(label_words.names_fraud, column.counts))


def why_no_label(column: Column) -> str:
    """What is wrong with a column that is no label, for messages: `holds one value only`."""
    counts = column.counts
    if len(counts) <= 1:
        return "holds one value only" if counts else "is empty"
    told = label_words.meanings(counts) if len(counts) <= _MOST_DIFFERENT else {}
    odd = [text for text in counts if told.get(plain_label(text)) is None]
    if len(odd) > 2 * MOST_VALUES:
        return f"has {len(counts):,} different values; at most {MOST_VALUES} can be labels"
    if odd:
        rows, shapes = sum(counts[text] for text in odd), ", ".join(map(shape, odd[:5]))
        return f"has values that say neither fraud nor genuine ({shapes}; {rows:,} {'rows' if rows > 1 else 'row'})"
    return "has no value that says fraud"


def _without_odd(counts: dict[str, int]) -> dict[str, int]:
    """Without the values of a few rows whose words say nothing, where others say fraud: a run rejects them.

    The rows of the others are labelled as if there were no odd ones.
    """
    if len(counts) > _MOST_DIFFERENT:
        return counts
    told = label_words.meanings(counts)
    clear = {text: count for text, count in counts.items() if told[plain_label(text)] is not None}
    odd = sum(counts.values()) - sum(clear.values())
    is_clear = "fraud" in {told[plain_label(text)] for text in clear}
    return clear if is_clear and odd <= most_odd(sum(counts.values())) else counts


def _by_rarity(counts: dict[str, int], meanings: dict[str, Meaning | None]) -> tuple[dict[str, Meaning | None], str]:
    """Two values: the one that says nothing is what the other is not; of two such the rarer one is fraud."""
    if len(counts) != 2:
        return {}, ""
    rare, common = sorted(counts, key=lambda text: counts[text])
    if counts[rare] > _RARE * sum(counts.values()):
        return {}, ""
    if meanings[rare] == "genuine" or meanings[common] == "fraud":
        return {}, ""
    if meanings[common] == "genuine" and rare.lstrip("+-").isdigit():
        return {}, ""  # a 2 beside 0 may as well stand for a label that is not known
    return {rare: "fraud", common: "genuine"}, "the rarer of two values is fraud"


def _beyond(meanings: dict[str, Meaning | None], wanted: str, understood: set[str]) -> tuple[str, ...]:
    return tuple(text for text, meaning in meanings.items() if meaning == wanted and text.lower() not in understood)
