"""Times in every written form: what Python reads, as Python reads it, for whole columns at once."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_detection.settings import Format, TimeUnit
from fraud_detection.transactions.strptime import parse
from fraud_detection.transactions.times import read_times

moments = st.datetimes(datetime.fromisoformat("1970-01-02"), datetime.fromisoformat("2068-01-01"))
FORMS = [
    "%d.%m.%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M %p",
    "%m/%d/%y %H:%M:%S.%f",
    "%d-%b-%Y %H:%M:%S",
    "%B %d, %Y",
    "%a, %d %b %Y %H:%M:%S",
    "%Y%m%d%H%M%S",
    "%Y年%m月%d日 %H:%M",
    "%Y-%j %H:%M",
    "%d.%m.%Y %% %H",
]


def read(texts: Sequence[str | None], **form: object) -> list[datetime | None]:
    found: list[datetime | None] = read_times(pa.array(texts, pa.string()), Format.model_validate(form)).to_pylist()
    return found


@settings(deadline=None)
@given(moments, st.sampled_from(FORMS))
def test_a_form_reads_what_it_writes(moment: datetime, form: str) -> None:
    """Fails when a time in a form of its own is read as another instant than Python reads."""
    written = moment.strftime(form)
    expected = datetime.strptime(written, form).replace(tzinfo=UTC)
    assert read([written, None, " " + written.upper()], time_formats=[form]) == [expected, None, expected]


pieces = st.sampled_from(
    ["2025", "31", "02", "2", "13", ".", "/", ":", " ", "Feb", "AM", "pm", "12", "0", "٣", "é", ""]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(pieces, max_size=9).map("".join), max_size=8), st.sampled_from(FORMS))
def test_what_python_does_not_read_is_none(texts: list[str], form: str) -> None:
    """Fails when 31 February, month 13 or a text of another form is read as some time."""
    naive, _ = parse(pa.array(texts, pa.string()), form)
    for text, found in zip(texts, naive.to_pylist(), strict=True):
        try:
            expected = datetime.strptime(text.strip(), form) if text.isascii() else None  # noqa: DTZ007
        except ValueError:
            expected = None
        assert found == expected or not text.isascii()


def test_forms_are_tried_in_order_and_nothing_else_is() -> None:
    """Fails when a text that a form reads as a day is read by another form, or by ISO 8601, as another day."""
    forms = ["%d/%m/%Y", "%m/%d/%Y"]
    assert read(["03/02/2025", "02/13/2025", "2025-02-13"], time_formats=forms) == [
        datetime(2025, 2, 3, tzinfo=UTC),
        datetime(2025, 2, 13, tzinfo=UTC),
        None,
    ]


@pytest.mark.parametrize("unit", list(TimeUnit))
def test_numbers_count_units_since_the_origin(unit: TimeUnit) -> None:
    """Fails when Unix times or hours since a start are read as other instants, or lose microseconds."""
    micros = {"s": 10**6, "ms": 1000, "us": 1, "min": 60 * 10**6, "h": 3600 * 10**6, "d": 86400 * 10**6}
    moment = datetime(2025, 3, 4, 12, tzinfo=UTC)
    since = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    count = since * 1000 if unit == "ns" else since // micros[unit] * 1
    exact = moment if unit not in {"d"} else moment.replace(hour=0)
    assert read([str(count), None, "x", " +7e999"], time_unit=unit) == [exact, None, None, None]
    origin = datetime(2025, 3, 4, tzinfo=UTC)
    assert read(["0", "0.0"], time_unit=unit, time_origin="2025-03-04T03:00:00+03:00") == [origin, origin]


@settings(deadline=None)
@given(st.integers(10**14, 4 * 10**15))
def test_a_fraction_of_a_number_keeps_its_microseconds(micros: int) -> None:
    """Fails when Unix times with a fraction, or in scientific notation, are off by a microsecond."""
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    assert read([f"{micros // 10**6}.{micros % 10**6:06d}", "x"], time_unit="s")[0] == expected
    assert read([f"{micros // 10**6},{micros % 10**6:06d}"], time_unit="s", decimal_mark=",")[0] == expected


def test_iso_times_are_read_beside_numbers() -> None:
    """Fails when the label times of a file are rejected because its transaction times are numbers."""
    assert read(["0", "2025-03-04"], time_unit="s")[1] == datetime(2025, 3, 4, tzinfo=UTC)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), moments), max_size=9), st.sampled_from(["Europe/Berlin", "America/New_York"]))
def test_a_time_without_zone_is_of_the_zone_of_the_settings(local: list[datetime | None], zone: str) -> None:
    """Fails when local times are shifted, or a row of the hour in which the clocks change is lost."""
    expected = [None if one is None else one.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for one in local]
    texts = [None if one is None else one.isoformat() for one in local]
    since = datetime(1970, 1, 2, tzinfo=UTC)
    assert [one for one in read(texts, time_zone=zone) if one is None or one > since] == [
        one for one in expected if one is None or one > since
    ]
    zoned = [None if text is None else f"{text}Z" for text in texts]
    assert read(zoned, time_zone=zone) == read(zoned)


def test_hours_that_a_clock_shows_twice_or_never() -> None:
    """Fails when the documented choice for the hours in which clocks change is not what happens."""
    found = read(["2025-10-26 02:30", "2025-03-30 02:30"], time_zone="Europe/Berlin")
    assert found == [datetime(2025, 10, 26, 0, 30, tzinfo=UTC), datetime(2025, 3, 30, 1, 30, tzinfo=UTC)]


def test_afternoons_are_told_in_any_spelling() -> None:
    """Fails when `1:00 p.m.` is read as one in the morning, or not at all."""
    texts = ["01/13/2025 1:00 p.m.", "01/13/2025 12:00 A.M.", "01/13/2025 12:30 pm"]
    found = read(texts, time_formats=["%m/%d/%Y %I:%M %p"])
    assert [(one.hour, one.minute) for one in found if one] == [(13, 0), (0, 0), (12, 30)]


def test_an_offset_in_the_text_comes_before_the_zone_of_the_settings() -> None:
    """Fails when `+0300` or `UTC` in a text is ignored."""
    forms = ["%d.%m.%Y %H:%M %z", "%d.%m.%Y %H:%M %Z", "%d.%m.%Y %H:%M"]
    texts = ["04.03.2025 12:00 +0300", "04.03.2025 12:00 -05:30", "04.03.2025 12:00 UTC", "04.03.2025 12:00"]
    found = read(texts, time_formats=forms, time_zone="Asia/Tokyo")
    assert [one.hour + one.minute / 60 for one in found if one] == [9, 17.5, 12, 3]
