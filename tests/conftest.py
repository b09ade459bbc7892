"""Fixtures that several test packages share."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Test on the event loop that servers run on."""
    return {"uvloop": uvloop.new_event_loop}


_HERE: Final = Path(__file__).parent
# The longest go first, so that no worker waits for the last one; the tests of the lab in the order
# in which they find its hosts virgin, deployed, and at the end virgin again.
_FIRST: Final = (
    *(f"lab/test_{name}.py" for name in ("virgin_hosts", "deployment", "operation", "faults")),
    *("lab/test_removal.py", "lab/test_vm.py", "integration/test_playbooks.py"),
    # A worker that takes a long file is given a next one at once, which then waits for it.
    *("contract/test_facts.py", "contract/test_roles.py"),
)
_MOST_WORKERS: Final = 4


def pytest_xdist_auto_num_workers() -> int:
    """Return how many tests run side by side: each may start several processes of its own."""
    return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files, and keep what shares a fixture in one worker: a file, and all of the lab."""

    def place(item: pytest.Item) -> int:
        name = str(item.path.relative_to(_HERE))
        return _FIRST.index(name) if name in _FIRST else len(_FIRST)

    items.sort(key=place)
    for item in items:
        name = item.path.relative_to(_HERE)
        group = name.parts[0] if name.parts[0] == "lab" else str(name)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def sample_model() -> Path:
    """The real model: SmolLM2-135M-Instruct, imported in float32."""
    from tests.support import models  # loads torch, which most tests do not need

    return models.sample_model()
