"""One table of card payments, and the foreign forms in which a file may hold it."""

import bz2
import gzip
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Make = Callable[[pd.DataFrame], "pd.Series[Any]"]
ROWS, DAYS = 20_000, 120
START = "2000-01-01"
"""Where `init` takes times to begin that do not say it, so that this form holds the same moments, too."""


def payments(rows: int = ROWS, seed: int = 5) -> pd.DataFrame:
    """Payments on whole minutes, about 4 % of them frauds: large amounts, and those at terminals that leak cards."""
    random = np.random.default_rng(seed)
    minutes = np.sort(random.choice(DAYS * 24 * 60, rows, replace=False))
    minutes[0] = 0
    card, shop = random.integers(1000, 2000, rows), random.integers(0, 60, rows)
    amount = np.round(random.lognormal(3.3, 0.8, rows) + 0.05, 2)
    leaking = (shop + minutes // (14 * 24 * 60) * 7) % 60 < 2
    fraud = (random.random(rows) < 0.025) | (leaking & (random.random(rows) < 0.5))
    amount = np.where(fraud & ~leaking, np.round(amount * 6 + 50, 2), amount)
    return pd.DataFrame(
        {
            "payment_id": np.arange(500_000, 500_000 + rows),
            "booked": pd.Timestamp(START) + pd.to_timedelta(minutes, unit="min"),
            "amount": amount,
            "fraud": fraud.astype(int),
            "card": card,
            "terminal": [f"T{number:03d}" for number in shop],
            "channel": random.choice(["chip", "web", "phone"], rows, p=[0.6, 0.3, 0.1]),
            "distance": np.round(random.gamma(2.0, 9.0, rows), 1),
        }
    )


@dataclass(frozen=True)
class Form:
    """A way to write the table; `same_ids` is False where the file has no ids."""

    suffix: str
    write: Callable[[pd.DataFrame], bytes]
    same_ids: bool = True


def write_form(name: str, table: pd.DataFrame, folder: Path) -> Path:
    """The file that holds the table in a form."""
    path = folder / f"{name}{FORMS[name].suffix}"
    path.write_bytes(FORMS[name].write(table))
    return path


def _texts(table: pd.DataFrame) -> pd.DataFrame:
    texts = table.copy()
    if "booked" in texts:
        texts["booked"] = table["booked"].dt.strftime("%Y-%m-%d %H:%M:%S")
    if "amount" in texts:
        texts["amount"] = [f"{amount:.2f}" for amount in table["amount"]]
    return texts.astype(str)


def _csv(texts: pd.DataFrame, separator: str = ",", encoding: str = "utf-8", quote: str = '"') -> bytes:
    return texts.to_csv(None, sep=separator, index=False, quotechar=quote, lineterminator="\n").encode(encoding)


def _changed(**columns: Make) -> Callable[[pd.DataFrame], bytes]:
    """The file with some columns written otherwise."""

    def write(table: pd.DataFrame) -> bytes:
        return _csv(_texts(table).assign(**{name: make(table) for name, make in columns.items()}))

    return write


def _amounts(form: str, *, decimal: str = ".", thousands: str = "") -> Make:
    marks = str.maketrans({",": thousands, ".": decimal})

    def write(table: pd.DataFrame) -> "pd.Series[Any]":
        return table["amount"].map(lambda amount: form.format(f"{amount:,.2f}".translate(marks)))

    return write


def _times(form: str) -> Callable[[pd.DataFrame], bytes]:
    return _changed(booked=lambda table: table["booked"].dt.strftime(form))


def _since(origin: str, step: pd.Timedelta) -> Callable[[pd.DataFrame], bytes]:
    return _changed(booked=lambda table: (table["booked"] - pd.Timestamp(origin)) // step)


def _labels(genuine: str, fraud: str) -> Callable[[pd.DataFrame], bytes]:
    return _changed(fraud=lambda table: table["fraud"].map({0: genuine, 1: fraud}))


def _parquet(table: pd.DataFrame) -> bytes:
    kept = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), kept)
    return kept.getvalue()


