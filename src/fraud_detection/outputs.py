"""Names of the objects under the output folder. docs/storage.md says when each is written and by whom.

Writers and readers take every name from here. The DAGs, which cannot import the library, repeat the names that they
read; `tests/dags/test_reading_outputs.py` compares them with these.
"""

import re
from datetime import UTC, date, datetime

DATABASE = "mlflow.db"
"""Of the embedded MLflow, on disk only."""
ARTIFACTS = "mlartifacts"
"""Folder of the embedded MLflow, beside its database."""
DECISIONS = "decisions/"
"""Folder of the decision logs of all models."""
OUTCOMES = "outcomes/"
"""Folder of the outcomes of all models' runs."""
QUARANTINE = "quarantine/"
"""Folder of the rejected rows of all models' runs."""

STORES = "_store/"
"""Folder of the stores of rows; an input folder that holds it leaves out names that begin like this."""
SCORES = "scores/"
"""Folder of the scores of all models."""
FORGOTTEN = "forgotten/"
"""Folder of the cards that were erased, and of the salt of their hashes."""
SALT = f"{FORGOTTEN}salt"

_DECISION = re.compile(r"decisions/[^/]+/\d{8}T\d{6}Z\.json")
_OPENING = re.compile(r"decisions/[^/]+/\d{8}T\d{6}Z-opening\.json")
_INTERVENTION = re.compile(
    r"decisions/[^/]+/\d{8}T\d{12}Z-(rollback|pin|unpin|retire-champion|approve|reject|promote|accept-log)\.json"
)


def decisions_folder(model_name: str) -> str:
    """Folder of the decision log of one model: openings, decisions and interventions."""
    return f"{DECISIONS}{model_name}/"


def decision_file(model_name: str, as_of: datetime) -> str:
    """The decision of one as-of time."""
    return f"{decisions_folder(model_name)}{_second(as_of)}.json"


def opening_file(model_name: str, as_of: datetime) -> str:
    """What the run at one as-of time is going to measure; sorts before its decision."""
    return f"{decisions_folder(model_name)}{_second(as_of)}-opening.json"


def first_name_since(model_name: str, since: datetime) -> str:
    """Names of the decisions, openings and interventions since then sort at or after it."""
    return f"{decisions_folder(model_name)}{_second(since)}"


def time_in(name: str) -> datetime:
    """The time in the name of an entry, to the second: of a decision and its opening the as-of time."""
    stamp = name.rpartition("/")[2][:15]
    return datetime.strptime(stamp, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def intervention_file(model_name: str, action: str, pinned_at: datetime) -> str:
    """What a person did to the model in service, by the time of the pin or retirement."""
    return f"{decisions_folder(model_name)}{_microsecond(pinned_at)}-{action}.json"


def is_decision(name: str) -> bool:
    """Whether this is the name of a decision."""
    return _DECISION.fullmatch(name) is not None


def is_opening(name: str) -> bool:
    """Whether this is the name of an opening."""
    return _OPENING.fullmatch(name) is not None


def is_intervention(name: str) -> bool:
    """Whether this is the name of an intervention."""
    return _INTERVENTION.fullmatch(name) is not None


def leases_folder(model_name: str) -> str:
    """Folder of the leases of one model."""
    return f"leases/{model_name}/"


def lease_file(model_name: str, generation: int) -> str:
    """One generation of the lease; names sort like generations."""
    return f"{leases_folder(model_name)}{generation:08d}.json"


def report_file(model_name: str, as_of: datetime) -> str:
    """The report of the run at one as-of time."""
    return f"{reports_folder(model_name)}{_second(as_of)}/report.html"


def reports_folder(model_name: str) -> str:
    """Folder of the reports of one model."""
    return f"reports/{model_name}/"


def retention_file(model_name: str) -> str:
    """What was removed of one model for its age."""
    return f"retention/{model_name}.json"


def dashboard_file(model_name: str) -> str:
    """The page of a model: what serves, how well, and what happened; every run replaces it."""
    return f"dashboards/{model_name}.html"


def service_weeks_file(model_name: str) -> str:
    """What the versions of a model were worth in each week of their service."""
    return f"service/{model_name}.json"


def dashboard_history_file(model_name: str) -> str:
    """What the page shows of times before those that a run reads in the log."""
    return f"dashboards/{model_name}.json"


def schedule_file(model_name: str) -> str:
    """What is due next for a model, for the schedule."""
    return f"schedule/{model_name}.json"


def known_labels_file(model_name: str) -> str:
    """The most labels of each day that any run of a model has known."""
    return f"known_labels/{model_name}.json"


def outcome_file(run_name: str) -> str:
    """How a run ended."""
    return f"{OUTCOMES}{run_name}.json"


def quarantine_file(clock: datetime) -> str:
    """The rejected rows of the run that began at `clock`."""
    return f"{QUARANTINE}{_second(clock)}/rejected.csv"


def store_folder(key: str) -> str:
    """The store of rows with a key."""
    return f"{STORES}{key}/"


def features_folder(store: str, key: str = "") -> str:
    """The features of the rows of a store by day, of one key or of all.

    Args:
        store: the folder of the store.
        key: of the settings that the features depend on.
    """
    return f"{store}features/{key}/" if key else f"{store}features/"


def forgotten_file(card_hash: str) -> str:
    """When and why a card was erased, by its salted hash."""
    return f"{FORGOTTEN}{card_hash}.json"


def scores_folder(model_name: str) -> str:
    """Folder of the scores of one model."""
    return f"{SCORES}{model_name}/"


def score_manifests_folder(model_name: str) -> str:
    """Folder of the manifests of the batches of one model."""
    return f"{scores_folder(model_name)}manifest/"


def score_manifest_file(model_name: str, number: int) -> str:
    """What had been scored after a batch."""
    return f"{score_manifests_folder(model_name)}{number:08d}.json.gz"


def scores_file(model_name: str, day: date, number: int, token: str) -> str:
    """The transactions of a day that a batch has scored; `token` is of the try."""
    return f"{scores_folder(model_name)}days/{day}/{number:08d}-{token}.parquet"


def alerts_file(model_name: str, day: date) -> str:
    """The alerts among the scored transactions of a day."""
    return f"{scores_folder(model_name)}alerts/{day}.csv"


def journal_file(model_name: str) -> str:
    """The transactions that a server has scored and the store has not yet."""
    return f"serving/{model_name}.journal"


def _second(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _microsecond(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ")
