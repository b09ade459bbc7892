"""What the commands about clouds have in common: options, progress, and how they end."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Protocol

import typer

from runtime.cli.output import messages, print_json
from runtime.spec.base import Frozen

EXIT_DIFFERS = 2

Inventory = Annotated[
    Path, typer.Option("--inventory", "-i", help="The site: an Ansible inventory.")
]
Only = Annotated[
    str | None, typer.Option("--cloud", help="One of fleet.clouds; default: each of them.")
]
Json = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


class DiffersError(Exception):
    """A cloud is not what the inventory says: the end of a command that tells so."""


class Planned(Protocol):
    """A plan, of rules or of instances."""

    @property
    def changes(self) -> Sequence[Frozen]:
        """What would change."""

    @property
    def notices(self) -> Sequence[str]:
        """What an operator should know and is not changed."""


def print_plans(plans: Mapping[str, Planned]) -> None:
    """Print plans by their clouds as one JSON object."""
    print_json(
        {
            name: {
                "changes": [change.model_dump(mode="json") for change in plan.changes],
                "lines": [str(change) for change in plan.changes],
                "notices": list(plan.notices),
            }
            for name, plan in plans.items()
        }
    )


def say_notices(plans: Mapping[str, Planned]) -> None:
    """Tell what operators should know, on standard error."""
    for name, plan in plans.items():
        for notice in plan.notices:
            messages.print(f"{name}: {notice}", style="yellow", markup=False, soft_wrap=True)


def end_with(differs: bool) -> None:
    """End a command that has told whether something differs.

    Raises:
        DiffersError: it does.
    """
    if differs:
        raise DiffersError


def progress(cloud: str) -> Callable[[object], None]:
    """Return what tells an operator what is done in a cloud, on standard error."""

    def done(what: object) -> None:
        messages.print(f"{cloud}: {what}", markup=False, soft_wrap=True)

    return done