def _text_ids(table: pd.DataFrame) -> pd.DataFrame:
    """Ids as CSV files have them: as text, which is other content than a number."""
    return table.astype({"payment_id": str, "card": str})


def _split(table: pd.DataFrame) -> bytes:
    texts = _texts(table).drop(columns="booked")
    return _csv(texts.assign(date=table["booked"].dt.strftime("%d.%m.%Y"), time=table["booked"].dt.strftime("%H:%M")))


def _refunds(table: pd.DataFrame) -> bytes:
    again = table.head(300)
    refunds = again.assign(payment_id=again["payment_id"] + 10**6, amount=-again["amount"], fraud=0)
    return _csv(_texts(pd.concat([table, refunds])))


def _comma_distances(table: pd.DataFrame) -> "pd.Series[Any]":
    return table["distance"].map(lambda distance: f"{distance:.1f}".replace(".", ","))


def _without_ids(texts: pd.DataFrame) -> pd.DataFrame:
    return texts.drop(columns="payment_id")


FORMS: dict[str, Form] = {
    "plain": Form(".csv", lambda table: _csv(_texts(table))),
    "semicolon": Form(".csv", lambda table: _csv(_texts(table), ";")),
    "tab": Form(".tsv", lambda table: _csv(_texts(table), "\t")),
    "pipe": Form(".txt", lambda table: _csv(_texts(table), "|")),
    "gzip": Form(".csv.gz", lambda table: gzip.compress(_csv(_texts(table)), 1)),
    "bzip2": Form(".csv.bz2", lambda table: bz2.compress(_csv(_texts(table)), 1)),
    "preamble": Form(".csv", lambda table: b"Export of the bank\nall payments\n\n" + _csv(_texts(table))),
    "utf16": Form(".csv", lambda table: _csv(_texts(table), encoding="utf-16")),
    "latin1": Form(".csv", lambda table: _csv(_texts(table).assign(city="Café"), encoding="latin-1")),
    "day_first": Form(".csv", _times("%d/%m/%Y %H:%M")),
    "month_first": Form(".csv", _times("%m/%d/%Y %I:%M %p")),
    "month_name": Form(".csv", _times("%d-%b-%Y %H:%M:%S")),
    "german": Form(
        ".csv",
        lambda table: _csv(
            _texts(table).assign(
                booked=table["booked"].dt.strftime("%d.%m.%Y %H:%M"),
                amount=_amounts("{}", decimal=",")(table),
                distance=_comma_distances(table),
            ),
            ";",
        ),
    ),
    "epoch_seconds": Form(".csv", _since("1970-01-01", pd.Timedelta(seconds=1))),
    "epoch_milliseconds": Form(".csv", _since("1970-01-01", pd.Timedelta(milliseconds=1))),
    "seconds_since_start": Form(".csv", _since(START, pd.Timedelta(seconds=1))),
    "date_and_time": Form(".csv", _split),
    "labels_in_words": Form(".csv", _labels("Genuine", "Fraud")),
    "labels_yes_no": Form(".csv", _labels("N", "Y")),
    "dollars": Form(".csv", _changed(amount=_amounts("${}"))),
    "euros": Form(".csv", _changed(amount=_amounts("{} EUR"))),
    "quoted_comma": Form(".csv", _changed(amount=_amounts("{}", decimal=","), distance=_comma_distances)),
    "thousands": Form(".csv", _changed(amount=_amounts("{}", thousands=","))),
    "refunds": Form(".csv", _refunds),
    "no_id": Form(".csv", lambda table: _csv(_without_ids(_texts(table))), same_ids=False),
    "no_id_semicolon": Form(".csv", lambda table: _csv(_without_ids(_texts(table)), ";"), same_ids=False),
    "upper_case": Form(".csv", lambda table: _csv(_texts(table).rename(columns=str.upper))),
    "parquet": Form(".parquet", lambda table: _parquet(_text_ids(table))),
    "parquet_text": Form(".parquet", lambda table: _parquet(_texts(table))),
    "parquet_label_text": Form(
        ".parquet", lambda table: _parquet(_text_ids(table).assign(fraud=table["fraud"].astype(str)))
    ),
}
"""By name. All but those without ids hold the same payments."""
