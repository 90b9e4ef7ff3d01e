"""Train, freeze and load the candidates of a run."""

from dataclasses import dataclass
from datetime import datetime

from fraud_detection.data_health.examination import Verdict, judge
from fraud_detection.data_health.leakage import check_leakage
from fraud_detection.features import feature_names
from fraud_detection.holdout import EverFrauds
from fraud_detection.model.fit import fit
from fraud_detection.model.model import Model
from fraud_detection.registry import CandidateLostError, NewCandidate, Registry
from fraud_detection.runs.progress import Stopwatch
from fraud_detection.runs.shadow import PlannedCandidate
from fraud_detection.sampling import TrainingSample, collect_training_sample
from fraud_detection.schema import CandidateRecord
from fraud_detection.settings import Settings
from fraud_detection.time_windows import CandidateSpans, candidate_spans
from fraud_detection.transactions.reader import Transactions


@dataclass(frozen=True)
class Trainer:
    """Makes candidates from the data of a run."""

    registry: Registry
    transactions: Transactions
    frauds: EverFrauds
    recipe: str
    settings: Settings
    watch: Stopwatch

    def sample(self, spans: CandidateSpans) -> TrainingSample:
        """The rows that train a candidate."""
        with self.watch("features"):
            return collect_training_sample(self.transactions, spans, self.settings)

    def examine(self, sample: TrainingSample) -> Verdict:
        """Whether an input of the sample gives its frauds away."""
        inputs = (*feature_names(self.settings), *self.settings.data.columns.extra_categorical)
        found = check_leakage(sample.rows, sample.weights, sample.span, inputs, self.settings)
        return judge(found, self.settings.data_health)

    def freeze(
        self, planned: PlannedCandidate, sample: TrainingSample, opened_at: datetime, growth: float
    ) -> CandidateRecord:
        """Train a candidate, and keep it in MLflow."""
        model = self._fit(sample)
        candidate = NewCandidate(
            planned.key,
            sample.span,
            growth,
            self.settings.training.seed,
            opened_at,
            planned.backfilled,
            planned.drifted,
        )
        with self.watch("freeze"):
            return self.registry.freeze_candidate(candidate, model)

    def load(self, record: CandidateRecord) -> Model:
        """The model of a candidate; one that was lost is trained again.

        Raises:
            CandidateLostError: it was lost, and this run has other settings than the one that trained it.
            CandidateChangedError: it was lost, and training it again gave another model.
        """
        try:
            with self.watch("load candidates"):
                return self.registry.load_candidate(record)
        except CandidateLostError:
            if record.key.recipe != self.recipe:
                raise
        model = self._fit(self.sample(candidate_spans(record.key.label_cutoff, self.settings.windows)))
        with self.watch("freeze"):
            self.registry.restore_candidate(record, model)
        return model

    def _fit(self, sample: TrainingSample) -> Model:
        with self.watch("train"):
            numeric, categorical = feature_names(self.settings), self.settings.data.columns.extra_categorical
            return fit(sample.rows, sample.weights, self.settings.training, numeric, categorical)
