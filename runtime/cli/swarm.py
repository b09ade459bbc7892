"""`stagefleet swarm`: which servers have which blocks, what is missing, and what happened."""

import contextlib
import json as json_text
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Final

import typer
from rich.live import Live

from runtime.cli.options import DEFAULT_INVENTORY, InventoryPath, Url, base_url
from runtime.cli.output import messages, print_json, results
from runtime.cli.swarm_map import drawn
from runtime.errors import StagefleetError
from runtime.gateway import remote
from runtime.spec.inventory import Inventory, read_inventory
from runtime.swarm.report import SwarmReport

_COVERED: Final = 0
_MISSING: Final = 1
_CANNOT_ASK: Final = 2

# A swarm of a thousand servers takes stage 0 a few seconds.
_ANSWER_SECONDS = 30


def swarm(
    inventory: InventoryPath = DEFAULT_INVENTORY,
    url: Url = None,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it anew until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option(min=0.1, max=3600, help="With --watch: seconds between two looks.")
    ] = 2,
    json: Annotated[
        bool, typer.Option("--json", help="Print it as JSON; with --watch, an object a line.")
    ] = False,
) -> None:
    """Show the swarm: blocks by servers, holes, capacity, moves.

    Exit: 0 every block is served, 1 blocks are missing, 2 stage 0 cannot be asked.
    """
    try:
        with base_url(inventory, url) as base:
            names = {} if url is not None else host_names(read_inventory(inventory))
            if watch:
                code = _watched(base, names, every, json=json)
            else:
                code = _once(base, names, json=json)
    except StagefleetError as error:
        # 1 would say that blocks are missing.
        _complain(error)
        code = _CANNOT_ASK
    raise typer.Exit(code)


def host_names(inventory: Inventory) -> dict[str, str]:
    """Return the inventory's names of hosts by their addresses, where an address is one host's."""
    found: dict[str, set[str]] = {}
    for name, host in inventory.fleet.hosts.items():
        for address in (*host.addresses, *([host.public_ip] if host.public_ip else [])):
            found.setdefault(address, set()).add(name)
    return {address: names.pop() for address, names in found.items() if len(names) == 1}


def _once(base: str, names: Mapping[str, str], *, json: bool) -> int:
    report = remote.swarm(base, _ANSWER_SECONDS)
    if json:
        print_json(report)
    else:
        results.print(drawn(report, results.width, names))
    return _code(report)


def _watched(base: str, names: Mapping[str, str], every: float, *, json: bool) -> int:
    """Look again and again until Ctrl-C; return the code of the last look."""
    code = _CANNOT_ASK
    try:
        with _screen(json=json) as live:
            while True:
                code = _look(base, names, live, json=json)
                time.sleep(every)  # so often the operator wants to see it; Ctrl-C ends it
    except KeyboardInterrupt:
        return code


def _look(base: str, names: Mapping[str, str], live: Live | None, *, json: bool) -> int:
    try:
        report = remote.swarm(base, _ANSWER_SECONDS)
    except StagefleetError as error:
        # It may come back; the last picture would be taken for the present.
        if live is not None:
            live.update(f"{error}", refresh=True)
        else:
            _complain(error)
        return _CANNOT_ASK
    if json:
        line = report.model_dump(mode="json")
        sys.stdout.write(json_text.dumps(line, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    elif live is not None:
        live.update(drawn(report, results.width, names, results.height), refresh=True)
    else:
        results.print(drawn(report, results.width, names))
    return _code(report)


@contextlib.contextmanager
def _screen(*, json: bool) -> Iterator[Live | None]:
    """Yield a screen that is drawn over; None where there is none, or machines read along."""
    if json or not results.is_terminal:
        yield None
    else:
        with Live(console=results, screen=True, auto_refresh=False) as live:
            yield live


def _code(report: SwarmReport) -> int:
    return _COVERED if report.complete else _MISSING


def _complain(error: StagefleetError) -> None:
    messages.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
