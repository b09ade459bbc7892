"""Stage 0 with a prompt: it waits for the pipeline, prints the text and ends."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.client.prompts import Tokenizer
from tests.support.models import import_tiny
from tests.support.pipelines import greedy_ids
from tests.support.swarm import START_SECONDS, Processes, make_fleet, prepare

PROMPT, NEW_TOKENS = "Hello, pipeline", 12


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Processes]:
    """Stages 1 and 2 of three; nobody has started stage 0."""
    model = import_tiny("llama", tmp_path / "tiny")[1]
    processes = Processes(prepare(make_fleet(tmp_path, model, (2, 4), step_timeout_seconds=5)))
    try:
        processes.start(1)
        processes.start(2)
        yield processes
    finally:
        processes.stop()


def once(processes: Processes, **changes: object) -> "subprocess.CompletedProcess[str]":
    """Run stage 0 with these changes to its configuration, until it ends."""
    path = Path(processes.plan.stages[0].config_path)
    config: dict[str, Any] = json.loads(path.read_text())
    path.write_text(json.dumps(config | changes))
    return subprocess.run(
        [sys.executable, "-m", "runtime", "serve", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def test_a_prompt_is_answered_and_stage_0_ends(others: Processes) -> None:
    done = once(others, prompt=PROMPT, max_new_tokens=NEW_TOKENS)
    assert done.returncode == 0, done.stderr
    model = Path(json.loads(others.plan.stages[0].config_text)["model"])
    ids = greedy_ids(model, (PROMPT,), NEW_TOKENS)[0]
    assert done.stdout == Tokenizer(model).fast.decode(ids) + "\n"


def test_without_the_others_it_says_what_is_missing(others: Processes) -> None:
    others.stop()
    done = once(others, prompt=PROMPT)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "blocks [2" in done.stderr
