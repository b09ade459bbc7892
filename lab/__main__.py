"""`./fleet lab`: hosts to try everything on, before a real machine is touched."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from lab import build, fault, image
from lab.network import inside
from lab.place import Place, cache
from lab.ssh import operator_environment, ssh
from lab.topology import OPERATOR, topology
from runtime.cli import model
from runtime.cli.app import run_app
from runtime.cli.output import messages, print_json, results
from runtime.cli.project import ROOT
from runtime.spec.inventory import read_inventory

_INVENTORY = ROOT / "inventories" / "lab"
_NAME = "lab"

app = typer.Typer(
    name="./fleet lab",
    help="Real hosts on this machine: systemd, SSH, networks, NAT and faults. Needs root.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Inventory = Annotated[
    Path, typer.Option("--inventory", "-i", help="What to build: an Ansible inventory.")
]
WithMachines = Annotated[bool, typer.Option("--vm", help="Virtual machines too; they boot slowly.")]
Name = Annotated[
    str, typer.Option("--lab", envvar="STAGEFLEET_LAB", help="The lab: its fleet's name.")
]
HostName = Annotated[str, typer.Argument(help="A host of the lab.")]
Percent = Annotated[int, typer.Argument(help="Of a hundred packets.", min=1, max=100)]
Milliseconds = Annotated[int, typer.Argument(help="How much longer.", min=1, max=10_000)]
PortNumber = Annotated[int, typer.Argument(help="A TCP port.", min=1, max=65535)]


@app.command()
def prepare(inventory: Inventory = _INVENTORY, vm: WithMachines = False) -> None:
    """Install, download and make what "up" needs, so that it takes seconds."""
    build.prepare(topology(read_inventory(inventory)), _say, vm)


@app.command()
def up(
    inventory: Inventory = _INVENTORY,
    model_directory: Annotated[
        Path | None,
        typer.Option("--model", help="An imported model; default: the small sample model."),
    ] = None,
    vm: WithMachines = False,
) -> None:
    """Build the hosts of an inventory and boot them; does what is missing."""
    wanted = topology(read_inventory(inventory))
    if model_directory is None:
        model_directory = cache() / "models" / Path(wanted.model).name
        model.import_("sample", model_directory, dtype="float32")
    lab = build.up(wanted, model_directory.resolve(), _say, vm=vm)
    site = os.path.relpath(inventory)
    _say(
        "all hosts are up. Next:\n"
        f"  ./fleet lab run ./fleet deploy --inventory {site}\n"
        f'  ./fleet lab run ./fleet generate --inventory {site} --prompt "Once upon"\n'
        f"  ./fleet lab shell {lab.names[0]}"
    )


@app.command()
def down(
    name: Name = _NAME,
    everything: Annotated[
        bool, typer.Option("--cache", help="Remove the base image and the downloads too.")
    ] = False,
) -> None:
    """Switch every host off and remove the lab."""
    build.down(name)
    if everything:
        image.remove()


@app.command()
def status(
    name: Name = _NAME,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show the hosts, where they are reached, and what they are doing."""
    lab = build.load(name)
    rows: list[dict[str, str | int]] = []
    for host in lab.topology.hosts:
        state, memory = "off", 0
        if host.name in lab.names:
            machine = lab.host(host.name)
            state, memory = machine.state(), machine.memory_mib()
        rows.append(
            {
                "host": host.name,
                "kind": host.kind.value,
                "state": state,
                "ssh": "{}:{}".format(*host.seen_as),
                "addresses": ", ".join(f"{nic.interface} {nic.address}" for nic in host.nics),
                "memory_mib": memory,
            }
        )
    if json:
        print_json({"lab": name, "hosts": rows})
        return
    table = Table(title=f"lab {name}", title_justify="left")
    for column in ("host", "kind", "state", "ssh", "addresses", "memory (MiB)"):
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(cell).replace(", ", "\n") for cell in row.values()))
    results.print(table)


