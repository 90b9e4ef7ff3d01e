"""Approve, reject, promote: what a person decides about a candidate holds, and is finished after a kill."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from factories import opening
from fakes.candidates import FIRST, SECOND, A, B, frozen, passed
from fakes.registry import NAME, T1, T2, T3, Killed, World, artifact, failed, model, world

from fraud_detection.errors import FraudDetectionError
from fraud_detection.registry import approvals, promotion_by_hand, registration
from fraud_detection.registry.decision_log import Action, Intervention
from fraud_detection.registry.registration import Registration
from fraud_detection.registry.reviews import opened_candidates
from fraud_detection.schema import (
    Outcome,
    RetirementReason,
    RetirementRecord,
)
from fraud_detection.settings import Freeze, Promotion

pytest_plugins = ["registry_fixtures"]

# SQLAlchemy warns of MLflow's use of it.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")

APPROVAL = Promotion.model_validate({"mode": "approval"})


def persons(here: World) -> list[Intervention]:
    return [entry for entry in here.log.history() if isinstance(entry, Intervention)]


def assert_nothing_changed(here: World) -> None:
    assert here.versions() == [1]
    assert here.aliases() == {"champion": 1}
    assert persons(here) == []


def test_an_approval_brings_the_winner_into_service(waiting: World) -> None:
    """Fails when a person approves a model and another one serves, or nothing says who approved it."""
    done = waiting.registry.approve(A, "the board agreed", "anna", APPROVAL)
    assert (done.action, done.from_version, done.to_version, done.candidate) == (Action.APPROVE, 1, 2, FIRST)
    assert done.decision_as_of == T1
    assert waiting.aliases() == {"champion": 2, "previous_champion": 1}
    champion = world(waiting.output).registry.champion()
    assert champion is not None
    assert champion.model.to_bytes() == model(1).to_bytes()
    assert champion.training.end == FIRST.label_cutoff - timedelta(days=7)
    version = waiting.client.get_model_version(NAME, "2")
    assert (version.tags["promoted_by"], version.tags["recipe"]) == ("approved by anna", "recipe")
    assert "Approved" in version.description
    assert "the board agreed" in version.description
    waiting.registry.verified_log()
    assert waiting.registry.approve(A, "again", "anna", APPROVAL) == done  # the same command, repeated
    with pytest.raises(FraudDetectionError, match=r"is version 2 already, and in service$"):
        waiting.registry.approve(A, "again", "boris", APPROVAL)
    waiting.registry.rollback(None, "alerts doubled", "anna")
    assert waiting.aliases() == {"champion": 1, "previous_champion": 2}


def test_a_candidate_that_passed_no_look_needs_an_override(waiting: World) -> None:
    """Fails when approve promotes what the rule has not passed, or an emergency has no command, or leaves no mark."""
    with pytest.raises(FraudDetectionError, match=rf"passed no look .*those that wait: {A}; .*promote .*{B} --reason"):
        waiting.registry.approve(B, "", "anna", APPROVAL)
    assert_nothing_changed(waiting)
    done = waiting.registry.promote(B, "the champion misses the new fraud", "anna")
    assert (done.action, done.to_version, done.candidate, done.decision_as_of) == (Action.PROMOTE, 2, SECOND, None)
    assert waiting.client.get_model_version(NAME, "2").tags["promoted_by"] == "override by anna"
    assert waiting.client.get_model_version(NAME, "2").description.startswith("**Override** by anna")
    with pytest.raises(FraudDetectionError, match="none waits"):  # the champion has changed
        waiting.registry.approve(A, "", "anna", APPROVAL)


def test_winners_wait_side_by_side(waiting: World) -> None:
    """Fails when a second winner takes the place of the first, which a person is examining."""
    passed(waiting, T2, SECOND)
    assert waiting.registry.approve(A, "", "anna", APPROVAL).candidate == FIRST
    with pytest.raises(FraudDetectionError, match="passed no look against the champion in service"):
        waiting.registry.approve(B, "", "anna", APPROVAL)
    passed(waiting, T3, SECOND, serving=2)
    assert waiting.registry.approve(B, "", "anna", APPROVAL).to_version == 3


def test_an_approval_expires(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a model goes into service on evidence of last month."""
    later = datetime.now(UTC) + timedelta(days=7, hours=1)
    monkeypatch.setattr(waiting.leases, "clock", lambda: later)
    with pytest.raises(FraudDetectionError, match=r"waited for approval until .*approval_days is 7.*promote"):
        waiting.registry.approve(A, "", "anna", APPROVAL)
    assert_nothing_changed(waiting)
    longer = Promotion.model_validate({"mode": "approval", "approval_days": 30})
    assert waiting.registry.approve(A, "", "anna", longer).to_version == 2


