"""The spans that `init` proposes for data of any length."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fraud_detection.initialization.windows import Span, fit_windows
from fraud_detection.settings import Windows

_HOUR = 3_600_000_000


class _Roles:
    """Columns of which no windows depend: there is no label time, and no card."""

    label_time = card = terminal = None


@given(hours=st.one_of(st.integers(1, 72), st.integers(73, 9_000)), frauds=st.integers(2, 5_000))
def test_the_proposed_spans_are_settings_that_load(hours: int, frauds: int) -> None:
    """Fails when `init` writes a file that `retrain` refuses, as with a hold-out of no hour."""
    times = np.linspace(0, hours * _HOUR, frauds).astype(np.int64)
    found = fit_windows(_Roles(), Span(0, hours * _HOUR, frauds * 100, times)).found  # type: ignore[arg-type]
    windows = Windows.model_validate({name: value for name, (value, _) in found.items()})
    assert windows.holdout_days >= 1 / 24
