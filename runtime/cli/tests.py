"""`stagefleet test`: every test and every style check of this checkout."""

import os
import sys
from typing import Annotated

import typer

from runtime.cli.project import ROOT, playbook_environment


def run_tests(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="Passed on to pytest, for example: -k spec.")
    ] = None,
) -> None:
    """Run every test and every style check; arguments go to pytest."""
    os.chdir(ROOT)
    command = [sys.executable, "-m", "pytest", *(arguments or [])]
    os.execve(sys.executable, command, playbook_environment())  # noqa: S606 - replaces this process
