"""Any file given as settings is read as its author meant it, or refused at once with its line."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_detection.errors import SettingsError
from fraud_detection.settings import load_settings

WORDS = (
    "windows training data columns labels format comparison promotion freezes data_health null ~ 1 -1 1e999 .nan .inf"
    " 2026-01-01 2026-99-99 0x1f 1_000 1:30 true yes = << <<:*a &a *a [*a] [ ] { } : - ? @ ` ' \" | > # --- ... % !!int"
    " !!float !!bool !!null !!binary !!set !!omap !!pairs !!timestamp !!python/object:os.system customer_id 7d [a,b]"
)
PIECES = st.one_of(st.sampled_from([*WORDS.split(" "), " ", "\n", "\n  ", "\t", ": "]), st.text(max_size=3))
LINES = (Path(__file__).parents[1] / "conf" / "retraining.yaml").read_text(encoding="utf-8").splitlines()


@st.composite
def changed_files(draw: st.DrawFn) -> str:
    """The repository's settings file with some lines lost, moved, repeated or overwritten."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        at, other = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        foreign = "".join(draw(st.lists(PIECES, max_size=6)))
        name = lines[at].partition(":")[0]
        new: tuple[list[str], ...] = (
            [],
            [lines[at], lines[other]],
            [f"{name}: {foreign}"],
            [f" {lines[at]}"],
            [lines[at], foreign],
        )
        lines[at : at + 1] = draw(st.sampled_from(new))
    return "\n".join(lines)


@given(st.one_of(st.lists(PIECES, max_size=15).map("".join), changed_files()))
@settings(max_examples=120)
def test_any_file_is_settings_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    """Fails when a foreign file given as --config, or one with a slip in it, ends in a stack trace of a library."""
    config = tmp_path_factory.getbasetemp() / "foreign.yaml"
    config.write_text(content, encoding="utf-8", errors="surrogatepass")
    with suppress(SettingsError):
        load_settings(config)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[" * 5000, "more than 30 levels of nesting"),
        ("{a: " * 3000, "more than 30 levels of nesting"),
        ("- " * 4000, "more than 30 levels of nesting"),
        ("".join(f"{' ' * i}a:\n" for i in range(1000)), "more than 30 levels of nesting"),
        ("&a [*a]", "holds a list; expected names with values"),
        ("training: &a {seed: *a}", "training.seed"),
        ("b0: &b0 [1]\n" + "".join(f"b{i}: &b{i} [{f'*b{i - 1},' * 9}]\n" for i in range(1, 25)), "b24: there is no"),
        (
            "a0: &a0 {k: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{f'*a{i - 1},' * 9}]}}\n" for i in range(1, 9)),
            "too much is merged here",
        ),
        ("training: {seed: " + "9" * 5000 + "}", "this cannot be a int"),
        ("training: {seed: 0x" + "f" * 20_000 + "}", "the number is too large"),
        ("training:\n\tseed: 1", "cannot start any token"),
        ("42", "holds a single value"),
        ("model_name: !!timestamp x", "line 1, column 13: this cannot be a timestamp"),
        ("model_name: !!python/object:os.system x", "could not determine a constructor"),
        ("? [a]\n: b", "line 1, column 3"),
        ("1: 2", "1: expected the name of a setting"),
        ("#" * 1_000_001, "has more than 1,000,000 characters"),
    ],
    ids=lambda text: text[:12].replace("\n", " "),
)
def test_a_file_that_means_nothing_or_costs_much_is_refused_at_once(tmp_path: Path, content: str, words: str) -> None:
    """Fails when nesting, references or numbers without end use up time or memory, or end in a stack trace."""
    config = tmp_path / "settings.yaml"
    config.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        load_settings(config)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 10_000
