"""All that is recorded of one version of the model, as one archive for somebody who was not there.

It holds no row of data and no password: the log's entries as they are stored, MLflow's tags, parameters and metrics of
the run that registered the version, the report, and the model's own file.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fraud_detection import __version__
from fraud_detection.errors import FraudDetectionError
from fraud_detection.outputs import report_file
from fraud_detection.registry.artifacts import MODEL_FILE, ModelVersionTags, digest, download
from fraud_detection.registry.context import Context
from fraud_detection.registry.decision_log import (
    PROMOTIONS,
    Intervention,
    LogEntry,
    entry_name,
    entry_time,
    stored_form,
)
from fraud_detection.registry.log_chain import VerifiedLog, verify_chain
from fraud_detection.schema import CandidateKey, Decision, Opening, Outcome
from fraud_detection.storage import Storage

MANIFEST = "SHA256SUMS"
_VERSION_FILE = "mlflow/version.json"
_FIRST_TIME = (1980, 1, 1, 0, 0, 0)  # that a ZIP archive knows


@dataclass(frozen=True)
class Evidence:
    """What an archive holds."""

    promoted_by: Decision | Intervention
    """The entry of the log that put the version into service first."""
    files: Mapping[str, bytes]
    """By their names in the archive, with the digests of all others in `SHA256SUMS`."""

    def archive(self) -> bytes:
        """A ZIP archive; the same bytes for the same files."""
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            for name in sorted(self.files):
                entry = zipfile.ZipInfo(name, _FIRST_TIME)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, self.files[name], zipfile.ZIP_DEFLATED)
        return content.getvalue()


def collect_evidence(context: Context, storage: Storage, version: int) -> Evidence:
    """Everything that is recorded of a version. Nothing is written.

    Args:
        context: the registry.
        storage: the output folder, which has the reports.
        version: which one.

    Raises:
        LogMismatchError: the log, which is the evidence, is not the one that was written.
        FraudDetectionError: nothing in the log has put this version into service, or MLflow has lost it.
    """
    log = verify_chain(context)
    promoted_by = promotion_of(log.entries, version)
    if promoted_by is None:
        served = sorted({found for entry in log.entries if (found := promoted_version(entry)) is not None})
        raise FraudDetectionError(
            f"version {version} of {context.name} has never been in service by the log in {context.commands.output};"
            f" expected one of {', '.join(map(str, served)) or 'none: nothing was promoted yet'}; next:"
            " fraud-detection decisions"
        )
    entries = tuple(entries_about(log.entries, version, candidates_of(promoted_by)))
    registered = _registered(context, version)
    files = {f"log/{entry_name(entry).rpartition('/')[2]}": stored_form(entry) for entry in entries}
    files |= registered | _reports(storage, context.name, entries)
    files["README.md"] = _card(log, promoted_by, entries, files).encode()
    sums = (f"{digest(content)}  {name}\n" for name, content in sorted(files.items()))
    return Evidence(promoted_by, {**files, MANIFEST: "".join(sums).encode()})


def promoted_version(entry: LogEntry) -> int | None:
    """The version that an entry made and put into service, or None."""
    if isinstance(entry, Decision):
        return entry.version if entry.outcome is Outcome.PROMOTED else None
    if isinstance(entry, Intervention):
        return entry.to_version if entry.action in PROMOTIONS else None
    return None


def promotion_of(entries: Iterable[LogEntry], version: int) -> Decision | Intervention | None:
    """The entry that made a version and put it into service."""
    for entry in entries:
        if not isinstance(entry, Opening) and promoted_version(entry) == version:
            return entry
    return None


def candidates_of(promotion: Decision | Intervention) -> frozenset[CandidateKey]:
    """The candidates that a promotion put into service: the winner, and its refit."""
    if isinstance(promotion, Intervention):
        return frozenset() if promotion.candidate is None else frozenset({promotion.candidate})
    won = {look.candidate for look in promotion.looks if look.passed}
    if promotion.refit is not None:
        won |= {promotion.refit.winner, promotion.refit.refit.key}
    return frozenset(won)


def entries_about(entries: Sequence[LogEntry], version: int, keys: frozenset[CandidateKey]) -> Iterator[LogEntry]:
    """The entries that concern a version or the candidates that it was, in their order."""
    for entry in entries:
        if not keys.isdisjoint(_candidates_in(entry)) or version in _versions_in(entry):
            yield entry


def _candidates_in(entry: LogEntry) -> set[CandidateKey]:
    if isinstance(entry, Opening):
        return {*(record.key for record in entry.candidates), *(look.candidate for look in entry.looks)}
    if isinstance(entry, Decision):
        looked_at = (look.candidate for look in entry.looks)
        return {*entry.opened, *looked_at, *(record.candidate for record in entry.retired_candidates)}
    return set() if entry.candidate is None else {entry.candidate}


def _versions_in(entry: LogEntry) -> tuple[int | None, ...]:
    """The versions that an entry has made, put into service or taken out of it."""
    if isinstance(entry, Opening):
        return ()
    return (entry.version,) if isinstance(entry, Decision) else (entry.from_version, entry.to_version)


def _registered(context: Context, version: int) -> dict[str, bytes]:
    """What MLflow has of the version: its tags, the run's settings and figures, and the model's file.

    Raises:
        FraudDetectionError: it is lost or changed.
    """
    from mlflow.exceptions import MlflowException

    connection = context.connection
    try:
        found = connection.client.get_model_version(context.name, str(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise FraudDetectionError(
            f"version {version} of {context.name} is not in MLflow at {connection.shown_uri}, though the log has it;"
            " expected the registry that the log belongs to; next: restore MLflow from its backup (docs/operations.md)"
        ) from error
    sha256 = ModelVersionTags.from_tags(found.tags).sha256
    root = connection.client.get_model_version_download_uri(context.name, str(version))
    model = download(connection, root, MODEL_FILE)
    if digest(model) != sha256:
        raise FraudDetectionError(
            f"{MODEL_FILE} of version {version} has the SHA-256 {digest(model)[:12]}…; expected {sha256[:12]}…, which"
            " its tag says; next: restore MLflow's artifacts from their backup (docs/operations.md)"
        )
    run = connection.client.get_run(found.run_id)
    described = {
        "name": context.name,
        "version": version,
        "run_id": found.run_id,
        "description": found.description,
        "tags": dict(sorted(found.tags.items())),
    }
    own = {name: text for name, text in sorted(run.data.tags.items()) if not name.startswith("mlflow.")}
    values = {
        _VERSION_FILE: described,
        "mlflow/run_tags.json": own,
        "mlflow/metrics.json": dict(sorted(run.data.metrics.items())),
        "settings.json": dict(sorted(run.data.params.items())),
    }
    return {name: _json(value) for name, value in values.items()} | {MODEL_FILE: model}


def _json(value: Any) -> bytes:  # noqa: ANN401
    return (json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n").encode()


def _reports(storage: Storage, name: str, entries: Iterable[LogEntry]) -> dict[str, bytes]:
    """The reports of the decisions that there still are."""
    decisions = (entry for entry in entries if isinstance(entry, Decision))
    paths = {f"reports/{entry.as_of:%Y%m%dT%H%M%SZ}.html": report_file(name, entry.as_of) for entry in decisions}
    contents = {inside: storage.read(path) for inside, path in paths.items()}
    return {inside: content for inside, content in contents.items() if content is not None}


def _card(
    log: VerifiedLog, promoted_by: Decision | Intervention, entries: Sequence[LogEntry], files: Mapping[str, bytes]
) -> str:
    """The first page of the archive."""
    described = json.loads(files[_VERSION_FILE])
    known = ModelVersionTags.from_tags(described["tags"])
    missing = sum(isinstance(entry, Decision) for entry in entries) - sum(name.startswith("reports/") for name in files)
    fingerprints = {e.as_of: e.data_fingerprint for e in entries if isinstance(e, Decision) and e.data_fingerprint}
    lines = [
        f"# {described['name']}, version {described['version']}",
        "",
        f"Collected by fraud-detection {__version__} from a decision log of {len(log.entries)} entries. Each entry"
        " holds the SHA-256 of the one before it; the whole chain was verified when this was collected.",
        f"The newest entry has the SHA-256 {log.head}.",
        "",
        "| | |",
        "|---|---|",
        f"| trained on | {known.training.start:%Y-%m-%d %H:%M} to {known.training.end:%Y-%m-%d %H:%M} UTC:"
        f" {known.training.transactions:,} transactions, {known.training.frauds:,} frauds |",
        f"| alerts from the score | {'not stored' if known.threshold is None else known.threshold.probability} |",
        f"| in service since | {entry_time(promoted_by):%Y-%m-%d %H:%M:%S} UTC |",
        f"| put there by | {_cause(promoted_by)} |",
        f"| SHA-256 of {MODEL_FILE} | {known.sha256}, checked |",
        f"| code revision | {getattr(promoted_by, 'code_revision', None) or 'in the decision that it answers'} |",
        "",
        "| file | what it is |",
        "|---|---|",
        "| `log/` | every entry of the decision log about this version or the candidate that it was, byte for byte |",
        f"| `reports/` | the reports of these decisions{f'; {missing} are no longer kept' if missing else ''} |",
        "| `settings.json` | the settings of the run that registered it |",
        "| `mlflow/` | tags and description of the version, tags and metrics of its run |",
        f"| `{MODEL_FILE}` | the model, as XGBoost writes it |",
        f"| `{MANIFEST}` | the digests of all files; check with `sha256sum --check {MANIFEST}` |",
        "",
        "## Data",
        "",
        "The fingerprint of the data as they were known at the as-of time of each decision:",
        "",
        *(f"- {as_of:%Y-%m-%d %H:%M} UTC: `{found}`" for as_of, found in fingerprints.items()),
        "",
        "## Why it serves",
        "",
        str(described["description"] or "").strip(),
        "",
    ]
    return "\n".join(lines)


def _cause(promoted_by: Decision | Intervention) -> str:
    if isinstance(promoted_by, Intervention):
        return f"{promoted_by.who} with `{promoted_by.action}`: {promoted_by.reason}"
    return f"the run as of {promoted_by.as_of:%Y-%m-%d %H:%M} UTC"
