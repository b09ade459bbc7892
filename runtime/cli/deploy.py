"""`stagefleet deploy`, `plan`, `service`, `firewall`, `shares`: the playbooks, by their verbs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from runtime.checks.doctor.finding import EXIT_CODES, Verdict
from runtime.cli.cuda import AllowReboot, rebooting
from runtime.cli.doctor import examined, show
from runtime.cli.options import DEFAULT_INVENTORY, InventoryPath
from runtime.cli.output import messages, print_json, results
from runtime.cli.project import run_playbook
from runtime.errors import SpecError
from runtime.spec.flows import flows
from runtime.spec.inventory import read_inventory
from runtime.spec.paths import authority_path
from runtime.spec.server import Stage

Limit = Annotated[str | None, typer.Option(help="Only these hosts, in Ansible's patterns.")]
Check = Annotated[bool, typer.Option("--check", help="Change nothing; show what would change.")]
AllowPublic = Annotated[
    bool,
    typer.Option("--allow-public", help="Open what the inventory says is open to the world."),
]


class Verb(StrEnum):
    """What can be done with a service."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    STATUS = "status"
    LOGS = "logs"


def deploy(
    inventory: InventoryPath = DEFAULT_INVENTORY,
    check: Check = False,
    allow_public: AllowPublic = False,
    ignore_preflight: Annotated[
        bool,
        typer.Option("--ignore-preflight", help="Begin even where the preflight finds failures."),
    ] = False,
    examine: Annotated[
        bool,
        typer.Option(
            "--examine/--no-examine",
            help="Afterwards, do what ./fleet doctor does; never with --check or --limit.",
        ),
    ] = True,
    allow_reboot: AllowReboot = False,
    limit: Limit = None,
) -> None:
    """Bring every host to what the inventory says: playbooks/site.yml.

    It looks at the hosts first, and refuses to begin where something fails.
    """
    ignoring = ["-e", "preflight_ignore=true"] if ignore_preflight else []
    allowed = _changing(check, allow_public) + rebooting(allow_reboot)
    run_playbook("site", inventory, allowed + ignoring + _limited(limit))
    if examine and not check and limit is None:
        report = examined(inventory)
        show(report)
        # That it could be better is no failure of the deployment.
        raise typer.Exit(EXIT_CODES[report.verdict] if report.verdict is Verdict.FAIL else 0)


def firewall(
    inventory: InventoryPath = DEFAULT_INVENTORY,
    check: Check = False,
    allow_public: AllowPublic = False,
    limit: Limit = None,
) -> None:
    """Let in what the fleet needs, and nothing else: playbooks/firewall.yml.

    A change that locks you out undoes itself within a minute.
    """
    run_playbook("firewall", inventory, _changing(check, allow_public) + _limited(limit))


def shares(
    inventory: InventoryPath = DEFAULT_INVENTORY,
    check: Check = False,
    limit: Limit = None,
) -> None:
    """Share directories with the hosts that the inventory names: playbooks/shares.yml."""
    run_playbook("shares", inventory, _changing(check, allow_public=False) + _limited(limit))


def service(
    verb: Annotated[Verb, typer.Argument(help="What to do.")],
    inventory: InventoryPath = DEFAULT_INVENTORY,
    stage: Annotated[int | None, typer.Option(help="One stage; default: all.", min=0)] = None,
    server: Annotated[
        int | None,
        typer.Option(help="Of servers that choose their blocks: this one of each host.", min=1),
    ] = None,
    limit: Limit = None,
) -> None:
    """Start, stop, restart or look at the stages' services: playbooks/service.yml."""
    arguments = ["-e", f"service_verb={verb.value}"]
    if stage is not None and server is not None:
        raise SpecError("--stage and --server name two services", hint="give one of them")
    if stage is not None:
        arguments += ["-e", f"service_stage={stage}"]
    if server is not None:
        arguments += ["-e", f"service_stage=server-{server}"]
    run_playbook("service", inventory, arguments + _limited(limit))


def destroy(
    inventory: InventoryPath,
    fleet: Annotated[
        str | None, typer.Option(help="The fleet's name, instead of being asked for it.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Remove nothing; show what would be removed.")
    ] = False,
    limit: Limit = None,
) -> None:
    """Remove the fleet from its hosts: playbooks/destroy.yml. Models and the authority stay."""
    arguments = ["--check"] if check else []
    arguments += ["-e", f"destroy_fleet={fleet}"] if fleet is not None else []
    run_playbook("destroy", inventory, arguments + _limited(limit))


def plan(
    inventory: InventoryPath = DEFAULT_INVENTORY,
    json: Annotated[bool, typer.Option("--json", help="Print fleet and flows as JSON.")] = False,
) -> None:
    """Check an inventory and show what would be where; contacts no host."""
    read = read_inventory(inventory)
    fleet = read.fleet
    for notice in read.notices:
        messages.print(f"note: {notice}", style="yellow", markup=False, soft_wrap=True)
    if json:
        found = [flow.model_dump(mode="json") for flow in flows(fleet)]
        print_json({"fleet": fleet.model_dump(mode="json"), "flows": found})
        return
    table = Table(title=f"fleet {fleet.name}: {fleet.model.path}", title_justify="left")
    for column in ("stage", "blocks", "host", "dht", "rpc", "public", "device"):
        table.add_column(column)
    for stage in fleet.stages:
        public = fleet.hosts[stage.host].public_ip
        mapped = (stage.public_dht_port or stage.dht_port, stage.public_rpc_port or stage.rpc_port)
        table.add_row(
            str(stage.stage) if stage.span is not None else stage.title,
            _blocks(stage),
            stage.host,
            str(stage.dht_port),
            str(stage.rpc_port),
            f"{public} {mapped[0]}, {mapped[1]}" if public else "",
            stage.device,
        )
    results.print(table)
    results.print(f"authority: {Path(authority_path(fleet)).expanduser()}", markup=False)


def _blocks(stage: Stage) -> str:
    if stage.span is None:
        return f"{stage.num_blocks} of its choice"
    return str(stage.span) if stage.span else "none"


def _changing(check: bool, allow_public: bool) -> list[str]:
    arguments = ["--check", "--diff"] if check else []
    return [*arguments, *(["-e", "firewall_allow_public=true"] if allow_public else [])]


def _limited(limit: str | None) -> list[str]:
    return ["--limit", limit] if limit else []
