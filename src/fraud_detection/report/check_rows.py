"""The checks of a decision as rows of two tables: what the challenger had to reach, and guardrails, tests for harm."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fraud_detection.promotion.checks import Relation, definition
from fraud_detection.report import wording
from fraud_detection.schema import Check, CheckVerdict


@dataclass(frozen=True)
class CheckRow:
    """One check in words; `bounds` are those of the change of a guardrail."""

    name: str
    phrase: str
    value: str
    limit: str
    bounds: str
    role: str
    result: str


@dataclass(frozen=True)
class CheckTables:
    """Failed checks first, then what is undecided, passed and not measured; each in the order in which it was made."""

    conditions: tuple[CheckRow, ...]
    guardrails: tuple[CheckRow, ...]

    @property
    def summary(self) -> str:
        """How many checks came out how."""
        rows = (*self.conditions, *self.guardrails)
        counts = ((sum(row.role == role for row in rows), words) for role, words in _SUMMARY.items())
        return ", ".join(f"{count} {words}" for count, words in counts if count)

    @property
    def has_undecided(self) -> bool:
        return any(row.role == "undecided" for row in self.guardrails)

    @property
    def has_unmeasured(self) -> bool:
        return any(row.role == "unmeasured" for row in self.guardrails)


_SUMMARY = {"failed": "failed", "undecided": "undecided", "passed": "passed", "unmeasured": "not measured"}
_RESULTS = {
    CheckVerdict.PASSED: ("✓ passed", "✓ harmless"),
    CheckVerdict.UNDECIDED: ("? undecided", "? undecided"),
    CheckVerdict.FAILED: ("✕ FAILED", "✕ HARMFUL"),
}
"""In words, of a condition and of a test for harm."""


def check_tables(checks: Iterable[Check]) -> CheckTables:
    """The rows of both tables."""
    order = {"failed": 0, "undecided": 1, "passed": 2, "unmeasured": 3}
    conditions: list[CheckRow] = []
    guardrails: list[CheckRow] = []
    for check in checks:
        known = definition(check.name)  # a decision may be of another release
        (guardrails if known is not None and known.is_guardrail else conditions).append(_row(check))
    tables = (tuple(sorted(rows, key=lambda row: order[row.role])) for rows in (conditions, guardrails))
    return CheckTables(*tables)


def _row(check: Check) -> CheckRow:
    known = definition(check.name)
    phrase, relation = (known.phrase, known.relation) if known else (wording.words(check.name), None)
    value, limit = wording.value_and_limit(check.value, check.limit)
    if relation and check.limit is not None:
        limit = f"{relation} {limit}"
    tested_for_harm = check.undecided or check.low is not None or check.high is not None  # not so in earlier releases
    role, result = check.verdict.value, _RESULTS[check.verdict][tested_for_harm]
    if check.passed and check.value is None and relation is not Relation.EQUAL:
        role, result = "unmeasured", "– not measured"
    return CheckRow(check.name, phrase, value, limit, _bounds(check), role, result)


def _bounds(check: Check) -> str:
    """With two significant digits of the larger one at least: changes of the Brier score are small."""
    known = [bound for bound in (check.low, check.high) if bound is not None]
    if not known:
        return wording.MISSING
    largest = max(map(abs, known)) or 1.0
    decimals = min(8, max(3, 1 - math.floor(math.log10(largest))))
    return f"[{wording.signed(check.low, decimals)}, {wording.signed(check.high, decimals)}]"
