"""A settings file is read as its author meant it, or refused."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from emulator.errors import EmulatorError
from emulator.faults import FaultKind, FaultSpec
from emulator.settings import Settings as EmulatorSettings
from emulator.settings import load as load_emulator_settings
from fraud_detection.errors import SettingsError
from fraud_detection.settings import Settings, load_settings


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
        with pytest.raises(SettingsError, match="cannot be read"):
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
