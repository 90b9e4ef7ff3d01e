"""A settings file is read as its author meant it, or refused before a run costs anything."""

import math
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from emulator.errors import EmulatorError
from emulator.faults import FaultKind, FaultSpec
from emulator.settings import Settings as EmulatorSettings
from emulator.settings import load as load_emulator_settings
from fraud_detection.errors import SettingsError
from fraud_detection.promotion.sequential import SequentialRule
from fraud_detection.settings import REMOVED, ComparisonSettings, Format, Settings, Windows, load_settings

WITH_TIMES = {"data": {"columns": {"label_available_at": "known"}}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("windows:\n  holdout_days: 5\ntraining: {}\nwindows:\n  label_delay_days: 3\n", ("'windows'", "1", "4")),
        ("windows:\n  holdout_days: 5\n  label_delay_days: 3\n  holdout_days: 6\n", ("'holdout_days'", "2", "4")),
        ("a: 1\nb:\n- c: {d: secret, e: 2,\n  'd': secret}\n", ("'d'", "3", "4")),
    ],
)
def test_a_repeated_key_is_refused_at_any_depth(tmp_path: Path, text: str, words: tuple[str, str, str]) -> None:
    """Fails when a section that was pasted a second time silently removes the first, and its limits are not applied."""
    config = tmp_path / "settings.yaml"
    config.write_text(text, encoding="utf-8")
    key, first, second = words
    expected = f"line {second}, column .*: key {key} is in line {first}, too; keep one of the two"
    with pytest.raises(SettingsError, match=expected) as refused:
        load_settings(config)
    with pytest.raises(EmulatorError, match=expected) as refused_too:
        load_emulator_settings(config)
    assert "secret" not in f"{refused.value} {refused_too.value}"


def test_merged_keys_and_repeated_names_of_other_sections_are_read(tmp_path: Path) -> None:
    """Fails when a valid file, with the same name in two sections or a merged section, is refused as repeating keys."""
    config = tmp_path / "settings.yaml"
    config.write_text("training: &seeded {seed: 3}\ncomparison:\n  <<: *seeded\n  seed: 4\n", encoding="utf-8")
    loaded = load_settings(config)
    assert (loaded.training.seed, loaded.comparison.seed) == (3, 4)


def test_a_value_that_yaml_cannot_convert_is_refused_without_a_stack_trace(tmp_path: Path) -> None:
    """Fails when an impossible date, or a file that is not text, ends in a stack trace instead of a message."""
    config = tmp_path / "settings.yaml"
    for content in (b"model_name: 2026-99-99\n", b"model_name: \xff\n"):
        config.write_bytes(content)
        with pytest.raises(SettingsError, match=r"cannot be (read|a timestamp)"):
            load_settings(config)
        with pytest.raises(EmulatorError, match="cannot read"):
            load_emulator_settings(config)


