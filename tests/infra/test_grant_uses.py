"""Which grant is needed is derived from the decisions that the emulator logged."""

from typing import Any

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