@pytest.mark.parametrize("change", ["a rollback and back", "a retirement", "a promotion that the log has lost"])
def test_an_approval_expires_when_the_champion_changes(waiting: World, change: str) -> None:
    """Fails when a winner replaces a champion that it was not compared with."""
    if change == "a retirement":
        waiting.registry.retire(1, "gone", "boris")
    elif change == "a promotion that the log has lost":
        waiting.registry.promote(B, "r", "boris")
        next(waiting.output.glob("decisions/*/*-promote.json")).unlink()
        waiting.registry.accept_log("the disk was lost", "boris")
    else:
        waiting.registry.promote(B, "r", "boris")
        waiting.registry.rollback(1, "r", "boris")
        waiting.registry.unpin("r", "boris")
    with pytest.raises(FraudDetectionError, match="none waits"):
        waiting.registry.approve(A, "", "anna", APPROVAL)


def test_a_rejected_candidate_is_gone(waiting: World) -> None:
    """Fails when a model that a person rejected waits again tomorrow, or is promoted after all."""
    done = waiting.registry.reject(A, "it favours one shop", "anna")
    assert (done.action, done.candidate, done.decision_as_of, done.to_version) == (Action.REJECT, FIRST, T1, 1)
    assert waiting.registry.reject(A, "it favours one shop", "anna") == done
    for command in (
        partial(waiting.registry.approve, A, "", "boris", APPROVAL),
        partial(waiting.registry.promote, A, "", "boris"),
        partial(waiting.registry.reject, A, "", "boris"),
    ):
        with pytest.raises(FraudDetectionError, match=r"was rejected by anna .*it favours one shop.*candidates"):
            command()
    assert waiting.aliases() == {"champion": 1}
    waiting.registry.verified_log()


def test_a_pin_stops_a_persons_promotion_too(waiting: World) -> None:
    """Fails when one person's approval undoes another one's pin."""
    waiting.registry.pin("the audit", "boris")
    for command in (
        partial(waiting.registry.approve, A, "", "anna", APPROVAL),
        partial(waiting.registry.promote, B, "", "anna"),
    ):
        with pytest.raises(FraudDetectionError, match=r"pinned by boris .*the audit.*unpin"):
            command()
    assert waiting.aliases() == {"champion": 1}
    waiting.registry.unpin("done", "boris")
    assert waiting.registry.approve(A, "", "anna", APPROVAL).to_version == 2


def test_a_freeze_stops_approvals_and_lets_an_override_pass(waiting: World) -> None:
    """Fails when a model changes in the holidays by routine, or cannot be changed in an emergency."""
    today = datetime.now(UTC).date()
    freeze = Freeze.model_validate(
        {"from": today - timedelta(days=1), "to": today + timedelta(days=1), "reason": "holidays"}
    )
    with pytest.raises(
        FraudDetectionError, match=r"promotions are frozen from .*holidays; approve it then, or .*promote"
    ):
        waiting.registry.approve(A, "", "anna", Promotion(freezes=(freeze,)))
    with pytest.raises(FraudDetectionError, match=r"hours_between_promotions is 48: the next can be at"):
        waiting.registry.approve(A, "", "anna", Promotion(hours_between_promotions=48))
    assert_nothing_changed(waiting)
    assert waiting.registry.promote(A, "the champion fails", "anna").to_version == 2


def test_a_lost_model_is_not_promoted(waiting: World) -> None:
    """Fails when a damaged or missing model goes into service because a person wanted it."""
    record = opened_candidates(waiting.log.entries())[FIRST]
    root = Path(waiting.client.get_logged_model(record.model_id).artifact_location.removeprefix("file://"))
    (file,) = root.rglob("model.ubj")
    content = file.read_bytes()
    file.write_bytes(model(2).to_bytes())
    try:
        for command in (
            partial(waiting.registry.approve, A, "", "anna", APPROVAL),
            partial(waiting.registry.promote, A, "r", "anna"),
        ):
            with pytest.raises(FraudDetectionError, match=r"missing or damaged.*next look is due; .* candidates --"):
                command()
    finally:
        file.write_bytes(content)  # the tests share it
    assert_nothing_changed(waiting)


