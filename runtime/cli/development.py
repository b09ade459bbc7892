"""`stagefleet test` and `benchmark`: for those who change or measure stagefleet itself."""

import os
import sys
from typing import Annotated

import typer

from runtime.cli.project import ROOT, playbook_environment

Arguments = Annotated[
    list[str] | None, typer.Argument(help="Passed on; --help after -- lists what there is.")
]


def run_tests(arguments: Arguments = None) -> None:
    """Run every test and every style check; arguments go to pytest, such as -k spec."""
    _become(["-m", "pytest", *(arguments or [])])


def run_benchmark(arguments: Arguments = None) -> None:
    """Measure pipelines against the unsplit model, side by side, on this machine."""
    _become(["-m", "benchmarks.pipeline", *(arguments or [])])


def _become(arguments: list[str]) -> None:
    """Replace this process by Python with these arguments, in the checkout."""
    os.chdir(ROOT)
    os.execve(sys.executable, [sys.executable, *arguments], playbook_environment())
