"""The command line: one verb per command; see `docs/cli.md`.

Exit codes: 0 a decision was made (also `no_decision`), 2 wrong arguments or settings, 65 the data breaks its contract
(do not retry), 75 a service cannot be reached (retry later), 130 interrupted, 1 anything else.
"""

import getpass
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fraud_detection import __version__
from fraud_detection.command_line import Given, Group, print_json, show_error
from fraud_detection.errors import DataError, FraudDetectionError, SettingsError, StalledError
from fraud_detection.locations import is_object, local_path
from fraud_detection.masking import mask
from fraud_detection.outputs import DATABASE, journal_file
from fraud_detection.runs.preflight import check_paths, require_input, require_past
from fraud_detection.runs.watchdog import Watchdog
from fraud_detection.settings import Columns, load_settings
from fraud_detection.shapes import one_line
from fraud_detection.spark_session import Engine
from fraud_detection.time_windows import whole_hour
from fraud_detection.tracking_address import checked_address, require_driver

if TYPE_CHECKING:
    from fraud_detection.registry import Registry
    from fraud_detection.registry.decision_log import DecisionLog, Entry, Intervention
    from fraud_detection.runs.outcome import Results
    from fraud_detection.runs.progress import Progress, Stopwatch
    from fraud_detection.runs.request import ClusterPrice, Request
    from fraud_detection.schema import Decision