def _floats(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every setting that is a float."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _floats(field.annotation, (*path, name))
        elif field.annotation is float:
            yield (*path, name)


def _nested(path: tuple[str, ...], value: object) -> dict[str, Any]:
    return {path[0]: _nested(path[1:], value) if path[1:] else value}


FLOATS = [(model, path) for model in (Settings, EmulatorSettings, FaultSpec) for path in _floats(model)]


def test_a_float_setting_is_finite() -> None:
    """Fails when `minimum_effect: .inf` is accepted, and no challenger is ever promoted."""
    assert len(FLOATS) > 15
    for model, path in FLOATS:
        for value in (math.inf, -math.inf, math.nan):
            with pytest.raises(ValidationError) as refused:
                model.model_validate({"kind": FaultKind.JOB_HANGS} | _nested(path, value))
            assert path in [error["loc"] for error in refused.value.errors()]


def _load(folder: Path, content: dict[str, Any]) -> Settings:
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_settings(path)


@pytest.mark.parametrize("name", REMOVED)
def test_a_removed_setting_names_its_successor(tmp_path: Path, name: str) -> None:
    """Fails when a settings file of an earlier release is refused without a word on what to write instead."""
    section, setting = name.split(".")
    with pytest.raises(SettingsError, match=f"{name}: this setting was removed; .*comparison") as failed:
        _load(tmp_path, {section: {setting: 720}})
    assert "found 720" in str(failed.value)


def test_successors_of_removed_settings_exist() -> None:
    """Fails when the successor that an error names is refused, too."""
    for text in REMOVED.values():
        names = [word.strip(",;:") for word in text.split() if word.startswith("comparison.")]
        assert names
        assert {name.removeprefix("comparison.") for name in names} <= ComparisonSettings.model_fields.keys()


def test_labels_without_times_must_be_known_when_they_count_as_final(tmp_path: Path) -> None:
    """Fails when the youngest days of a hold-out can hold no known fraud, and every score looks useless there."""
    windows = {"windows": {"maturity_days": 4, "label_delay_days": 7}}
    with pytest.raises(SettingsError, match=r"maturity_days is 4 and windows\.label_delay_days 7: .* youngest 3 days"):
        _load(tmp_path, windows)
    assert _load(tmp_path, {**windows, **WITH_TIMES}).windows.maturity_days == 4
    table = {"path": "labels", "label_available_at": "known"}
    columns = {"columns": {"fraud": None}}
    assert _load(tmp_path, {**windows, "data": {**columns, "labels": table}}).has_label_times
    with pytest.raises(SettingsError, match="no label times"):
        _load(tmp_path, {**windows, "data": {**columns, "labels": {**table, "label_available_at": None}}})


def test_a_slice_is_a_column_of_the_data(tmp_path: Path) -> None:
    """Fails when a misspelt slice is never checked, and a candidate that loses it is promoted."""
    with pytest.raises(SettingsError, match=r"slices names chanel, which data\.columns\.extra_categorical"):
        _load(tmp_path, {"comparison": {"slices": ["chanel"]}, "data": {"columns": {"extra_categorical": ["channel"]}}})


def test_a_freeze_has_a_beginning_an_end_and_a_reason(tmp_path: Path) -> None:
    """Fails when a freeze cannot be written as documented, or one that ends before it begins freezes nothing."""
    freeze = {"from": date(2026, 12, 20), "to": date(2027, 1, 2), "reason": "holidays"}
    found = _load(tmp_path, {"promotion": {"freezes": [freeze]}})
    assert found.promotion.freezes[0].first == date(2026, 12, 20)
    assert found.model_dump()["promotion"]["freezes"] == (freeze,)
    with pytest.raises(SettingsError, match="swap from and to"):
        _load(tmp_path, {"promotion": {"freezes": [{**freeze, "to": date(2026, 12, 19)}]}})


def test_a_budget_or_a_cost_says_when_a_transaction_alerts(tmp_path: Path) -> None:
    """Fails when a budget that was turned off leaves a champion that never alerts, or `true` is a review cost of 1."""
    assert _load(tmp_path, {"alerts": {"cards_a_day": None, "review_cost": 12.5}}).alerts.cards_a_day is None
    with pytest.raises(SettingsError, match=r"cards_a_day and alerts\.review_cost are both null.*; set one of them"):
        _load(tmp_path, {"alerts": {"cards_a_day": None}})
    for name, value in (("review_cost", True), ("review_cost", 0), ("loss_share", 0), ("cards_a_day", 0)):
        with pytest.raises(SettingsError, match=f"alerts.{name}"):
            _load(tmp_path, {"alerts": {name: value}})


def test_the_sequential_rule_is_that_of_the_settings() -> None:
    """Fails when the rule that compares is not the one that the settings and the documents describe."""
    assert SequentialRule.of(ComparisonSettings()) == SequentialRule()
    changed = ComparisonSettings(candidate_every_hours=72, shadow_days=14, looks=5, risk=0.1, unseen_card_bound=False)
    rule = SequentialRule.of(changed)
    assert (rule.candidate_every, rule.shadow) == (timedelta(days=3), timedelta(days=14))
    assert (rule.looks, rule.risk, rule.unseen_card_bound) == (5, 0.1, False)
    assert rule.looks_in_period == changed.looks_in_period == 50


@pytest.mark.parametrize("name", ["demo", "handbook", "local_stack", "retraining"])
def test_each_settings_file_of_the_repository_is_accepted(name: str) -> None:
    """Fails when a documented command stops at its own settings file."""
    load_settings(Path(__file__).parents[1] / "conf" / f"{name}.yaml")


@pytest.mark.parametrize(
    ("written", "days"),
    [(7, 7), ("7d", 7), ("12h", 0.5), ("36h", 1.5), ("48h", 2), (0.5, 0.5), (7.0, 7), ("5 h", 5 / 24)],
)
def test_a_window_is_days_or_text_with_a_unit(tmp_path: Path, written: object, days: float) -> None:
    """Fails when hours are refused, or one span written in two ways is two recipes, one of which starts anew."""
    windows = _load(tmp_path, {"windows": {"holdout_days": written}}).windows
    assert windows.holdout_days == days
    assert isinstance(windows.holdout_days, type(days))
    assert Windows.model_validate(windows.model_dump(mode="json")) == windows


@pytest.mark.parametrize("written", [0, "0h", -1, "7", "7w", "90m", 1.3, 4000, "99999h", True, None, "h", "1e3d"])
def test_another_span_is_refused_with_the_forms_that_are_taken(tmp_path: Path, written: object) -> None:
    """Fails when a span that means nothing, or is not on whole hours, is read as another one."""
    with pytest.raises(SettingsError, match=r"windows\.holdout_days: .*expected days, such as 7, or text with a unit"):
        _load(tmp_path, {"windows": {"holdout_days": written}})


def test_labels_may_be_known_at_once(tmp_path: Path) -> None:
    """Fails when data whose labels need no time cannot be described."""
    windows = _load(tmp_path, {"windows": {"label_delay_days": 0, "maturity_days": "1h"}}).windows
    assert (windows.label_delay_days, windows.maturity_days) == (0, 1 / 24)


PATHS = [
    f"{section}.{name}"
    for section, field in Settings.model_fields.items()
    for name in getattr(type(field.default), "model_fields", {})
] + [f"data.format.{name}" for name in Format.model_fields]
plain_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**20),
    st.floats(),
    st.text(max_size=6),
    st.dates(),
    st.sampled_from(
        ["%d.%m.%Y", "%", "%d%d%m%Y", "utf-16", "idna", "undefined", "../x", "0h", "7d", "1" * 99, "\\", "\0"]
    ),
)
any_values = st.recursive(
    plain_values,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        (
            {"windows": {"holdout_day": 4}},
            "windows.holdout_day: there is no such setting; did you mean windows.holdout_days?",
        ),
        ({"holdout_days": 4}, "holdout_days: there is no such setting; did you mean windows.holdout_days?"),
        ({"Windows": {}}, "did you mean windows?"),
        ({"columns": {"amount": "sum"}}, "did you mean data.columns?"),
        ({"comparison": {"max_depth": 3}}, "did you mean training.max_depth?"),
        ({"comparison": {"sed": 3}}, "did you mean comparison.seed?"),
        ({"promotion": {"freezes": [{"form": date(2026, 1, 1)}]}}, "did you mean promotion.freezes.from?"),
        ({"promotion": {"mode": "automatc"}}, "expected automatic or approval; did you mean automatic?"),
    ],
)
def test_an_unknown_name_suggests_the_nearest_known_one(tmp_path: Path, content: dict[str, Any], meant: str) -> None:
    """Fails when a misspelt setting is refused, and its author must search the reference for the right name."""
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path, content)
    assert meant in str(refused.value)


