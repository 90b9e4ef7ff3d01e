"""Compares the champion with the one that it replaced, where `automatic_rollback` is on.

The look is opened in the log with those at candidates, before anything is measured, and its result is in the decision.
So a run that is killed takes the same look again, and the risk is spent once. The rule: `promotion.rollback_rule`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd

from fraud_detection.errors import FraudDetectionError, ServiceUnavailableError
from fraud_detection.evaluation import compare
from fraud_detection.evaluation.empirical_likelihood import signed_root
from fraud_detection.features import features_columns
from fraud_detection.holdout import HoldoutSpan, collect_first_seen, collect_scored, count_frauds, holdout_rows
from fraud_detection.promotion import check_look
from fraud_detection.promotion.rollback_rule import due_look, risk_of_look, rollback_limits
from fraud_detection.registry import Champion
from fraud_detection.registry.decision_log import LogEntry
from fraud_detection.registry.predecessor import Predecessor, last_rollback_look
from fraud_detection.runs.looks import CHAMPION, Scored, as_holdout
from fraud_detection.runs.retired_columns import MissingColumns
from fraud_detection.runs.shadow import Shadow
from fraud_detection.runs.training import Trainer
from fraud_detection.schema import LookLimitsRecord, RollbackLook, RollbackLookKey, Span
from fraud_detection.time_windows import matured_until, training_gap

_PREDECESSOR = "predecessor"


@dataclass(frozen=True)
class RollbackWatch:
    """A champion and the version that it replaced."""

    champion: Champion
    predecessor: Predecessor
    shadow: Shadow
    trainer: Trainer

    def due(self, log: Sequence[LogEntry]) -> RollbackLookKey | None:
        """The look that this run opens, or None. The predecessor is not loaded for it."""
        span = self._span()
        if span.start >= span.end:
            return None
        frauds = self.trainer.frauds.covering((span,))
        counts = count_frauds(holdout_rows(frauds, frauds, span, self.shadow.settings))
        taken = last_rollback_look(log, self.predecessor, self.shadow.as_of)
        number = due_look(counts, taken, self.shadow.rule)
        return None if number is None else self._key(number)

    def load(self, missing: MissingColumns) -> Champion | str:
        """The predecessor, or why it cannot be compared."""
        try:
            loaded = self.trainer.registry.load_version(self.predecessor.version)
        except ServiceUnavailableError:
            raise
        except FraudDetectionError as error:
            return str(error)
        settings, transactions = self.shadow.settings, self.trainer.transactions
        columns = list(features_columns(transactions, settings, self.shadow.as_of))
        lost = set(loaded.model.missing_columns(pd.DataFrame(columns=columns))) - set(missing.features)
        if lost:
            return f"v{loaded.version} reads {', '.join(sorted(lost))}, which the settings no longer map"
        return loaded

    def take(self, key: RollbackLookKey, predecessor: Champion, missing: MissingColumns) -> RollbackLook:
        """Measure an opened look; the predecessor is in the challenger's place."""
        settings, span = self.shadow.settings, self._span()
        scored = self._score(span, predecessor, missing)
        rows = holdout_rows(scored.rows, scored.frauds, span, settings)
        champion, challenger = (rows[name].to_numpy(np.float64) for name in (CHAMPION, _PREDECESSOR))
        measured = compare(as_holdout(rows, scored, settings), champion, challenger, settings.comparison)
        cards, risk = count_frauds(rows).fraud_cards, settings.automatic_rollback.risk
        limits = rollback_limits(cards, key.number, risk, self.shadow.rule)
        root = None if measured is None else signed_root(measured.contributions.contribution)
        checks = () if measured is None or root is None else check_look(measured, root, limits, settings)
        return RollbackLook(
            key=key,
            holdout=Span(start=span.start, end=span.end, transactions=len(rows), frauds=int(rows["fraud"].sum())),
            fraud_cards=cards,
            champion=measured and measured.champion,
            predecessor=measured and measured.challenger,
            difference=measured and measured.difference,
            root=root,
            limits=LookLimitsRecord(
                root=limits.root,
                difference_for_unseen_cards=limits.difference_for_unseen_cards,
                difference_that_matters=limits.difference_that_matters,
            ),
            risk=risk_of_look(risk, key.number),
            checks=checks,
            passed=bool(checks) and all(check.passed for check in checks),
        )

    def is_of(self, key: RollbackLookKey) -> bool:
        """Whether a look that was opened is about these two versions."""
        return key == self._key(key.number)

    def _key(self, number: int) -> RollbackLookKey:
        one = self.predecessor
        return RollbackLookKey(champion_version=one.champion_version, predecessor_version=one.version, number=number)

    def _span(self) -> HoldoutSpan:
        """Matured rows later than the hold-out that promoted the champion, and than its training.

        The predecessor was trained before. Its labels are known by the promotion, as the champion's at the latest.
        """
        windows, as_of = self.shadow.settings.windows, self.shadow.as_of
        trained = self.champion.training.end
        start, end = max(self.predecessor.judged_until, trained + training_gap(windows)), matured_until(as_of, windows)
        return HoldoutSpan(min(start, end), end, as_of, trained, self.predecessor.promoted_as_of)

    def _score(self, span: HoldoutSpan, predecessor: Champion, missing: MissingColumns) -> Scored:
        transactions, settings = self.trainer.transactions, self.shadow.settings
        content = {CHAMPION: self.champion.model.to_bytes(), _PREDECESSOR: predecessor.model.to_bytes()}
        rows = collect_scored(transactions, span.start, span.end, content, settings, missing.features)
        first_seen = None
        if "customer_id" in rows:
            since = span.start - timedelta(days=settings.comparison.new_card_days)
            first_seen = collect_first_seen(transactions, since, span.end)
        return Scored(rows, (), self.trainer.frauds.covering((span,)), first_seen, transactions.profile.first)


def unmeasured(key: RollbackLookKey, shadow: Shadow) -> RollbackLook:
    """A look that was opened and cannot be taken any more; its risk is spent."""
    end = matured_until(shadow.as_of, shadow.settings.windows)
    return RollbackLook(
        key=key,
        holdout=Span(start=end, end=end, transactions=0, frauds=0),
        fraud_cards=0,
        champion=None,
        predecessor=None,
        difference=None,
        root=None,
        limits=None,
        risk=risk_of_look(shadow.settings.automatic_rollback.risk, key.number),
        checks=(),
        passed=False,
    )
