"""`stagefleet network` and `check-links`: data links as they should be, and what they bring."""

import json as json_text
import tempfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from runtime.checks.link_check import SECONDS, STREAMS
from runtime.checks.link_history import Proof, history_path, kept, proofs
from runtime.checks.link_report import Row, Verdict, worst
from runtime.cli.options import DEFAULT_INVENTORY, InventoryPath
from runtime.cli.output import messages, print_json, results
from runtime.cli.playbook_progress import run_quietly
from runtime.cli.project import run_playbook
from runtime.errors import DeployError, StagefleetError
from runtime.spec.inventory import read_inventory

_EXIT = {Verdict.OK: 0, Verdict.BAD: 1, Verdict.UNKNOWN: 2}
_COLOUR = {Verdict.OK: "green", Verdict.BAD: "red", Verdict.UNKNOWN: "yellow"}


class Verb(StrEnum):
    """What can be done with the data links of hosts."""

    APPLY = "apply"
    REVERT = "revert"


_PLAYBOOKS = {Verb.APPLY: "network", Verb.REVERT: "revert_network"}


def network(
    verb: Annotated[Verb, typer.Argument(help="apply: as the inventory says; revert: as before.")],
    inventory: InventoryPath = DEFAULT_INVENTORY,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; show what would change.")
    ] = False,
    limit: Annotated[
        str | None, typer.Option(help="Only these hosts, in Ansible's patterns.")
    ] = None,
) -> None:
    """Tune the hosts' data links, or put them back: playbooks/network.yml, revert_network.yml.

    A change that cuts somebody off undoes itself within a minute.
    """
    arguments = [*(["--check", "--diff"] if check else []), *(["--limit", limit] if limit else [])]
    run_playbook(_PLAYBOOKS[verb], inventory, arguments)


def check_links(
    inventory: InventoryPath = DEFAULT_INVENTORY,
    seconds: Annotated[
        int, typer.Option(help="How long each direction sends; 0: no throughput.", min=0, max=60)
    ] = SECONDS,
    streams: Annotated[
        int, typer.Option(help="How many connections send at once.", min=1, max=64)
    ] = STREAMS,
    history: Annotated[
        bool, typer.Option("--history", help="Measure nothing; show what was found so far.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Prove every data link: length, round trip, throughput (exit: 0 good, 1 bad, 2 unknown)."""
    try:
        path = history_path(read_inventory(inventory).fleet.name)
        earlier = proofs(path)
        if history:
            _show_history(earlier, json)
            return
        now = kept(path, _rows(inventory, seconds, streams))
    except StagefleetError as error:
        # 1 would say that links do not bring what they should.
        messages.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(_EXIT[Verdict.UNKNOWN]) from None
    before = earlier[-1] if earlier else None
    verdict = worst(now.rows)
    if json:
        print_json(
            {
                "verdict": verdict.value,
                "at": now.at,
                "rows": [row.model_dump(mode="json") for row in now.rows],
                "before": before.model_dump(mode="json") if before else None,
            }
        )
    else:
        _show(now, before)
    raise typer.Exit(_EXIT[verdict])


def _rows(inventory: Path, seconds: int, streams: int) -> list[Row]:
    """Return what the playbook has found.

    Raises:
        StagefleetError: it found nothing at all.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "links.json"
        arguments = ["-e", f"links_report={path}"]
        arguments += ["-e", f"links_seconds={seconds}", "-e", f"links_streams={streams}"]
        try:
            run_quietly("check_links", inventory, arguments, "checking links")
        except DeployError:
            # A host that could not be asked is in the report.
            if not path.exists():
                raise
        found = json_text.loads(path.read_text())
    return [Row.model_validate_json(json_text.dumps(row)) for row in found["rows"]]


def _show(now: Proof, before: Proof | None) -> None:
    table = Table(title=f"before: {before.at}" if before else None, title_justify="left")
    columns = ("", "from", "to", "network", "MTU", "round trip (ms)", "p99", "Gb/s", "at most")
    for column in columns:
        table.add_column(column)
    for row in now.rows:
        old = before.row(row.way.id) if before else None
        table.add_row(
            f"[{_COLOUR[row.verdict]}]{row.verdict.value}[/]",
            row.way.source,
            row.way.target,
            row.way.network,
            _pair(old, row, lambda one: one.passes, "{:d}"),
            _pair(old, row, lambda one: one.rtt_p50_ms, "{:.3f}"),
            _pair(old, row, lambda one: one.rtt_p99_ms, "{:.3f}"),
            _pair(old, row, lambda one: one.gbps, "{:.2f}"),
            f"{row.most_gbps:.2f}" if row.most_gbps else "?",
        )
    results.print(table)
    for row in now.rows:
        if row.cause:
            fault = f" (at fault: {row.at_fault})" if row.at_fault else ""
            text = f"{row.way.source} -> {row.way.target}: {row.cause}{fault}\n  -> {row.remedy}"
            results.print(text, markup=False, soft_wrap=True)
    tools = ", ".join(sorted({row.tool for row in now.rows if row.tool}))
    if tools:
        named = "a sender of our own, because a host lacks iperf3" if tools == "own" else tools
        results.print(f"measured with {named}", markup=False)


def _pair(
    old: Row | None, row: Row, value: Callable[[Row], float | int | None], layout: str
) -> str:
    """Return what was found, with what was found before in front of it."""
    new, was = value(row), value(old) if old else None
    shown = "-" if new is None else layout.format(new)
    return shown if was is None else f"{layout.format(was)} > {shown}"


def _show_history(found: tuple[Proof, ...], json: bool) -> None:
    if json:
        print_json({"proofs": [proof.model_dump(mode="json") for proof in found]})
        return
    table = Table()
    for column in ("at", "from", "to", "MTU", "round trip (ms)", "Gb/s", ""):
        table.add_column(column)
    for proof in found:
        for row in proof.rows:
            table.add_row(
                proof.at,
                row.way.source,
                row.way.target,
                "-" if row.passes is None else str(row.passes),
                "-" if row.rtt_p50_ms is None else f"{row.rtt_p50_ms:.3f}",
                "-" if row.gbps is None else f"{row.gbps:.2f}",
                f"[{_COLOUR[row.verdict]}]{row.verdict.value}[/] {row.at_fault}",
            )
    results.print(table)
