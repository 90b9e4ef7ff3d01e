"""What `fraud-detection forget-card` does: erase a card's rows from what runs keep, and keep the card out.

The record comes first (`transactions.forgotten`), then the stores with their features, then quarantine and scores. Each
step can be repeated: the same command finishes what was killed. Manifests of scores stay: they count what was scored.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from fraud_detection.errors import FraudDetectionError, SettingsError
from fraud_detection.features.store.files import discard_features
from fraud_detection.outputs import QUARANTINE, SALT, SCORES, STORES, store_folder
from fraud_detection.schema import Stored
from fraud_detection.shapes import shape
from fraud_detection.storage import Storage
from fraud_detection.transactions.forgotten import (
    CARD,
    Forgotten,
    ForgottenCard,
    new_salt,
    plain_id,
    read_forgotten,
    read_salt,
    record,
)
from fraud_detection.transactions.store.erasure import CardRows, erase_cards, find_cards, id_type

KEEPS = (
    "models and MLflow runs: trees that were fitted to rows of the card, among others; no row",
    "reports, decisions, known labels and what was measured of days: counts and metrics",
    "old versions of objects in a versioned bucket, until its rule removes them",
    "journals of servers, until the server takes over the next state of the store, or starts again",
)
"""What is not erased."""
_BROKEN_LINE = "broken_line"


@dataclass(frozen=True)
class Places:
    """Where runs keep rows."""

    output: Storage
    stores: tuple[Storage, ...]  # of --output and of --store
    card_columns: tuple[str, ...]  # of the input, as the quarantine names them


class Erasure(Stored):
    """What of a card was found, and whether it was erased."""

    erased: bool
    rows: int  # of the states in force of all stores
    old_files: int  # of earlier states that hold rows of the card
    quarantined_rows: int
    scores: int  # and lines of alert lists
    unknown_quarantine_files: tuple[str, ...]  # that do not have the card's column: not looked through
    input_files: tuple[str, ...]  # with rows of the card; they stay as they are
    keeps: tuple[str, ...] = KEEPS


@dataclass(frozen=True)
class Search:
    """A card, and what was found of it."""

    places: Places
    card: str  # as it is hashed
    numeric: bool
    stores: tuple[tuple[Storage, str, CardRows], ...]  # with their folders
    quarantine: dict[str, int]  # rows by file
    scores: dict[str, int]  # likewise
    unknown_files: tuple[str, ...]

    def result(self, *, erased: bool) -> Erasure:
        """As it is printed."""
        found = [rows for _, _, rows in self.stores]
        return Erasure(
            erased=erased,
            rows=sum(one.rows for one in found),
            old_files=sum(len(one.old_files) for one in found),
            quarantined_rows=sum(self.quarantine.values()),
            scores=sum(self.scores.values()),
            unknown_quarantine_files=self.unknown_files,
            input_files=tuple(sorted({file for one in found for file in one.input_files})),
        )


def find_card(places: Places, text: str) -> Search:
    """Look for the rows of a card; nothing is written.

    Raises:
        SettingsError: no row is of this card, and it was not forgotten before.
        DamagedStoreError: a file of a store is lost or damaged.
    """
    folders = [(storage, folder) for storage in places.stores for folder in _folders(storage)]
    types = {id_type(storage, folder) for storage, folder in folders} - {None}
    numeric = types == {"bigint"}
    card = plain_id(text, numeric=numeric)
    salt = read_salt(places.output) or new_salt()
    wanted = Forgotten(salt, frozenset({Forgotten(salt).hash(card)}))
    stores = tuple((storage, folder, find_cards(storage, folder, wanted)) for storage, folder in folders)
    quarantine, unknown = _find_quarantined(places, card, numeric=numeric)
    scores = _find_scores(places, card, numeric=numeric)
    search = Search(places, card, numeric, stores, quarantine, scores, unknown)
    result = search.result(erased=False)
    known = wanted.hashes <= read_forgotten(places.output).hashes
    if not known and not (result.rows or result.old_files or result.quarantined_rows or result.scores):
        expected = "a whole number" if numeric else "an id as the input has it"
        searched = ", ".join(map(places.output.url, (STORES, QUARANTINE, SCORES)))
        raise SettingsError(
            f"no row in {searched} is of this card: found an id of the form {shape(text)}, expected {expected};"
            " next: check the id, --output and --store, or run retrain first if its rows are new"
        )
    return search


def erase_card(search: Search, reason: str, who: str, now: datetime, done: Callable[[str], None]) -> None:
    """Keep the card out from now on, and erase what was found of it; `done` gets a line for each step.

    Raises:
        FraudDetectionError: the output or a store cannot be written; run the same command again.
    """
    places, found = search.places, search.result(erased=True)
    places.output.write_once(SALT, new_salt().encode())
    card = ForgottenCard(
        card_hash=Forgotten(read_salt(places.output) or "").hash(search.card),
        at=now,
        who=who,
        reason=reason,
        rows=found.rows,
        quarantined_rows=found.quarantined_rows,
        input_files=found.input_files,
    )
    first = record(places.output, card)
    done("recorded: no run takes it in again" if first else "it was recorded before; that record stays")
    cards = read_forgotten(places.output)
    for storage, folder, _ in search.stores:
        erase_cards(storage, folder, cards, now)
        discard_features(storage, folder)  # after the rows: see `features.between`
    done(
        f"{found.rows:,} row(s) erased from {len(search.stores)} store(s), and {found.old_files} old file(s);"
        " all features are discarded, and computed again"
    )
    for name in search.quarantine:
        _rewrite(places, name, search.card, numeric=search.numeric)
    done(f"{found.quarantined_rows:,} row(s) erased from {len(search.quarantine)} quarantine file(s)")
    for name in search.scores:
        _rewrite_scores(places, name, search.card, numeric=search.numeric)
    done(f"{found.scores:,} line(s) erased from {len(search.scores)} file(s) of scores and alerts")


def require_discreet(reason: str, card: str) -> None:
    """Check that the reason, which is recorded, does not name the card.

    Raises:
        SettingsError: it does.
    """
    if _names(card).search(reason):
        raise SettingsError("--reason has the id of the card; expected a text without it, since it is recorded")


def erasure_lines(found: Erasure) -> Iterator[tuple[str, str]]:
    """What was found and what stays, as steps with their lines."""
    yield "found", f"{found.rows:,} row(s) in stores, {found.old_files} old file(s) of stores"
    yield "found", f"{found.quarantined_rows:,} row(s) in quarantine files, {found.scores:,} in scores and alerts"
    for file in found.unknown_quarantine_files:
        yield "not read", f"{file} has no column of cards; next: look through it, or delete it"
    for file in found.input_files:
        yield "input", f"{file} has rows of the card and stays as it is; next: erase them there"
    for text in found.keeps:
        yield "stays", text


def _folders(storage: Storage) -> list[str]:
    keys = {name.removeprefix(STORES).partition("/")[0] for name in storage.names(STORES)}
    return [store_folder(key) for key in sorted(keys)]


def _find_quarantined(places: Places, card: str, *, numeric: bool) -> tuple[dict[str, int], tuple[str, ...]]:
    """How many rows each quarantine file has of the card, and the files that do not say which card a row is of."""
    found, unknown = dict[str, int](), []
    for name in places.output.names(QUARANTINE):
        rows = _rows(places.output, name)
        if rows is None:
            continue
        mask = _of_card(rows, places.card_columns, card, numeric=numeric)
        if mask is None:
            unknown.append(places.output.url(name))
        elif count := sum(mask):
            found[name] = count
    return found, tuple(unknown)


def _find_scores(places: Places, card: str, *, numeric: bool) -> dict[str, int]:
    """How many lines each file of scores and alerts has of the card."""
    found = dict[str, int]()
    for name in places.output.names(SCORES):
        rows = _scored_rows(places.output, name)
        mask = None if rows is None else _of_card(rows, (CARD,), card, numeric=numeric)
        if mask and (count := sum(mask)):
            found[name] = count
    return found


def _rewrite_scores(places: Places, name: str, card: str, *, numeric: bool) -> None:
    """A file of scores or alerts without the card, under its name, which a manifest has."""
    rows = _scored_rows(places.output, name)
    mask = None if rows is None else _of_card(rows, (CARD,), card, numeric=numeric)
    if rows is None or mask is None:
        return
    kept, content = rows.filter(pc.invert(pa.array(mask, pa.bool_()))), io.BytesIO()
    if name.endswith(".parquet"):
        pq.write_table(kept, content, compression="zstd")
    else:
        pyarrow.csv.write_csv(kept, content)
    places.output.write_atomic(name, content.getvalue())


def _scored_rows(output: Storage, name: str) -> pa.Table | None:
    """A file of scores or alerts; None of another one, or where it is gone."""
    if name.endswith(".csv"):
        return _rows(output, name)
    content = output.read(name) if name.endswith(".parquet") else None
    return pq.read_table(io.BytesIO(content)) if content else None


def _rewrite(places: Places, name: str, card: str, *, numeric: bool) -> None:
    """A quarantine file without the rows of the card; its header stays, so that no right to delete is needed."""
    rows = _rows(places.output, name)
    mask = None if rows is None else _of_card(rows, places.card_columns, card, numeric=numeric)
    if rows is None or mask is None:
        return
    text = io.BytesIO()
    pyarrow.csv.write_csv(rows.filter(pc.invert(pa.array(mask, pa.bool_()))), text)
    places.output.write_atomic(name, text.getvalue())


def _rows(output: Storage, name: str) -> pa.Table | None:
    """A quarantine file as text; None where it is gone or empty."""
    content = output.read(name)
    if not content:
        return None
    header = next(csv.reader(io.StringIO(content.decode())))
    convert = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, quoted_strings_can_be_null=False,
        null_values=[""],
    )  # fmt: skip
    options = {
        "read_options": pyarrow.csv.ReadOptions(block_size=max(len(content), 1 << 20)),
        "parse_options": pyarrow.csv.ParseOptions(newlines_in_values=True),
        "convert_options": convert,
    }
    try:
        return pyarrow.csv.read_csv(io.BytesIO(content), **options)
    except pa.ArrowInvalid as error:
        raise FraudDetectionError(
            f"{output.url(name)} cannot be read as rejected rows; expected the file that a run has written; next:"
            " restore it, or delete it"
        ) from error


def _of_card(rows: pa.Table, columns: tuple[str, ...], card: str, *, numeric: bool) -> list[bool] | None:
    """Whether each quarantined row is of the card, or is a line that could not be split and has its id."""
    if not {*columns} & {*rows.column_names}:
        return None
    pattern, found = _names(card), [False] * rows.num_rows
    for column in columns:
        if column in rows.column_names:
            texts = rows[column].to_pylist()
            found = [old or _is_id(text, card, numeric=numeric) for old, text in zip(found, texts, strict=True)]
    if _BROKEN_LINE in rows.column_names:
        lines = rows[_BROKEN_LINE].to_pylist()
        found = [old or (line is not None and pattern.search(line) is not None)
                 for old, line in zip(found, lines, strict=True)]  # fmt: skip
    return found


def _is_id(text: str | None, card: str, *, numeric: bool) -> bool:
    """Whether a cell of the quarantine is this id; the apostrophe is from `quarantine`."""
    if text is None:
        return False
    return card in {plain_id(one, numeric=numeric) for one in (text, text.removeprefix("'"))}


def _names(card: str) -> re.Pattern[str]:
    """The id as a word."""
    return re.compile(rf"(?<!\w){re.escape(card)}(?!\w)")
