"""`stagefleet check-ports`: who gets in where, and whether that is what is declared."""

import json as json_text
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from runtime.checks.ports_report import Row, Verdict, worst
from runtime.cli.options import DEFAULT_INVENTORY, InventoryPath
from runtime.cli.output import messages, print_json, results
from runtime.cli.playbook_progress import run_quietly
from runtime.errors import DeployError, StagefleetError

_EXIT = {Verdict.OK: 0, Verdict.MISMATCH: 1, Verdict.UNKNOWN: 2}
_COLOUR = {Verdict.OK: "green", Verdict.MISMATCH: "red", Verdict.UNKNOWN: "yellow"}


def check_ports(
    inventory: InventoryPath = DEFAULT_INVENTORY,
    host: Annotated[
        list[str] | None, typer.Option(help="Only the ports of this host; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Prove every port: declared, listening, reachable (exit: 0 yes, 1 no, 2 cannot tell)."""
    try:
        rows = _rows(inventory)
    except StagefleetError as error:
        # 1 would say that ports are not as they are declared.
        messages.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(_EXIT[Verdict.UNKNOWN]) from None
    rows = [row for row in rows if not host or row.host in host]
    verdict = worst(rows) if rows else Verdict.UNKNOWN
    if json:
        print_json(
            {"verdict": verdict.value, "rows": [row.model_dump(mode="json") for row in rows]}
        )
    else:
        _show(rows)
    raise typer.Exit(_EXIT[verdict])


def _rows(inventory: Path) -> list[Row]:
    """Return what the playbook has found.

    Raises:
        StagefleetError: it found nothing at all.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ports.json"
        try:
            run_quietly("check_ports", inventory, ["-e", f"ports_report={path}"], "checking ports")
        except DeployError:
            # A host that could not be asked is in the report.
            if not path.exists():
                raise
        found = json_text.loads(path.read_text())
    return [Row.model_validate_json(json_text.dumps(row)) for row in found["rows"]]


def _show(rows: list[Row]) -> None:
    table = Table()
    for column in ("", "host", "service", "port", "listening", "get in", "kept out"):
        table.add_column(column)
    for row in rows:
        public = f"\n{row.public_port} outside" if row.public_port else ""
        table.add_row(
            f"[{_COLOUR[row.verdict]}]{row.verdict.value}[/]",
            row.host,
            row.purpose,
            f"{row.port}/{row.protocol}{public}",
            row.listening or "nobody",
            _count(row, expected=True),
            _count(row, expected=False),
        )
    results.print(table)
    for row in rows:
        if row.cause:
            where = f"{row.host} {row.purpose}"
            results.print(f"{where}: {row.cause}\n  -> {row.remedy}", markup=False, soft_wrap=True)


def _count(row: Row, expected: bool) -> str:
    """Return of how many sources it is true: of the declared ones, or of the others."""
    tried = [each for each in row.tries if each.probe.expected is expected]
    good = [each for each in tried if each.verdict is Verdict.OK]
    if not tried:
        return "-"
    return f"[{_COLOUR[worst(tried)]}]{len(good)} of {len(tried)}[/]"
