"""What a run plans where a candidate cannot be opened."""

from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import pytest

from fraud_detection.promotion.sequential import HoldoutCounts, Look, LookState, NextLook
from fraud_detection.runs import planning
from fraud_detection.runs.blocks import Block
from fraud_detection.runs.planning import Plan, plan
from fraud_detection.schema import CandidateKey, Check

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
LEAK = Check(name="no_leaking_feature", value=1.0, limit=0.9, passed=False)


def _plan(monkeypatch: pytest.MonkeyPatch, block: Block | None = None) -> Plan:
    """Of a run that opens no candidate, since an input leaks, while a look at an earlier one is due."""
    key = CandidateKey(AS_OF, "recipe")
    due = NextLook(Look(AS_OF, key, 1, 1), LookState.DUE, HoldoutCounts(60, 40), 40)
    shadow = Mock(spans=lambda: {key: None}, next_looks=lambda _: (due,), takes_looks=lambda: True)
    shadow.planned.return_value = shadow.planned_early.return_value = ()

    def opens_nothing(_: Any, shadow: Any, __: Any) -> Plan:
        return Plan(shadow, reason="the input case_number alone", checks=(LEAK,), warnings=("another",))

    monkeypatch.setattr(planning, "_open_candidates", opens_nothing)
    return plan(shadow, Mock(), block)


def test_why_no_candidate_was_opened_is_said_beside_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when looks at the candidates of earlier runs hide for weeks that an input leaks."""
    planned = _plan(monkeypatch)
    assert len(planned.looks) == 1
    assert planned.warnings == ("another", "the input case_number alone")


def test_why_no_candidate_was_opened_is_said_beside_a_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a pin or a freeze hides that no candidate is opened meanwhile."""
    planned = _plan(monkeypatch, Block("v1 is pinned", ()))
    assert (planned.looks, planned.reason) == ((), "v1 is pinned")
    assert planned.warnings == ("another", "the input case_number alone")