@app.command()
def shell(
    host: Annotated[
        str, typer.Argument(help=f"A host; '{OPERATOR}' is where playbooks run.")
    ] = OPERATOR,
    name: Name = _NAME,
) -> None:
    """Log in to a host over SSH, or to the place from which hosts can be reached."""
    place = build.load(name).place
    if host == OPERATOR:
        command = inside(place, OPERATOR, os.environ.get("SHELL", "/bin/bash"))
    else:
        command = ssh(place, build.load(name).topology.host(host).name)
    _become(command, place)


@app.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def run(
    command: Annotated[list[str], typer.Argument(help="A command and its arguments.")],
    name: Name = _NAME,
) -> None:
    """Run a command where the hosts can be reached, such as ./fleet deploy or ssh."""
    place = build.load(name).place
    _become(inside(place, OPERATOR, *command), place)


@app.command()
def boot(host: HostName, name: Name = _NAME) -> None:
    """Switch a host on, and wait until one can log in."""
    build.load(name).boot([host])


@app.command()
def stop(host: HostName, name: Name = _NAME) -> None:
    """Shut a host down in good order."""
    build.load(name).host(host).stop()


@app.command()
def kill(host: HostName, name: Name = _NAME) -> None:
    """Cut a host's power."""
    build.load(name).host(host).kill()


@app.command()
def pause(host: HostName, name: Name = _NAME) -> None:
    """Freeze a host: its connections stay open, and nothing answers."""
    build.load(name).host(host).pause()


@app.command()
def resume(host: HostName, name: Name = _NAME) -> None:
    """Let a frozen host go on."""
    build.load(name).host(host).resume()


@app.command()
def cut(host: HostName, name: Name = _NAME) -> None:
    """Take a host's links away."""
    fault.cut(build.load(name).host(host))


@app.command()
def drop(host: HostName, percent: Percent, name: Name = _NAME) -> None:
    """Lose a share of a host's packets."""
    fault.drop(build.load(name).host(host), percent)


@app.command()
def delay(host: HostName, milliseconds: Milliseconds, name: Name = _NAME) -> None:
    """Let a host's packets take longer, each way."""
    fault.delay(build.load(name).host(host), milliseconds)


@app.command()
def heal(host: HostName, name: Name = _NAME) -> None:
    """Undo cut, drop and delay."""
    fault.heal(build.load(name).host(host))


@app.command()
def fill(
    host: HostName,
    leave_mib: Annotated[int, typer.Option(help="How much stays free at least.", min=0)] = 0,
    name: Name = _NAME,
) -> None:
    """Fill a host's disk; "empty" undoes it."""
    fault.fill(build.load(name).host(host), leave_mib)


@app.command()
def empty(host: HostName, name: Name = _NAME) -> None:
    """Undo fill."""
    fault.empty(build.load(name).host(host))


@app.command()
def take_port(host: HostName, port: PortNumber, name: Name = _NAME) -> None:
    """Let another program of a host listen on a port; "release-port" undoes it."""
    fault.take_port(build.load(name).host(host), port)


@app.command()
def release_port(host: HostName, port: PortNumber, name: Name = _NAME) -> None:
    """Undo take-port."""
    fault.release_port(build.load(name).host(host), port)


@app.command()
def corrupt(
    host: HostName,
    path: Annotated[str, typer.Argument(help="A file of the host.")],
    name: Name = _NAME,
) -> None:
    """Change a byte in the middle of a file; nothing undoes it."""
    fault.corrupt(build.load(name).host(host), path)


def _say(text: str) -> None:
    messages.print(f"lab: {text}", soft_wrap=True, markup=False)


def _become(command: list[str], place: Place) -> None:
    """Replace this process by a command, in the operator's environment."""
    sys.stdout.flush()
    os.execvpe(command[0], command, os.environ | operator_environment(place))


if __name__ == "__main__":
    run_app(app)