def test_a_retired_candidate_is_not_promoted(waiting: World) -> None:
    """Fails when a promotion of a candidate whose files are gone ends in MLflow's words."""
    retired = (RetirementRecord(candidate=SECOND, reason=RetirementReason.EXPIRED),)
    given = waiting.record(Outcome.NO_DECISION, T2, retired_candidates=(), schema_version=2)
    name = waiting.log.names()[-1]
    assert given.as_of == T2
    path = waiting.output / name
    path.write_text(given.model_copy(update={"retired_candidates": retired}).model_dump_json(), encoding="utf-8")
    with pytest.raises(FraudDetectionError, match=rf"{B} was retired at 2018-08-22 01:00 \(expired\).*candidates"):
        waiting.registry.promote(B, "r", "anna")


def test_an_unknown_or_ambiguous_name_is_explained(waiting: World) -> None:
    """Fails when a mistyped candidate promotes another one."""
    with pytest.raises(FraudDetectionError, match=r"no candidate is named '2019.*fraud-detection candidates"):
        waiting.registry.promote("2019-01-01T00:00", "r", "anna")
    with pytest.raises(FraudDetectionError, match=rf"'2018' fits 2 candidates: {A}, {B}"):
        waiting.registry.promote("2018", "r", "anna")


def test_a_promotion_of_a_run_meanwhile_refuses_the_approval(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when an approval replaces a champion that came into service while the command ran."""
    original = promotion_by_hand.begin_promotion

    def meanwhile(*arguments: Any) -> Any:
        begun = original(*arguments)
        other = world(waiting.output)
        other.client.set_tag(begun.info.run_id, registration.INTENT_TAG, "being written", synchronous=True)
        other.record(Outcome.PROMOTED, T2, seed=3)
        return begun

    monkeypatch.setattr(approvals, "begin_promotion", meanwhile)
    with pytest.raises(FraudDetectionError, match=r"not promoted: the champion has changed meanwhile: .*version 2"):
        waiting.registry.approve(A, "", "anna", APPROVAL)
    assert waiting.versions() == [1, 2]
    assert waiting.aliases() == {"champion": 2, "previous_champion": 1}
    assert persons(waiting) == []


def test_a_registered_model_that_scores_differently_is_refused(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when the files that were registered are not those that were compared, and serve all the same."""
    monkeypatch.setattr(registration, "load_model", lambda *_: model(2))
    with pytest.raises(FraudDetectionError, match=r"scores .* rows differently"):
        waiting.registry.approve(A, "", "anna", APPROVAL)
    assert_nothing_changed(waiting)
    (run,) = [run for run in waiting.runs() if run.data.tags.get(promotion_by_hand.KIND_TAG) == promotion_by_hand.KIND]
    assert (run.info.status, run.data.tags[registration.OUTCOME_TAG]) == ("FINISHED", "refused")


def test_a_run_after_an_approval_compares_with_the_new_champion(waiting: World) -> None:
    """Fails when runs go on with the champion that an approval has replaced."""
    waiting.registry.approve(A, "", "anna", APPROVAL)
    assert waiting.record(Outcome.PROMOTED, T2, seed=3).champion_version == 2
    assert waiting.aliases() == {"champion": 3, "previous_champion": 2}


STEPS = [pytest.param(i, step, id=f"{i}-{step.__name__}") for i, step in enumerate(promotion_by_hand.PROTOCOL)]


@pytest.mark.slow
@pytest.mark.parametrize(("index", "step"), STEPS)
def test_an_approval_killed_before_a_step_is_finished_by_the_next_run(
    waiting: World, monkeypatch: pytest.MonkeyPatch, index: int, step: Callable[..., None]
) -> None:
    """Fails when an approval killed half-way is lost, registered twice, or serves without an entry in the log."""

    def kill(_run: Registration) -> None:
        raise Killed(step.__name__)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(promotion_by_hand, "PROTOCOL", (*promotion_by_hand.PROTOCOL[:index], kill))
        waiting.registry.approve(A, "the board agreed", "anna", APPROVAL)
    fresh = world(waiting.output)
    (finished,) = fresh.registry.resume_open_intents(T2)
    assert isinstance(finished, Intervention)
    assert_approved(fresh)
    assert fresh.registry.approve(A, "the board agreed", "anna", APPROVAL) == finished
    assert_approved(fresh)


def assert_approved(here: World) -> None:
    assert here.versions() == [1, 2]
    assert here.aliases() == {"champion": 2, "previous_champion": 1}
    (done,) = persons(here)
    assert (done.action, done.to_version, done.candidate, done.who) == (Action.APPROVE, 2, FIRST, "anna")
    assert registration.OPEN not in [run.data.tags.get(registration.INTENT_TAG) for run in here.runs()]
    here.registry.verified_log()


CHANGES = ("create_", "set_", "delete_", "log_", "finalize_")


def killed_at_every_change(
    template: World, folder: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[World], object]
) -> Iterator[World]:
    """One world for each change that `act` makes to MLflow, the log or the lease, killed just before that change."""
    for survived in range(60):
        here = world(folder / str(survived), template)
        assert here.connection.experiment_id
        with monkeypatch.context() as patched:
            left = [survived]

            def counted(change: Callable[..., Any], *arguments: Any, _left: list[int] = left, **named: Any) -> Any:
                if _left[0] == 0:
                    raise Killed
                _left[0] -= 1
                return change(*arguments, **named)

            for name in dir(here.client):
                if name.startswith(CHANGES):
                    patched.setattr(here.client, name, partial(counted, getattr(here.client, name)))
            patched.setattr(here.log, "write", partial(counted, here.log.write))
            for name in ("write_atomic", "write_once"):
                patched.setattr(here.leases._storage, name, partial(counted, getattr(here.leases._storage, name)))
            try:
                act(here)
            except Killed:
                pass
            else:
                assert survived > 3, "nothing was changed: the kill is not armed"
                return
        yield here


