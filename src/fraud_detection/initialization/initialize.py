"""From files to a settings file: read, find the roles, sort the other columns, fit the windows, write."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fraud_detection.errors import DataError, FraudDetectionError, SettingsError
from fraud_detection.initialization.column import Column
from fraud_detection.initialization.extras import Extras, find_extras
from fraud_detection.initialization.numbers import PLAIN, NumberForm
from fraud_detection.initialization.roles import Roles, find_roles
from fraud_detection.initialization.settings_file import Section, render
from fraud_detection.initialization.table import Table, read_table
from fraud_detection.initialization.time_columns import TimeColumns
from fraud_detection.initialization.windows import LEAST_FRAUDS, Fit, Span, find_span, fit_counts, fit_windows
from fraud_detection.settings import Data, DataHealth, Settings
from fraud_detection.settings_errors import broken_rules
from fraud_detection.storage import open_folder

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN = 12


@dataclass(frozen=True)
class Found:
    """What the files hold, and the settings for them."""

    table: Table
    roles: Roles
    extras: Extras
    span: Span
    sections: tuple[Section, ...]
    fit: Fit

    def settings(self) -> Settings:
        """As a run would load them."""
        return _settings(self.sections)

    def lines(self) -> Iterator[tuple[str, str]]:
        """What was found, as steps for the terminal. Of values only those of the label are named."""
        roles = self.roles
        yield "files", _files(self.table)
        yield "rows", _rows(self.span)
        yield "time", f"{' + '.join(roles.time.names)} · {_form_of_times(roles.time)}"
        yield "amount", f"{roles.amount.name} · {_form_of_numbers(roles.amount.amount_form or PLAIN)}"
        yield "fraud", f"{roles.fraud.name} · {_label(roles)}"
        for name, column in (("id", roles.transaction_id), ("card", roles.card), ("terminal", roles.terminal)):
            yield name, "none" if column is None else f"{column.name} · {column.distinct:,} different"
        if roles.label_time is not None:
            yield "label time", f"{' + '.join(roles.label_time.names)}"
        yield "features", _some([*self.extras.numeric, *self.extras.categorical]) or "none beside those of the system"
        harmless = {name: why for name, why in self.extras.left_out.items() if name not in self.extras.leaking}
        if harmless or self.table.left_out:
            yield "left out", _some([f"{name} ({why})" for name, why in (self.table.left_out | harmless).items()])
        if self.extras.leaking:
            yield "leaking", "; ".join(f"{name} is not used: {why}" for name, why in self.extras.leaking.items())
        if any(timed.form.ambiguous for timed in (roles.time, roles.label_time) if timed is not None):
            yield (
                "note",
                "day and month of the times could be the other way round; next: check data.format.time_formats",
            )
        few = "" if self.fit.is_enough else f"; fewer than {LEAST_FRAUDS} on either side give no decision: add data"
        if few and self.roles.card is not None:
            few += "; frauds of cards that had a known fraud within windows.known_card_window_days are not counted"
        fit = self.fit
        yield "first run", f"about {fit.training_frauds:,} frauds to train on, {fit.holdout_frauds:,} to test on{few}"


def examine(input_path: str, given: dict[str, str]) -> Found:
    """Look at the files of an input, and find the settings for them.

    Args:
        input_path: a file or a folder.
        given: canonical name: column, where the user has said it.

    Raises:
        DataError: the files cannot be read, or have no time, amount or label.
        SettingsError: `given` names a column that is not there, that is another role's, or that does not fit.
    """
    table = read_table(input_path)
    columns = [Column(name, values) for name, values in table.columns.items()]
    roles = find_roles(columns, given, table.unread)
    form = roles.amount.amount_form or PLAIN
    extras = find_extras(columns, roles, form, DataHealth().leaking_average_precision)
    if not roles.time.known.any():
        raise DataError(f"column {' + '.join(roles.time.names)} holds no time that can be read")
    span = find_span(roles, table.stride)
    windows = fit_windows(roles, span)
    data = _data_section(table, roles, extras, form, span)
    spans = (data, _section("windows", "Time spans", windows))
    counts = fit_counts(_settings(spans), roles, span, table.stride)
    training = {name: found for name, found in counts.found.items() if name == "min_training_frauds"}
    comparison = {name: found for name, found in counts.found.items() if name not in training}
    sections = (
        *spans,
        _section("training", "The model and its sample", Fit(training)),
        _section("comparison", "How candidates are compared", Fit(comparison)),
    )
    return Found(table, roles, extras, span, sections, counts)


def write_settings(found: Found, input_path: str, config: Path, *, force: bool) -> None:
    """Write the settings file; readers see all of it or the one before.

    Raises:
        SettingsError: there is one already, and `force` is not set; or it cannot be written.
    """
    require_free(config, force=force)
    text, place = render(_head(found, input_path), found.sections).encode(), config.resolve()
    try:
        folder = open_folder(str(place.parent))
        is_written = bool(folder.write_atomic(place.name, text)) if force else folder.write_once(place.name, text)
    except FraudDetectionError as error:
        raise SettingsError(f"--config {config}: {error}") from error
    if not is_written:  # another writer was faster
        raise SettingsError(_taken(config))


def require_free(config: Path, *, force: bool) -> None:
    """Keep a file that may have been edited.

    Raises:
        SettingsError: there is one already, and `force` is not set; or the path cannot be that of a file.
    """
    try:
        place = config.resolve()  # a missing folder before `..` hides what is there
        is_folder, is_taken = place.is_dir(), place.exists()
    except (OSError, RuntimeError) as error:
        raise SettingsError(f"--config {config}: the path cannot be used ({type(error).__name__})") from error
    if is_folder:
        raise SettingsError(f"--config {config} is a folder; expected the path of the file to write")
    if is_taken and not force:
        raise SettingsError(_taken(config))


def _taken(config: Path) -> str:
    return f"{config} exists already; next: choose another --config, or overwrite it with --force"


def next_command(config: Path, input_path: str, verb: str = "retrain") -> str:
    """The command that uses the file."""
    return shlex.join(["fraud-detection", verb, "--config", str(config), "--input", input_path])


def _settings(sections: tuple[Section, ...]) -> Settings:
    """The settings as a run would load them.

    Raises:
        SettingsError: two columns, or two values, contradict each other.
    """
    try:
        return Settings.model_validate({section.name: _values(section) for section in sections})
    except ValidationError as error:
        rules = "; ".join(broken_rules(error, Settings, {}))
        raise SettingsError(
            f"the guesses do not fit together: {rules}; next: name the columns with --column"
        ) from error


def _values(section: Section) -> dict[str, Any]:
    return {
        entry.name: _values(entry) if isinstance(entry, Section) else entry.value
        for entry in section.entries
        if entry.name
    }


def _head(found: Found, input_path: str) -> Iterator[str]:
    yield f"Settings for {input_path}, written by fraud-detection init after looking at it: {_rows(found.span)}."
    yield "Each line is a guess, with its reason; what is not here has its default (docs/reference_settings.md)."
    if found.table.stride > 1:
        yield f"Every {found.table.stride}th row was looked at; counts are estimated from them."
    yield f"What a run would make of it: {next_command(Path('THIS_FILE'), input_path, 'check-data')}"


def _section(name: str, why: str, fit: Fit) -> Section:
    section = Section(name, why)
    for setting, (value, reason) in fit.found.items():
        section.add(setting, value, reason)
    return section


def _data_section(table: Table, roles: Roles, extras: Extras, form: NumberForm, span: Span) -> Section:
    data = Section("data", "How the input is read and checked: docs/data.md")
    data.entries.append(_columns(roles, extras, table))
    formats = _format(table, roles, form)
    if formats.entries:
        data.entries.append(formats)
    amounts = roles.amount.amounts
    negative = 0 if amounts is None else int((amounts < 0).sum()) * table.stride
    if negative:
        data.add("refunds", "exclude", f"{negative:,} amounts are negative: refunds, counted and not used")
    share = len(span.frauds) / max(span.rows, 1)
    low, high = Data().fraud_rate_band
    if not low <= share <= high:
        data.add("fraud_rate_band", _band(share), f"{share:.3%} of the rows are frauds; outside gives a warning")
    return data


def _band(share: float) -> list[float]:
    return [float(f"{share / 5:.1g}"), min(1.0, float(f"{max(share * 3, 0.001):.1g}"))]


def _columns(roles: Roles, extras: Extras, table: Table) -> Section:
    section = Section("columns", "Canonical name: name in the files")
    why = roles.why
    section.add("transaction_id", _name(roles.transaction_id), why.get("transaction_id") or _why_id(roles))
    section.add("transaction_time", _time_names(roles.time), why.get("transaction_time") or roles.time.why)
    section.add("amount", roles.amount.name, why.get("amount", "by its name; it holds numbers"))
    share = float(roles.label.is_fraud[roles.label.is_known].mean())
    section.add("fraud", roles.fraud.name, why.get("fraud", f"by its name and values; {share:.2%} are frauds"))
    section.add("customer_id", _name(roles.card), why.get("customer_id") or _why_entity(roles.card, "card"))
    section.add("terminal_id", _name(roles.terminal), why.get("terminal_id") or _why_entity(roles.terminal, "terminal"))
    if roles.label_time is not None:
        section.add("label_available_at", _time_names(roles.label_time), "by its name; never before the transaction")
    elif "label_available_at" in why:
        section.remark(why["label_available_at"])
    for name, column in (("blocked", roles.blocked), ("control_group", roles.control)):
        if column is not None:
            section.add(name, column.name, "by its name; it holds 0 and 1")
    section.add("extra_numeric", list(extras.numeric), "further numbers")
    section.add("extra_categorical", list(extras.categorical), "further columns with few values")
    for remark in roles.remarks:
        section.remark(remark)
    for name, reason in (table.left_out | extras.left_out).items():
        section.remark(f"not used: {name}: {reason}")
    return section


def _format(table: Table, roles: Roles, form: NumberForm) -> Section:
    section, layout = Section("format", "How the files write their values: docs/data.md"), table.layout
    if layout is not None:
        if layout.separator != ",":
            section.add("separator", layout.separator, f"the lines have {len(layout.columns)} fields with it")
        if layout.encoding != "utf-8":
            section.add("encoding", layout.encoding, "the bytes are text in it")
        if layout.quote != '"':
            section.add("quote", layout.quote, "stands around fields")
        if layout.skip_lines:
            section.add("skip_lines", layout.skip_lines, "lines before the one with the column names")
    _add_times(section, roles)
    if form.decimal_mark != ".":
        section.add("decimal_mark", form.decimal_mark, "stands before the fraction of the amounts")
    if form.thousands_mark:
        section.add("thousands_mark", form.thousands_mark, "stands between groups of three digits of the amounts")
    if form.currency:
        section.add("currency", list(form.currency), "stand beside the amounts")
    label = roles.label
    for name in ("fraud_values", "genuine_values", "unknown_values"):
        if values := getattr(label, name):
            section.add(name, list(values), f"{label.why}; of column {roles.fraud.name}")
    return section


def _add_times(section: Section, roles: Roles) -> None:
    used = [roles.time, *([roles.label_time] if roles.label_time else [])]
    formats = list(dict.fromkeys(one for timed in used for one in timed.form.formats))
    if formats:
        doubt = "; day and month could be the other way round" if roles.time.form.ambiguous else ""
        section.add("time_formats", formats, f"reads the times{doubt}; they are taken as UTC (time_zone)")
    if (unit := roles.time.form.unit) is not None:
        section.add("time_unit", unit, f"the times are numbers; by their size and the name {roles.time.names[0]}")
    if (origin := roles.time.form.origin) is not None:
        section.add(
            "time_origin", origin, "the files do not say when they begin: set it, and hours and weekdays are right"
        )


def _why_id(roles: Roles) -> str:
    if roles.transaction_id is None:
        return "no column is unique; ids are derived from the content of the rows"
    repeated = len(roles.transaction_id.values) - roles.transaction_id.distinct
    return "by its name; unique" if not repeated else f"by its name; {repeated:,} values occur again"


def _why_entity(column: Column | None, what: str) -> str:
    if column is None:
        return f"no column looks like a {what}: named so, and repeated; no {what} features"
    filled = int(column.filled.sum())
    missing = f", {1 - filled / len(column.values):.1%} missing" if filled < len(column.values) else ""
    numbers = "; they are card numbers: give tokens instead if you can" if column.holds_card_numbers else ""
    return f"by its name; {column.distinct:,} different, {filled / column.distinct:.1f} rows each{missing}{numbers}"


def _name(column: Column | None) -> str | None:
    return None if column is None else column.name


def _time_names(timed: TimeColumns) -> str | list[str]:
    return timed.names[0] if len(timed.names) == 1 else list(timed.names)


def _files(table: Table) -> str:
    number = f"{len(table.files)} files" if len(table.files) > 1 else "1 file"
    if table.layout is None:
        return f"{number} · Parquet"
    layout = table.layout
    shown = {"\t": "tab", " ": "space"}.get(layout.separator, layout.separator)
    skipped = f" · header in line {layout.skip_lines + 1}" if layout.skip_lines else ""
    return f"{number} · CSV · separator {shown} · {layout.encoding}{skipped}"


def _rows(span: Span) -> str:
    first, last = (_EPOCH + timedelta(microseconds=one) for one in (span.first, span.last))
    frauds = len(span.frauds)
    return f"{span.rows:,} rows · {first:%Y-%m-%d} … {last:%Y-%m-%d} · {frauds:,} frauds ({frauds / span.rows:.2%})"


def _form_of_times(timed: TimeColumns) -> str:
    form = timed.form
    if form.unit is not None:
        return f"numbers in {form.unit} since {form.origin or '1970'}"
    return f"{' or '.join(form.formats) or 'ISO 8601'}, as UTC"


def _form_of_numbers(form: NumberForm) -> str:
    currency = f", with {' or '.join(form.currency)}" if form.currency else ""
    return f"written 9{form.thousands_mark or ''}999{form.decimal_mark}99{currency}"


def _label(roles: Roles) -> str:
    known = roles.label.is_known
    said = {"fraud": roles.label.fraud_values or ("1",), "genuine": roles.label.genuine_values or ("0",)}
    if roles.label.unknown_values:
        said["unknown"] = roles.label.unknown_values
    values = " · ".join(f"{meaning}: {', '.join(values)}" for meaning, values in said.items())
    unlabelled = f" · {1 - known.mean():.1%} without a label" if not known.all() else ""
    return f"{values}{unlabelled}"


def _some(words: list[str]) -> str:
    shown = ", ".join(words[:_SHOWN])
    return f"{shown} and {len(words) - _SHOWN} more" if len(words) > _SHOWN else shown
