"""The page can be kept, mailed and opened by anyone: small, repeatable, without code or anything to fetch."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import factories
import numpy as np
from factories import span
from report_pages import AS_OF, Page, decision, html, report_data

from fraud_detection.evaluation import SliceMetrics
from fraud_detection.report import DailyCounts
from fraud_detection.schema import Check
from fraud_detection.settings import Settings
from fraud_detection.time_windows import run_windows

HOSTILE = '<script>alert(1)</script><img src="https://evil.example/x.png" onerror=alert(1)>\'"&'


def test_page_fetches_nothing_and_runs_nothing() -> None:
    """Fails when the report needs the network, or runs code in the reader's browser."""
    text = html(decision(), report_data())
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("href", "data:,").startswith("data:")
        assert "src" not in attributes
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_text_from_data_is_escaped() -> None:
    """Fails when a transaction id or column name can inject markup into the report."""
    hostile = decision(
        reason=HOSTILE,
        run_id=HOSTILE,
        checks=(Check(name=HOSTILE, value=1, limit=1, passed=False),),
        rejected={HOSTILE: 1},
        warnings=(HOSTILE,),
        seconds={HOSTILE: 1.0},
        report=HOSTILE,
    )
    data = report_data(
        faults={HOSTILE: HOSTILE},
        quarantine=HOSTILE,
        slices=(SliceMetrics(HOSTILE, 1, 1, 0.1, 0.2),),
        importances={HOSTILE: 1.0},
        data_fingerprint=HOSTILE,
        rollback_command=HOSTILE,
    )
    page = Page(html(hostile, data))
    assert not {tag for tag, _ in page.elements} & {"script", "img"}
    assert HOSTILE in page.texts["reason"]
    assert page.texts[""].count(HOSTILE) >= 10


def test_same_run_gives_the_same_page() -> None:
    """Fails when a repeated run, on another machine too, writes another page than the stored one."""
    program = "import sys, report_pages as t; sys.stdout.buffer.write(t.html(t.decision(), t.report_data()).encode())"
    folders = os.pathsep.join(map(str, (Path(__file__).parent, Path(factories.__file__).parent)))
    pages = []
    for seed, zone, language in (("1", "Pacific/Auckland", "C"), ("2", "America/New_York", "ru_RU.UTF-8")):
        environment = {"PYTHONHASHSEED": seed, "TZ": zone, "LANG": language, "PYTHONPATH": folders}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        pages.append(done.stdout.decode())
    assert pages[0] == pages[1]
    Page(pages[0])


def test_page_of_a_large_run_stays_small() -> None:
    """Fails when a long training window and a large hold-out make a page too large to open or to mail."""
    random = np.random.default_rng(0)
    fraud = (random.random(200_000) < 0.01).astype(np.int8)
    score = np.clip(random.random(200_000) * 0.5 + 0.3 * fraud, 0, 1)
    days = np.arange("2016-01-01", "2026-05-24", dtype="datetime64[D]")
    daily = DailyCounts(days, np.full(len(days), 9_000), np.full(len(days), 60))
    windows = run_windows(AS_OF, Settings().windows)
    training = span(AS_OF - timedelta(days=3600), windows.training_end, 10, 1)
    data = report_data(fraud=fraud, champion_score=score, challenger_score=score, daily=daily)
    page = html(decision(training=training), data)
    assert len(page.encode()) < 150_000
    Page(page)
