"""Which grant is needed is derived from the decisions that the emulator logged."""

import re
from typing import Any

from benchmarks.grants import KEPT, table, unjustified
from rehearsal.cloud import ROOT
from rehearsal.grants import uses

GRANTS = [
    {"subject": "job", "role": "storage.viewer", "on": "code"},
    {"subject": "job", "role": "storage.editor", "on": "code"},
    {"subject": "job", "role": "vpc.user", "on": "folder"},
]


def test_a_grant_is_needed_if_some_call_had_no_other() -> None:
    """Fails when a grant that nothing needs is kept, or one that something needs is removed."""
    viewer, editor, _ = GRANTS
    events: list[dict[str, Any]] = [
        {"event": "emulator"},
        {"allowed": [{"permission": "storage.objects.get", "grants": [viewer, editor]}]},
        {"allowed": [{"permission": "storage.objects.put", "grants": [editor]}]},
    ]
    found = {use.role: use for use in uses(GRANTS, events)}
    assert [role for role, use in found.items() if use.is_needed] == ["storage.editor"]
    assert found["storage.editor"].alone == ("storage.objects.put",)
    assert found["storage.viewer"].shared == ("storage.objects.get",)
    assert (found["vpc.user"].alone, found["vpc.user"].shared) == ((), ())


def rows(page: str) -> set[tuple[str, ...]]:
    """Account, role, on what: the first columns of a table of grants."""
    return set(re.findall(r"^\| `(\w+)` \| `([\w.-]+)` \| ([^|]+?) \|", page, flags=re.MULTILINE))


def test_the_measured_grants_are_those_of_the_documents() -> None:
    """Fails when a grant was added, or removed, and nobody measured whether some call needs it."""
    measured = (ROOT / "benchmarks" / "results" / "grants.md").read_text()
    assert rows(measured) == rows((ROOT / "docs" / "security.md").read_text())
    idle = {row for line in measured.splitlines() if "none; kept:" in line for row in rows(line)}
    assert idle == set(KEPT)


def test_a_grant_without_a_call_must_be_justified() -> None:
    """Fails when `make prove` accepts a grant that nothing needs, or goes on to excuse one that is needed."""
    justified, *rest = KEPT
    found = {key: ["a call"] for key in rest} | {justified: [], ("job", "admin", "the folder"): []}
    idle, *excused = unjustified(found)
    assert idle == "no call needs job admin the folder, and KEPT does not say why it is granted"
    assert len(excused) == len(rest)
    page = table(found)
    assert f"none; kept: {KEPT[justified]}" in page
    assert rows(page) == set(found)
