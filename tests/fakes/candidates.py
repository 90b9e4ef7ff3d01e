"""Candidates of a registry's tests: frozen, and winners that wait for approval."""

from datetime import datetime, timedelta

from factories import look_record, span

from fakes.registry import T0, T1, World, model
from fraud_detection.registry import NewCandidate
from fraud_detection.schema import CandidateKey, CandidateRecord, Decision, Outcome

FIRST, SECOND = CandidateKey(T0 - timedelta(days=1), "recipe"), CandidateKey(T0, "recipe")
A, B = "2018-08-20T23:00", "2018-08-21T23:00"


def frozen(here: World, key: CandidateKey, seed: int) -> CandidateRecord:
    trained = span(key.label_cutoff - timedelta(days=91), key.label_cutoff - timedelta(days=7))
    candidate = NewCandidate(key, trained, growth=1.5, seed=7, opened_at=T1)
    return here.registry.freeze_candidate(candidate, model(seed))


def passed(here: World, as_of: datetime, *keys: CandidateKey, serving: int | None = 1) -> Decision:
    """A run in approval mode, whose looks at these candidates passed."""
    looks = tuple(look_record(key, as_of, passed=True, champion_version=serving) for key in keys)
    return here.record(Outcome.NEEDS_REVIEW, as_of, looks=looks, schema_version=2)