@pytest.mark.slow
@pytest.mark.parametrize("verb", [Action.APPROVE, Action.PROMOTE, Action.REJECT])
def test_a_command_killed_before_any_change_can_be_repeated(
    _waiting: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: Action
) -> None:
    """Fails when a killed command leaves two versions, a champion without an entry, or cannot be repeated."""

    def act(here: World) -> Intervention:
        if verb is Action.APPROVE:
            return here.registry.approve(A, "r", "anna", APPROVAL)
        command = here.registry.promote if verb is Action.PROMOTE else here.registry.reject
        return command(A, "r", "anna")

    for here in killed_at_every_change(_waiting, tmp_path, monkeypatch, act):
        fresh = world(here.output)
        done = act(fresh)
        assert (done.action, done.candidate) == (verb, FIRST)
        assert persons(fresh) == [done]
        served = {"champion": 1} if verb is Action.REJECT else {"champion": 2, "previous_champion": 1}
        assert fresh.aliases() == served
        assert fresh.versions() == sorted({1, served["champion"]})
        fresh.registry.verified_log()


def test_a_rollback_wins_against_a_killed_approval(waiting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when finishing a killed approval overrides what a person has pinned since."""
    index = promotion_by_hand.PROTOCOL.index(registration.set_champion)

    def kill(_run: Registration) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(promotion_by_hand, "PROTOCOL", (*promotion_by_hand.PROTOCOL[:index], kill))
        waiting.registry.approve(A, "r", "anna", APPROVAL)
    fresh = world(waiting.output)
    with monkeypatch.context() as patched:
        patched.setattr("fraud_detection.registry.rollback.resume_open_intents", lambda *_: ())
        fresh.registry.pin("the audit", "boris")
    assert fresh.registry.resume_open_intents(T2) == ()
    assert [entry.action for entry in persons(fresh)] == [Action.PIN]
    assert fresh.aliases()["champion"] == 1
    assert fresh.versions() == [1]
    assert failed(fresh.record(Outcome.PROMOTED, T2, seed=3)) == ["not_pinned"]


def test_the_first_champion_can_be_approved(empty: World) -> None:
    """Fails when approval mode can never put a first model into service."""
    record = frozen(empty, FIRST, 1)
    empty.registry.write_opening(opening(T1, (record,)), empty.registry.verified_log().head)
    passed(empty, T1, FIRST, serving=None)
    done = empty.registry.approve(A, "", "anna", APPROVAL)
    assert (done.from_version, done.to_version) == (None, 1)
    assert empty.aliases() == {"champion": 1}
    assert artifact(empty, 1, "model.ubj").read_bytes() == model(1).to_bytes()
