"""The running stack shared by its tests: started once, and stopped with everything that it started."""

from collections.abc import Iterator

import pytest
from live_stack import Arguments, Live

from emulator.client import wait_for
from local_stack.settings import TRAINING_DAG

YEARLY = "0 0 1 1 *"


@pytest.fixture(scope="session")
def arguments() -> Iterator[Arguments]:
    """The arguments of all processes while the stack comes up and trains."""
    found = Arguments()
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory, arguments: Arguments) -> Iterator[Live]:
    """A stack after its first `make up`."""
    found = Live(tmp_path_factory.mktemp("live"))
    try:
        found.first_up = found.command("up")
        yield found
    finally:
        found.remove()


@pytest.fixture(scope="session")
def quiet(live: Live) -> Live:
    """The same stack without a schedule that could interfere: only the tests trigger runs."""
    live.configure(YEARLY)
    live.command("up")
    assert wait_for(lambda: not any(run["state"] in ("queued", "running") for run in live.runs()), 600.0)
    assert live.api.call("GET", f"dags/{TRAINING_DAG}")["is_paused"] is False
    return live


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that stop the shared stack's schedule after those that need it as it came up."""
    items.sort(key=lambda item: "quiet" in getattr(item, "fixturenames", ()))
