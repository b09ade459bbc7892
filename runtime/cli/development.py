"""`stagefleet test`, `benchmark` and `lab`: for those who change or measure stagefleet itself."""

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
    _become(["-m", "pytest", *arguments] if arguments else ["-m", "tests"])


def run_benchmark(arguments: Arguments = None) -> None:
    """Measure pipelines against the unsplit model, side by side, on this machine."""
    _become(["-m", "benchmarks.pipeline", *(arguments or [])])


def run_lab(arguments: Arguments = None) -> None:
    """Make real hosts on this machine to try everything on (needs root): lab --help."""
    _become_module("lab", arguments)


def run_cloud(arguments: Arguments = None) -> None:
    """Plan, make and remove the fleet's firewall rules in its clouds: cloud --help."""
    _become_module("cloud", arguments)


def _become_module(name: str, arguments: list[str] | None) -> None:
    # Paths in the arguments are the caller's; -P: what lies in that directory is not imported.
    os.execve(
        sys.executable,
        [sys.executable, "-P", "-m", name, *(arguments or [])],
        playbook_environment(),
    )


def _become(arguments: list[str]) -> None:
    """Replace this process by Python with these arguments, in the checkout."""
    os.chdir(ROOT)
    os.execve(sys.executable, [sys.executable, *arguments], playbook_environment())
