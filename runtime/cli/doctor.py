"""`stagefleet doctor`: what is wrong with the hosts and with what runs there, with evidence."""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from runtime.checks.doctor.finding import EXIT_CODES, Report, Verdict, worst
from runtime.cli.options import DEFAULT_INVENTORY, InventoryPath
from runtime.cli.output import messages, print_json, results
from runtime.cli.playbook_progress import run_quietly
from runtime.errors import DeployError, StagefleetError

_COLOUR = {
    Verdict.OK: "green",
    Verdict.SKIPPED: "dim",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "red",
}


def doctor(
    inventory: InventoryPath = DEFAULT_INVENTORY,
    host: Annotated[
        list[str] | None, typer.Option(help="Only what is about this host; may be repeated.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show what is as it should be, too.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Examine the hosts, and what runs there (exit: 0 all is well, 1 warnings, 2 failures).

    It changes nothing. Every finding has its evidence, and a remedy where one is needed.
    """
    try:
        report = examined(inventory)
    except StagefleetError as error:
        messages.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_CODES[Verdict.FAIL]) from None
    if host:
        report = _about(report, host)
    if json:
        print_json(report)
    else:
        show(report, everything=everything)
    raise typer.Exit(EXIT_CODES[report.verdict])


def examined(inventory: Path) -> Report:
    """Return what playbooks/doctor.yml has found.

    Raises:
        StagefleetError: it found nothing at all.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "report.json"
        try:
            run_quietly("doctor", inventory, ["-e", f"doctor_report_to={path}"], "examining")
        except DeployError:
            # A host that could not be asked is in the report.
            if not path.exists():
                raise
        return Report.model_validate_json(path.read_text(encoding="utf-8"))


def _about(report: Report, hosts: list[str]) -> Report:
    found = tuple(each for each in report.findings if each.host in hosts)
    changes = tuple(each for each in report.changes if each.host in hosts)
    return report.model_copy(
        update={"findings": found, "changes": changes, "verdict": worst(found)}
    )


def show(report: Report, *, everything: bool = False) -> None:
    """Print a report: what is wrong, the counts, and what changed."""
    table = Table()
    for column in ("", "host", "check", "about", "evidence"):
        table.add_column(column)
    quiet = (Verdict.OK, Verdict.SKIPPED)
    shown = [each for each in report.findings if everything or each.verdict not in quiet]
    for each in shown:
        verdict = f"[{_COLOUR[each.verdict]}]{each.verdict.value}[/]"
        remedy = f"\n-> {each.remedy}" if each.remedy else ""
        evidence = f"{each.evidence}{remedy}".replace("[", "\\[")
        table.add_row(verdict, each.host, each.check, each.about, evidence)
    if shown:
        results.print(table)
    counts = {
        verdict: sum(each.verdict is verdict for each in report.findings) for verdict in Verdict
    }
    results.print(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    if report.compared_with is not None:
        _show_changes(report, report.compared_with)


def _show_changes(report: Report, since: float) -> None:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(since))
    if not report.changes:
        results.print(f"nothing has changed since {when}")
        return
    results.print(f"since {when}:")
    for each in report.changes:
        what = " ".join(part for part in (each.host, each.check, each.about) if part)
        results.print(
            f"  {what}: {each.before or 'not there'} -> {each.now or 'not there'}", markup=False
        )