_CONFIG = click.option(
    "--config",
    type=Given("path", "the path of a YAML file", Path),
    default=Path("conf/retraining.yaml"),
    show_default=True,
    help="Settings, a YAML file.",
)
_INPUT = click.option(
    "--input",
    "input_path",
    type=Given("path", "the path of a file or a folder, or its file:/// or s3a:// URL"),
    required=True,
    help="Transactions: a CSV or Parquet file, or a folder of them.",
)
_OUTPUT = click.option(
    "--output",
    type=Given("path", "the path of a folder, or its file:/// or s3a:// URL"),
    default="data/output_data",
    show_default=True,
    help="Folder of the results: decisions, dashboards, reports, scores, quarantine, outcomes, schedule, leases,"
    " mlflow.db.",
)
_STORE = click.option(
    "--store",
    type=Given("path", "the path of a folder, or its file:/// or s3a:// URL"),
    help="Folder of the checked rows by day, which any run can make again; --output is the default.",
)
_TRACKING_URI = click.option(
    "--tracking-uri",
    type=Given("URI", "http://HOST:PORT, https://HOST or sqlite:///PATH/mlflow.db"),
    envvar="MLFLOW_TRACKING_URI",
    show_envvar=True,
    help="MLflow: http(s)://HOST:PORT of a server, or sqlite:///PATH/mlflow.db.  [default: sqlite:///OUTPUT/mlflow.db]",
)
_ENGINE = click.option(
    "--engine",
    type=click.Choice([engine.value for engine in Engine]),
    default=Engine.SAIL.value,
    show_default=True,
    help="sail: embedded Sail; spark: Apache Spark on this machine, or on the cluster that runs the job.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
_LONGEST_REASON = 500
_FIRST_YEAR, _LAST_YEAR = 1900, 2999
"""Of a time that a user gives: Python cannot subtract a training window from the year 1."""


def _reason(_context: click.Context, _option: click.Parameter, text: str) -> str:
    """One line that says something, since it becomes a cell of the history."""
    line = one_line(text)
    if not 1 <= len(line) <= _LONGEST_REASON:
        found = f"{len(line)} characters" if line else "nothing"
        raise click.BadParameter(f"found {found}; expected one line of 1 to {_LONGEST_REASON} characters")
    return line


_REASON = click.option(
    "--reason", callback=_reason, required=True, help="The reason, one line; recorded in the decision log."
)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fraud-detection")
def main() -> None:
    """Retrain a card-fraud model on fresh labels, and promote it only if it is significantly better."""


main.add_entry_points("fraud_detection.commands")


def _request(
    config: Path,
    input_path: str,
    output: str,
    store: str | None,
    tracking_uri: str | None,
    as_of: datetime | None,
    engine: str,
) -> "Request":
    """What a verb is to work on, its settings and places checked before anything slow is imported.

    Raises:
        FraudDetectionError: see `load_settings`, `check_paths` and `require_past`.
    """
    clock = datetime.now(UTC)
    settings, address = load_settings(config), tracking_uri or default_tracking_uri(output)
    check_paths(settings, input_path, output, address, store)
    require_past(as_of, clock)
    from fraud_detection.runs.request import Request

    return Request(
        settings=settings,
        config=str(config),
        input_path=input_path,
        output=output,
        tracking_uri=address,
        as_of=as_of,
        engine=Engine(engine),
        clock=clock,
        store=store,
    )


def _moment(_context: click.Context, _option: click.Parameter, text: str | None) -> datetime | None:
    """An ISO moment; without a zone it is UTC."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not an ISO time such as 2026-05-24T00:00:00") from error
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise click.BadParameter(f"{text!r} is not a time between the years {_FIRST_YEAR} and {_LAST_YEAR}")
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _span(context: click.Context, option: click.Parameter, text: str | None) -> tuple[datetime, datetime] | None:
    """A moment, or from the first to the last one of a day."""
    moment = _moment(context, option, text)
    if moment is None or text is None:
        return None
    whole_day = re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text) is not None
    return moment, moment + timedelta(days=1, microseconds=-1) if whole_day else moment


def _file_name(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    """A name that is safe as that of a file, since it becomes one."""
    if text is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", text):
        raise click.BadParameter(f"{text!r} is not a name of letters, digits, hyphens, dots and underscores")
    return text


@main.command()
@_CONFIG
@_INPUT
@_OUTPUT
@_STORE
@_TRACKING_URI
@click.option(
    "--as-of",
    callback=_moment,
    help="As-of time, ISO 8601, floored to the hour.  [default: the first hour after the newest transaction]",
)
@_ENGINE
@click.option(
    "--run-name",
    callback=_file_name,
    help="Record the outcome of the run in OUTPUT/outcomes/NAME.json, for the scheduler.",
)
@click.option(
    "--retain/--no-retain",
    help="After the first decision of a day remove old results, as `retain --yes` does.",
)
@click.option(
    "--score/--no-score",
    "scoring",
    help="After the decision score the new transactions with the champion, as `score` does.",
)
@click.option(
    "--cost-per-hour",
    type=click.FloatRange(0, min_open=True),
    help="Price of an hour of the cluster, to record what it has cost; needs --currency and --cost-since.",
)
@click.option("--currency", help="Of --cost-per-hour, such as RUB.")
@click.option("--cost-since", callback=_moment, help="When the cluster was created, ISO 8601.")
@_JSON
def retrain(
    config: Path,
    input_path: str,
    output: str,
    store: str | None,
    tracking_uri: str | None,
    as_of: datetime | None,
    engine: str,
    run_name: str | None,
    retain: bool,
    scoring: bool,
    cost_per_hour: float | None,
    currency: str | None,
    cost_since: datetime | None,
    as_json: bool,
) -> None:
    """Train a challenger, compare it with the champion on fresh transactions, and decide."""
    price = _price(cost_per_hour, currency, cost_since)
    try:
        request = _request(config, input_path, output, store, tracking_uri, as_of, engine)
        request = replace(request, cluster_price=price)
    except FraudDetectionError as error:
        _record_early(output, run_name, error)
        raise
    from fraud_detection.runs.outcome import record_run_outcome

    with record_run_outcome(output, run_name) as results:
        follow_ups = [*([_score_after] if scoring else []), *([_retain_after] if retain else [])]
        decision = _decide(request, results, run_name, follow_ups, as_json=as_json)
    if as_json:
        print_json(decision.model_dump_json(indent=2))


def _price(per_hour: float | None, currency: str | None, since: datetime | None) -> "ClusterPrice | None":
    """The price of the cluster; None if it was not given."""
    if per_hour is None and currency is None and since is None:
        return None
    if per_hour is None or not currency or since is None:
        raise click.UsageError("--cost-per-hour, --currency and --cost-since go together; give all three, or none")
    from fraud_detection.runs.request import ClusterPrice

    return ClusterPrice(per_hour, currency, since)


def _record_early(output: str, run_name: str | None, error: FraudDetectionError) -> None:
    if run_name is not None:
        from fraud_detection.runs.outcome import record_failure

        with suppress(FraudDetectionError):  # the first error is the one to report
            record_failure(output, run_name, error)


_FollowUp = Callable[["Request", "Decision", "Results", "Progress", "Stopwatch"], None]


def _decide(
    request: "Request", results: "Results", run_name: str | None, follow_ups: Sequence[_FollowUp], *, as_json: bool
) -> "Decision":
    """Run, which imports the engines and MLflow: for seconds. What follows the decision does not change it."""
    from fraud_detection.runs.outcome import record_failure
    from fraud_detection.runs.progress import Stopwatch
    from fraud_detection.runs.retrain import retrain

    def give_up(error: StalledError) -> None:
        show_error(error, as_json=as_json)
        with suppress(FraudDetectionError):  # the storage may be what hangs
            record_failure(request.output, run_name, error, results)

    progress = partial(print_step, err=as_json)
    with Watchdog(request.settings.progress_timeout_minutes, give_up) as watchdog:
        decision = retrain(request, progress, Stopwatch(watchdog.progress), results.complete)
        results.decision = decision
        for follow_up in follow_ups:
            follow_up(request, decision, results, progress, Stopwatch(watchdog.progress))
    return decision


def _score_after(
    request: "Request", decision: "Decision", results: "Results", progress: "Progress", watch: "Stopwatch"
) -> None:
    from fraud_detection.runs.score import score_after

    results.scores = score_after(request, decision.as_of, progress, watch)


def _retain_after(
    request: "Request", _decision: "Decision", results: "Results", progress: "Progress", _watch: "Stopwatch"
) -> None:
    from fraud_detection.registry.decision_log import DecisionLog
    from fraud_detection.runs.retention import retain_daily
    from fraud_detection.runs.retrain import open_registry
    from fraud_detection.storage import open_folder

    storage = open_folder(request.output)
    log = DecisionLog(storage, request.settings.model_name, request.commands.accept_log)
    registry = open_registry(request, storage, log)
    results.retention = retain_daily(storage, registry, request.settings, request.clock, progress)


@main.command()
@_CONFIG
@_INPUT
@_OUTPUT
@_STORE
@_TRACKING_URI
@click.option(
    "--as-of",
    callback=_moment,
    help="Score earlier transactions, as they are known at this time, ISO 8601, floored to the hour."
    "  [default: the first hour after the newest transaction]",
)
@_ENGINE
@_JSON
def score(
    config: Path,
    input_path: str,
    output: str,
    store: str | None,
    tracking_uri: str | None,
    as_of: datetime | None,
    engine: str,
    as_json: bool,
) -> None:
    """Score the transactions that are new since the last batch with the champion, each exactly once.

    Scores go to OUTPUT/scores/MODEL/days/, the lists of alerts to OUTPUT/scores/MODEL/alerts/.
    """
    request = _request(config, input_path, output, store, tracking_uri, as_of, engine)
    from fraud_detection.runs.progress import Stopwatch
    from fraud_detection.runs.score import score

    with Watchdog(request.settings.progress_timeout_minutes, partial(show_error, as_json=as_json)) as watchdog:
        result = score(request, partial(print_step, err=as_json), Stopwatch(watchdog.progress))
    if as_json:
        print_json(result.model_dump_json(indent=2))


_TOKEN_VARIABLE = "FRAUD_DETECTION_TOKEN"  # noqa: S105 - its name
_SHORTEST_TOKEN = 16


@main.command()
@_CONFIG
@_INPUT
@_OUTPUT
@_STORE
@_TRACKING_URI
@_ENGINE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; another one needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free one.")
@click.option(
    "--journal",
    type=Given("path", "the path of a file", Path),
    help="File of the transactions that the store does not have yet.  [default: OUTPUT/serving/MODEL.journal]",
)
@click.option(
    "--poll-seconds",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    show_default=True,
    help="Time between two looks for another champion, and for new rows and labels in the store.",
)
def serve(
    config: Path,
    input_path: str,
    output: str,
    store: str | None,
    tracking_uri: str | None,
    engine: str,
    host: str,
    port: int,
    journal: Path | None,
    poll_seconds: float,
) -> None:
    """Score single transactions over HTTP with the champion, with the features that a batch would give.

    The environment variable FRAUD_DETECTION_TOKEN holds the token that requests must carry. It is required unless the
    host is this machine.
    """
    token = _token(host)
    request = _request(config, input_path, output, store, tracking_uri, None, engine)
    if request.settings.data.columns.transaction_id is None:
        raise SettingsError(
            "data.columns.transaction_id is null, so the ids of served transactions would not be those of the batch;"
            " expected a column of ids; next: map it"
        )
    journal = journal or _journal(output, request.settings.model_name)
    from fraud_detection.serving.run import serve

    serve(request, journal, host, port, token, poll_seconds, print_step)


def _token(host: str) -> str | None:
    """What requests must carry; None where nothing is required."""
    token = os.environ.get(_TOKEN_VARIABLE) or None
    if token is None and host not in {"127.0.0.1", "::1", "localhost"}:
        raise SettingsError(
            f"--host {host} can be reached from other machines, and {_TOKEN_VARIABLE} is not set; expected a token of"
            f" at least {_SHORTEST_TOKEN} characters in it; next: set it, or leave --host out"
        )
    if token is not None and not (len(token) >= _SHORTEST_TOKEN and token.isascii() and token.isprintable()):
        raise SettingsError(
            f"{_TOKEN_VARIABLE} holds {len(token)} characters; expected at least {_SHORTEST_TOKEN}, of printable ASCII"
        )
    return token


def _journal(output: str, model_name: str) -> Path:
    """The journal below an output on this machine."""
    if is_object(output):
        raise SettingsError("the journal cannot be in a bucket; expected a file of this machine; next: give --journal")
    return local_path(output) / journal_file(model_name)


def _given_columns(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    """NAME=COLUMN pairs as a mapping."""
    pairs = [text.partition("=") for text in given]
    known = [name for name in Columns.model_fields if not name.startswith("extra_")]
    wrong = [name for name, _, column in pairs if name not in known or not column]
    if wrong:
        raise click.BadParameter(f"found {wrong[0]!r}; expected NAME=COLUMN, with one of {', '.join(known)}")
    twice = [name for name, count in Counter(name for name, _, _ in pairs).items() if count > 1]
    if twice:
        raise click.BadParameter(f"{twice[0]} is given more than once; expected one column, or DAY+HOUR of a time")
    return {name: column for name, _, column in pairs}


@main.command()
@_INPUT
@click.option(
    "--config",
    type=Given("path", "the path of a YAML file", Path),
    required=True,
    help="The settings file to write.",
)
@click.option("--force", is_flag=True, help="Overwrite the file if it exists.")
@click.option(
    "--column",
    "given",
    multiple=True,
    metavar="NAME=COLUMN",
    callback=_given_columns,
    help="Say which column it is, instead of a guess: fraud=is_bad; a time of two columns: transaction_time=DAY+HOUR.",
)
@_JSON
def init(input_path: str, config: Path, force: bool, given: dict[str, str], as_json: bool) -> None:
    """Look at the files of an input, and write a settings file for them, each guess with its reason."""
    require_input("input", input_path)
    from fraud_detection.initialization.initialize import examine, next_command, require_free, write_settings

    require_free(config, force=force)
    found = examine(input_path, given)
    write_settings(found, input_path, config, force=force)
    lines = [*found.lines(), ("written", str(config)), ("next", next_command(config, input_path))]
    for step, line in lines:
        print_step(step, one_line(line), err=as_json)
    if as_json:
        print_json(json.dumps({step.replace(" ", "_"): mask(line) for step, line in lines}, indent=2))


@main.command("check-data")
@_CONFIG
@_INPUT
@click.option(
    "--labels",
    type=Given("path", "the path of a file or a folder, or its file:/// or s3a:// URL"),
    help="The label table, instead of data.labels.path.",
)
@click.option(
    "--as-of",
    callback=_moment,
    help="As-of time, ISO 8601, floored to the hour.  [default: the first hour after the newest transaction]",
)
@_ENGINE
@_JSON
def check_data(
    config: Path, input_path: str, labels: str | None, as_of: datetime | None, engine: str, as_json: bool
) -> None:
    """Read an input as a run would, and say what fits, what does not, and which setting would help; no training."""
    settings, clock = load_settings(config), datetime.now(UTC)
    if labels is not None:
        if settings.data.labels is None:
            raise SettingsError(f"--labels names a label table, and {config} has none; next: set data.labels there")
        table = settings.data.labels.model_copy(update={"path": labels})
        settings = settings.model_copy(update={"data": settings.data.model_copy(update={"labels": table})})
    require_input("input", input_path)
    require_past(as_of, clock)
    from fraud_detection.initialization.check import check

    found = check(settings, input_path, as_of and whole_hour(as_of), clock, Engine(engine))
    for step, line in found.steps:
        print_step(step, line, err=as_json)
    if as_json:
        print_json(json.dumps(found.facts, indent=2))
    if not found.accepted:
        sys.exit(DataError.exit_code)


@main.command()
@_CONFIG
@_OUTPUT
@click.option(
    "--at",
    "asked",
    callback=_span,
    help="Show instead what served on a day, or at an ISO 8601 time, since when and why.",
)
@click.option("--last", type=click.IntRange(min=1), help="Read and show only so many entries, the newest.")
@_JSON
def decisions(
    config: Path, output: str, asked: tuple[datetime, datetime] | None, last: int | None, as_json: bool
) -> None:
    """Show the decision log, oldest first: decisions, and what users did in between."""
    from fraud_detection.runs.progress import history_table
    from fraud_detection.runs.retention import removal_text, removed_reports
    from fraud_detection.storage import open_folder

    if asked is not None and last is not None:
        raise click.UsageError("--at and --last exclude each other: what served at a time is in the whole log")
    log = _existing_log(config, output)
    history = log.history() if last is None else log.newest(last)
    removed = removed_reports(open_folder(output), load_settings(config).model_name, history)
    notes = {as_of: removal_text(removal) for as_of, removal in removed.items()}
    if asked is not None and history:
        _show_served(history, *asked, as_json=as_json)
    elif as_json:
        print_json(json.dumps([_with_note(entry, notes) for entry in history], indent=2))
    elif history:
        for line in history_table(history, notes):
            click.echo(line)
    if not history:
        first = f"the first one is made by: fraud-detection retrain --output {output} …"
        click.echo(mask(f"no decisions in {output}; {first}"), err=as_json)


def _with_note(entry: "Entry", notes: dict[datetime, str]) -> dict[str, object]:
    """An entry as JSON; `report_removed` says why a decision has no report any more."""
    as_of = getattr(entry, "as_of", None)
    note = {} if as_of not in notes else {"report_removed": notes[as_of]}
    return entry.model_dump(mode="json") | note


def _show_served(history: "Sequence[Entry]", start: datetime, end: datetime, *, as_json: bool) -> None:
    from fraud_detection.registry.listing import served_between

    periods = served_between(history, start, end)
    if as_json:
        print_json(json.dumps([period.model_dump(mode="json") for period in periods], indent=2))
        return
    for line in (line for period in periods for line in period.lines):
        click.echo(mask(line))
    if not periods:
        click.echo(f"nothing was in service: no entry of the log had come into force by {end:%Y-%m-%d %H:%M} UTC")


@main.command()
@_CONFIG
@_OUTPUT
@_JSON
def candidates(config: Path, output: str, as_json: bool) -> None:
    """Show the candidates in shadow, oldest first, with their looks, and those that wait for approval."""
    from fraud_detection.registry.listing import entries_of_candidates, shadow_candidates
    from fraud_detection.runs.progress import candidate_table

    settings = load_settings(config)
    log = _existing_log(config, output)
    entries = entries_of_candidates(log, settings)
    found = shadow_candidates(entries, datetime.now(UTC), settings.promotion.approval_days)
    if as_json:
        print_json(json.dumps([one.model_dump(mode="json") for one in found], indent=2))
    elif found:
        for line in candidate_table(found):
            click.echo(line)
    if not found:
        click.echo(mask(f"no candidates in {output}; a run opens them"), err=as_json)


@main.command()
@_CONFIG
@_OUTPUT
def dashboard(config: Path, output: str) -> None:
    """Make the dashboard anew from the whole decision log; every run does from its newest part."""
    from fraud_detection.monitoring import write_dashboard
    from fraud_detection.storage import open_folder

    settings = load_settings(config)
    log = _existing_log(config, output)
    page = write_dashboard(open_folder(output), log.entries(), settings, datetime.now(UTC), anew=True)
    print_step("dashboard", mask(page))


@main.command()
@_CONFIG
@_OUTPUT
@_TRACKING_URI
@click.option("--version", type=int, required=True, help="The version; `fraud-detection decisions` shows them.")
@click.option(
    "--to",
    "file",
    type=Given("path", "the path of a file that does not exist yet", Path),
    help="The archive to write.  [default: MODEL-vVERSION-evidence.zip]",
)
def evidence(config: Path, output: str, tracking_uri: str | None, version: int, file: Path | None) -> None:
    """Collect all that is recorded of a version in one ZIP archive: its log, looks, reports, settings and model."""
    from fraud_detection.storage import open_folder

    file = file or Path(f"{load_settings(config).model_name}-v{version}-evidence.zip")
    if file.exists():
        raise SettingsError(f"{file} exists; expected a new file; next: name another one with --to")
    if not file.absolute().parent.is_dir():
        raise SettingsError(f"the folder of {file} does not exist; next: create it, or name another file with --to")
    registry = _registry_in_use(config, output, tracking_uri)
    found = registry.collect_evidence(open_folder(output), version)
    open_folder(str(file.absolute().parent)).write_atomic(file.name, found.archive())
    print_step("evidence", f"{len(found.files)} files on version {version} in {mask(str(file))}")
    print_step("check", "unpack it and run: sha256sum --check SHA256SUMS")


_CANDIDATE = click.argument("candidate", type=Given("candidate", "the name of a candidate"))


@main.command()
@_CANDIDATE
@_CONFIG
@_OUTPUT
@_TRACKING_URI
@click.option(
    "--reason",
    callback=_reason,
    default="no reason given",
    show_default=True,
    help="The reason, one line; recorded in the decision log.",
)
def approve(candidate: str, config: Path, output: str, tracking_uri: str | None, reason: str) -> None:
    """Promote CANDIDATE, a winner that waits for approval; `fraud-detection candidates` shows the names."""
    settings = load_settings(config).promotion
    registry = _registry_in_use(config, output, tracking_uri)
    done = registry.approve(candidate, reason, current_person(), settings)
    _show_promotion(registry, done, "approve", "approved")


@main.command()
@_CANDIDATE
@_CONFIG
@_OUTPUT
@_TRACKING_URI
@_REASON
def reject(candidate: str, config: Path, output: str, tracking_uri: str | None, reason: str) -> None:
    """Take CANDIDATE out of shadow: no look is taken at it any more."""
    done = _registry_in_use(config, output, tracking_uri).reject(candidate, reason, current_person())
    print_step("reject", f"{candidate} is rejected by {done.who}: {done.reason}; the next run deletes its files")


@main.command()
@_CANDIDATE
@_CONFIG
@_OUTPUT
@_TRACKING_URI
@_REASON
def promote(candidate: str, config: Path, output: str, tracking_uri: str | None, reason: str) -> None:
    """Promote CANDIDATE as an override: whatever its looks say, and during a change freeze."""
    registry = _registry_in_use(config, output, tracking_uri)
    done = registry.promote(candidate, reason, current_person())
    _show_promotion(registry, done, "promote", "promoted, as an override,")


def _show_promotion(registry: "Registry", done: "Intervention", step: str, word: str) -> None:
    before = "none" if done.from_version is None else f"v{done.from_version}"
    print_step(step, f"champion is v{done.to_version} (was {before}), {word} by {done.who}: {done.reason}")
    if done.from_version is not None:
        print_step("next", f"to go back: {registry.commands.rollback(done.from_version)}")


@main.command()
@_CONFIG
@_OUTPUT
@_TRACKING_URI
@click.option("--to", "version", type=int, help="Version to put in service.  [default: the previous champion]")
@_REASON
def rollback(config: Path, output: str, tracking_uri: str | None, version: int | None, reason: str) -> None:
    """Put an earlier version in service and pin it: runs promote nothing until `unpin`."""
    registry = _registry_in_use(config, output, tracking_uri)
    done = registry.rollback(version, reason, current_person())
    before = "none" if done.from_version is None else f"v{done.from_version}"
    print_step("rollback", f"champion is v{done.to_version} (was {before}) and pinned by {done.who}: {done.reason}")
    print_step("next", f"automatic promotion resumes with: {registry.commands.unpin}")


@main.command()
@_CONFIG
@_OUTPUT
@_TRACKING_URI
@_REASON
def pin(config: Path, output: str, tracking_uri: str | None, reason: str) -> None:
    """Keep the champion in service: nothing is promoted until `unpin`."""
    registry = _registry_in_use(config, output, tracking_uri)
    done = registry.pin(reason, current_person())
    print_step("pin", f"champion v{done.to_version} is pinned by {done.who}: {done.reason}")
    print_step("next", f"automatic promotion resumes with: {registry.commands.unpin}")


@main.command()
@_CONFIG
@_OUTPUT
@_TRACKING_URI
@_REASON
def unpin(config: Path, output: str, tracking_uri: str | None, reason: str) -> None:
    """Let automatic promotion resume after a rollback or a pin."""
    done = _registry_in_use(config, output, tracking_uri).unpin(reason, current_person())
    pinned = "the champion" if done.to_version is None else f"champion v{done.to_version}"
    print_step("unpin", f"{pinned} is no longer pinned; the next run may promote")


@main.command("retire-champion")
@_CONFIG
@_OUTPUT
@_TRACKING_URI
@click.option(
    "--version", type=int, required=True, help="The champion's version, so that no other is retired by mistake."
)
@_REASON
def retire_champion(config: Path, output: str, tracking_uri: str | None, version: int, reason: str) -> None:
    """Take the champion out of service; the next run trains a first champion.

    For a champion that is lost, or that no challenger can be compared with.
    """
    registry = _registry_of_lost_log(config, output, tracking_uri)
    with _naming_other_models(config, output):
        done = registry.retire(version, reason, current_person())
    print_step("retired", f"champion v{done.from_version} is out of service by {done.who}: {done.reason}")
    back = registry.commands.rollback()
    print_step("next", f"{registry.commands.retrain} trains a successor; to restore a version: {back}")


@main.command("accept-log")
@_CONFIG
@_OUTPUT
@_TRACKING_URI
@_REASON
def accept_log(config: Path, output: str, tracking_uri: str | None, reason: str) -> None:
    """Go on with a decision log of which entries are missing or were changed.

    For a log that cannot be restored. What it holds counts from now on; looks that are lost are not charged.
    """
    registry = _registry_of_lost_log(config, output, tracking_uri)
    with _naming_other_models(config, output):
        done = registry.accept_log(reason, current_person())
    print_step("accepted", f"the decision log is accepted as it is by {done.who}: {done.reason}")
    for opening in _decision_log(config, output).unfinished_openings():
        print_step(
            "next",
            f"the decision at {opening.as_of:%Y-%m-%d %H:%M} is missing: the next run decides it again from what was"
            " opened; a look at a champion that serves no longer measures nothing then",
        )


@main.command()
@_CONFIG
@_OUTPUT
@_TRACKING_URI
@click.option("--yes", is_flag=True, help="Remove it; without this option nothing is removed.")
@_JSON
def retain(config: Path, output: str, tracking_uri: str | None, yes: bool, as_json: bool) -> None:
    """Show what is older than its age in the section `retention` of the settings, and with --yes remove it.

    The champion, the previous champion, candidates in shadow and the decision log stay, however old they are.
    """
    settings, clock = load_settings(config), datetime.now(UTC)
    registry = _registry_in_use(config, output, tracking_uri)
    from fraud_detection.runs.retention import plan_removal, removal_table, remove
    from fraud_detection.storage import open_folder

    storage, name = open_folder(output), settings.model_name
    plan = plan_removal(storage, registry, name, settings.retention, clock)
    for line in removal_table(plan.rows):
        click.echo(line, err=as_json)
    if yes:
        remove(plan, storage, registry, name, current_person(), lambda line: print_step("retain", line, err=as_json))
    else:
        again = registry.commands.without_reason("retain", "--yes")
        print_step("next", f"nothing was removed; to remove it: {again}", err=as_json)
    if as_json:
        rows = [row.model_dump(mode="json") for row in plan.rows]
        print_json(json.dumps({"removed": yes, "model_name": name, "rows": rows}, indent=2))


@main.command()
@click.argument("action", type=click.Choice(["materialize", "verify", "rebuild"]))
@_CONFIG
@_INPUT
@_OUTPUT
@_STORE
@click.option(
    "--since", callback=_moment, help="Only from the day of this time on, ISO 8601, UTC.  [default: the first day]"
)
@click.option(
    "--as-of",
    callback=_moment,
    help="As-of time, ISO 8601, floored to the hour.  [default: the first hour after the newest transaction]",
)
@_ENGINE
@_JSON
def features(
    action: str,
    config: Path,
    input_path: str,
    output: str,
    store: str | None,
    since: datetime | None,
    as_of: datetime | None,
    engine: str,
    as_json: bool,
) -> None:
    """Compute the features of days that are kept for later runs, check them, or compute them anew.

    ACTION is materialize (the days that are missing), verify (compute all and compare; nothing is written) or rebuild
    (all days). Runs compute what they need by themselves.
    """
    request = _request(config, input_path, output, store, None, as_of, engine)
    from fraud_detection.runs.kept_features import Action, features_line, keep_features, require_equal
    from fraud_detection.runs.progress import Stopwatch

    with Watchdog(request.settings.progress_timeout_minutes, partial(show_error, as_json=as_json)) as watchdog:
        progress, watch = partial(print_step, err=as_json), Stopwatch(watchdog.progress)
        found = keep_features(request, Action(action), since, progress, watch)
    print_step("features", features_line(found), err=as_json)
    if as_json:
        print_json(found.model_dump_json(indent=2))
    require_equal(found, "fraud-detection features rebuild, with the same options")


@main.command("forget-card")
@click.argument("card", metavar="ID")
@_CONFIG
@_OUTPUT
@_STORE
@click.option(
    "--reason", callback=_reason, required=True, help="The reason, one line without the id; recorded below --output."
)
@click.option("--yes", is_flag=True, help="Erase the rows; without this option nothing is erased.")
@_JSON
def forget_card(card: str, config: Path, output: str, store: str | None, reason: str, yes: bool, as_json: bool) -> None:
    """Show what runs keep of a card's rows, and with --yes erase them, for good: later runs leave the card out.

    ID is the card as in the input, or `-` to read it from standard input, since other users of the machine see
    arguments.
    """
    settings, clock = load_settings(config), datetime.now(UTC)
    if settings.data.columns.customer_id is None:
        raise SettingsError(
            f"data.columns.customer_id is not set in {config}, so no row says which card it is of; next: give the"
            " settings of the runs that map it: --config FILE"
        )
    card = _card(card)
    from fraud_detection.runs.forget_card import Places, erase_card, erasure_lines, find_card, require_discreet
    from fraud_detection.storage import open_folder
    from fraud_detection.transactions.columns import transaction_fields

    require_discreet(reason, card)
    [field] = [field for field in transaction_fields(settings.data.columns) if field.name == "customer_id"]
    folder = open_folder(output)
    stores = tuple(map(open_folder, dict.fromkeys([output, store or output])))
    search = find_card(Places(folder, stores, (field.source, *field.columns)), card)
    found = search.result(erased=yes)
    for step, line in erasure_lines(found):
        print_step(step, line, err=as_json)
    if yes:
        erase_card(search, reason, current_person(), clock, lambda line: print_step("forget", line, err=as_json))
    else:
        print_step("next", "nothing was erased; to erase it, give the same command with --yes", err=as_json)
    if as_json:
        print_json(found.model_dump_json(indent=2))


def _card(given: str) -> str:
    """The id that was given as an argument, or the first line of standard input.

    Raises:
        SettingsError: there is none.
    """
    if given == "-":
        given = getpass.getpass("card: ") if sys.stdin.isatty() else sys.stdin.readline()
    card = given.rstrip("\r\n")
    if not card.strip():
        raise SettingsError(
            "found no id of a card; expected one, as an argument or in the first line of standard input"
        )
    return card


def _decision_log(config: Path, output: str) -> "DecisionLog":
    from fraud_detection.registry.decision_log import DecisionLog
    from fraud_detection.storage import open_folder

    return DecisionLog(open_folder(output), load_settings(config).model_name)


def _existing_log(config: Path, output: str) -> "DecisionLog":
    """The log of a folder that runs have written to.

    Raises:
        SettingsError: the folder is empty or does not exist, or only other models have decided there.
    """
    from fraud_detection.storage import open_folder

    log = _decision_log(config, output)
    if log.names():
        return log
    if other := _other_model(log, config):
        raise SettingsError(f"no decisions in {mask(output)}; {other}")
    if not open_folder(output).names():
        raise SettingsError(
            f"found nothing in {mask(output)}; expected the output folder of earlier runs; check --output, or begin"
            f" with: {mask(f'fraud-detection retrain --config {config} --output {output} …')}"
        )
    return log


def _other_model(log: "DecisionLog", config: Path) -> str:
    """A hint for settings that name another model than the one that decided in this folder; otherwise nothing."""
    others = log.other_models()
    if not others:
        return ""
    return (
        f"model_name in {config} is {load_settings(config).model_name}, and the decisions there are of"
        f" {', '.join(others)}; give the settings of that model: --config FILE"
    )


@contextmanager
def _naming_other_models(config: Path, output: str) -> Iterator[None]:
    """Add that hint to an error, where this model has never decided in the folder."""
    try:
        yield
    except FraudDetectionError as error:
        log = _decision_log(config, output)
        other = "" if log.history() else _other_model(log, config)
        if not other:
            raise
        raise SettingsError(f"{error}; {other}") from error


def _registry_in_use(config: Path, output: str, tracking_uri: str | None) -> "Registry":
    """The registry of a folder that runs have written to: in any other, a command would leave a database and leases.

    Raises:
        SettingsError: see `_existing_log`.
    """
    _existing_log(config, output)
    return _registry(config, output, tracking_uri)


def _registry_of_lost_log(config: Path, output: str, tracking_uri: str | None) -> "Registry":
    """The registry of a folder whose log may be what was lost, while MLflow is still there.

    Raises:
        SettingsError: MLflow's database would be in this folder, and the folder is empty, see `_existing_log`.
    """
    if not is_object(output) and (tracking_uri or default_tracking_uri(output)) == default_tracking_uri(output):
        _existing_log(config, output)
    return _registry(config, output, tracking_uri)


def _registry(config: Path, output: str, tracking_uri: str | None) -> "Registry":
    from fraud_detection.commands import Commands
    from fraud_detection.registry import Leases, Registry
    from fraud_detection.registry.decision_log import DecisionLog
    from fraud_detection.runs.publication import publish
    from fraud_detection.storage import open_folder

    storage, model_name = open_folder(output), load_settings(config).model_name
    address = tracking_uri or default_tracking_uri(output)
    require_driver(checked_address(address))
    return Registry(
        address,
        model_name,
        DecisionLog(storage, model_name, Commands(str(config), output, address).accept_log),
        leases=Leases(storage, model_name),
        publish=partial(publish, storage),
        config=str(config),
        output=output,
    )


def print_step(step: str, line: str, err: bool = False) -> None:
    """Print one step of a run; colours vanish where the output is not a terminal."""
    click.echo(f"{click.style(f'{step:<12}', fg='cyan')}{mask(line)}", err=err)


def default_tracking_uri(output: str) -> str:
    """The embedded MLflow of an output folder on disk.

    Raises:
        SettingsError: the folder is not on this machine's disk, so it cannot hold a database.
    """
    if is_object(output):
        raise SettingsError(
            f"--output {mask(output)} is not on disk and cannot hold MLflow's database; give --tracking-uri"
        )
    return f"sqlite:///{local_path(output) / DATABASE}"


def current_person() -> str:
    """Who runs this command, for the log of rollbacks; in a container the user may have a number alone.

    Raises:
        SettingsError: FRAUD_DETECTION_USER is too long.
    """
    named = one_line(os.environ.get("FRAUD_DETECTION_USER", ""))
    if len(named) > _LONGEST_REASON:
        raise SettingsError(
            f"FRAUD_DETECTION_USER has {len(named)} characters; expected a name of at most {_LONGEST_REASON}"
        )
    try:
        return named or one_line(getpass.getuser())
    except KeyError:
        return f"user {os.getuid()}"
