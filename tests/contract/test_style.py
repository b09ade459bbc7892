"""Style tools decide style: the checks that `pre-commit` runs on a commit, here on everything."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from runtime.cli.project import ROOT, playbook_environment

HOOKS = [
    hook["id"]
    for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repository["hooks"]
]


Checks = dict[str, Future[subprocess.CompletedProcess[str]]]


@pytest.fixture(scope="module")
def checks() -> Iterator[Checks]:
    """Every check, under way: most of them use one core, and take long."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {hook: pool.submit(_check, hook) for hook in HOOKS}


def _check(hook: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("pre-commit")), "run", hook, "--all-files"],
        cwd=ROOT,
        env=playbook_environment(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("hook", HOOKS)
def test_the_check_finds_nothing(hook: str, checks: Checks) -> None:
    done = checks[hook].result()
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_skipped() -> None:
    """Skip lists stay empty: a rule holds, or a line says why it does not."""
    ansible = yaml.safe_load((ROOT / ".ansible-lint").read_text())
    assert not ansible.get("skip_list")
    assert not ansible.get("warn_list")
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert not ruff.get("ignore")
