"""Fixtures that several test packages share."""

import asyncio
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import pytest
import uvloop
from hypothesis import settings

# Tests assert behaviour, not timing.
settings.register_profile("stagefleet", deadline=None)
settings.load_profile("stagefleet")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Test on the event loop that servers run on."""
    return {"uvloop": uvloop.new_event_loop}


_HERE: Final = Path(__file__).parent
_MANY: Final = 20
# Of a message, at its beginning and at its end.
_SHOWN: Final = 400
# In the order in which they find the lab's hosts virgin, deployed, and at the end virgin again.
_LAB: Final = (
    "virgin_hosts",
    "ports",
    "deployment",
    "operation",
    "faults",
    "doctor",
    "firewall",
    "balanced",
    "removal",
    "network",
    "cuda",
    "shares",
    "vm",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the lab into their order, behind all others."""
    order = [_HERE / "lab" / f"test_{name}.py" for name in _LAB]
    items.sort(key=lambda item: order.index(item.path) if item.path in order else -1)


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Let the lab's images be made while tests that do not need them run, and say so."""
    # A few tests by name take less time than that.
    if sum(item.path.parent == _HERE / "lab" for item in items) < _MANY:
        return []
    from tests.support import lab  # reads an inventory, which a few tests do not need

    said, end = lab.prepare_meanwhile()
    config.add_cleanup(end)
    return [said]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Say what failed once more at the very end: in CI pytest shortens nothing before it."""
    finished = yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter:
        for kind in ("failed", "error"):
            for report in reporter.stats.get(kind, ()):
                reporter.write_line(f"{kind}: {report.nodeid}: {_shortened(report)}")
    return finished


def _shortened(report: pytest.TestReport) -> str:
    """Return how the message of a failure begins and ends, in one line."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = " ".join((crash.message if crash else report.longreprtext).split())
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]} … {text[-_SHOWN:]}"


@pytest.fixture(scope="session")
def sample_model() -> Path:
    """The real model: SmolLM2-135M-Instruct, imported in float32."""
    from tests.support import models  # loads torch, which most tests do not need

    return models.sample_model()


@pytest.fixture(scope="session", autouse=True)
def _state(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let what commands remember of their runs be this run's own."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
