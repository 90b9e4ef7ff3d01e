"""The dashboard and the reports over HTTP."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes.serving import Sources, serving

from fraud_detection.outputs import dashboard_file, report_file
from fraud_detection.settings import Settings
from fraud_detection.storage import Storage, open_folder

MODEL = Settings().model_name
REPORT = report_file(MODEL, datetime(2026, 3, 1, 10, tzinfo=UTC))
TOKEN = "a token of a test"  # noqa: S105


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    """An output folder with a page, a report, and what nobody may read over HTTP."""
    found = open_folder(str(tmp_path / "output"))
    for name in (dashboard_file(MODEL), REPORT):
        found.write_atomic(name, f"<p>{name}</p>".encode())
    for name in ("mlflow.db", f"dashboards/{MODEL}.json", "dashboards/other.html", f"reports/{MODEL}/x/report.html"):
        found.write_atomic(name, b"a secret")
    return found


def test_the_dashboard_and_its_reports_are_served(output: Storage, tmp_path: Path) -> None:
    """Fails when the address of the dashboard leads nowhere, or its links to reports do."""
    with serving(Sources(), tmp_path / "journal", output=output) as server:
        status, _ = server("GET", "/dashboard")
        assert status == 307
        assert server("GET", f"/{dashboard_file(MODEL)}") == (200, f"<p>{dashboard_file(MODEL)}</p>")
        assert server("GET", f"/{REPORT}") == (200, f"<p>{REPORT}</p>"), "the page names it ../reports/…"


def test_nothing_else_of_the_output_is_served(output: Storage, tmp_path: Path) -> None:
    """Fails when scores, decisions or the pages of other models can be read over HTTP, or leave the output folder."""
    (tmp_path / "outside.html").write_text("a secret")
    paths = (
        "/mlflow.db",
        f"/dashboards/{MODEL}.json",
        "/dashboards/other.html",
        f"/reports/{MODEL}/x/report.html",
        "/dashboards/../../outside.html",
        "/reports/%2e%2e/%2e%2e/outside.html",
        f"/reports/{MODEL}/20260301T110000Z/report.html",
    )
    with serving(Sources(), tmp_path / "journal", output=output) as server:
        for path in paths:
            status, answer = server("GET", path)
            assert (status, "secret" in str(answer)) == (404, False), path


def test_pages_require_the_token(output: Storage, tmp_path: Path) -> None:
    """Fails when the bank's figures can be read from other machines without the token."""
    with serving(Sources(), tmp_path / "journal", TOKEN, output) as server:
        for path in ("/dashboard", f"/{dashboard_file(MODEL)}", f"/{REPORT}"):
            assert server("GET", path)[0] == 401
            assert server("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})[0] in (200, 307)