def test_a_name_like_no_setting_suggests_none_and_is_not_shown_in_full(tmp_path: Path) -> None:
    """Fails when a message proposes a setting that has nothing to do with the name, or repeats a password."""
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path, {"password=hunter2": 4, "zzzzzzzz": 5})
    assert "did you mean" not in str(refused.value)
    assert "hunter2" not in str(refused.value)


ODD_VALUES: tuple[object, ...] = (
    None,
    True,
    {"a": 1},
    [{"a": None}],
    [[1]],
    date(2026, 1, 1),
    b"x",
    {1: 2},
    [],
    "é",
    -5,
    10**30,
    math.nan,
)
PYTHON = re.compile(
    r"[{}]|datetime|\bNone\b|\bTrue\b|\bb'|Input should|Value error|\btuple|\bdict|instance of|validation"
)


def _default(path: str) -> object:
    found: Any = Settings().model_dump(by_alias=True)
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


NUMBERS = [path for path in PATHS if type(_default(path)) in (int, float)]


def test_true_is_no_number(tmp_path: Path) -> None:
    """Fails when `seed: true` trains with seed 1, or `minimum_holdout_frauds: true` compares on a single fraud."""
    assert len(NUMBERS) > 30
    for path in NUMBERS:
        for value in (True, False):
            with pytest.raises(SettingsError, match=path):
                _load(tmp_path, nested({path: value}))


@pytest.mark.parametrize("path", PATHS)
def test_a_refused_value_is_described_in_the_words_of_the_file(tmp_path: Path, path: str) -> None:
    """Fails when the author of a settings file must know Python, or its libraries, to understand what is wrong."""
    for value in ODD_VALUES:
        try:
            _load(tmp_path, nested({path: value}))
        except SettingsError as refused:
            text = str(refused).replace(str(tmp_path), "")
            assert path.rpartition(".")[2] in text
            assert not PYTHON.search(text), text


assignments = st.dictionaries(st.sampled_from(PATHS), any_values, min_size=1, max_size=3)


def nested(found: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in found.items():
        *sections, name = path.split(".")
        place = tree
        for section in sections:
            inner = place.setdefault(section, {})
            place = inner if isinstance(inner, dict) else {}
        place[name] = value
    return tree


@hypothesis_settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.one_of(assignments.map(lambda found: yaml.safe_dump(nested(found)).encode()), st.binary(max_size=80)))
def test_any_settings_file_is_accepted_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Fails when a settings file of any content ends in a stack trace instead of a message with the rule it breaks."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with suppress(SettingsError):
        load_settings(path)
