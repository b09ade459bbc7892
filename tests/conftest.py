"""Fixtures that several test packages share."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Test on the event loop that servers run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def sample_model() -> Path:
    """The real model: SmolLM2-135M-Instruct, imported in float32."""
    from tests.support import models  # loads torch, which most tests do not need

    return models.sample_model()
