"""The command line: which verbs there are, and what an error looks like."""

import sys
from typing import Annotated

import click
import typer

from runtime import __version__
from runtime.cli import (
    authority,
    balance,
    cuda,
    demo,
    deploy,
    development,
    doctor,
    generate,
    identity,
    links,
    model,
    ports,
    reference,
    schema,
    serve,
    swarm,
    targets,
    windows,
)
from runtime.cli.output import messages
from runtime.errors import StagefleetError

app = typer.Typer(
    name="stagefleet",
    help="One inventory in, a working GPU fleet out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(deploy.plan)
app.command()(deploy.deploy)
app.command()(deploy.service)
app.command()(deploy.firewall)
app.command()(deploy.shares)
app.command()(cuda.cuda)
app.command()(windows.windows)
app.command()(deploy.destroy)
app.command()(ports.check_ports)
app.command()(doctor.doctor)
app.command()(links.network)
app.command()(links.check_links)
app.command()(balance.simulate_balance)
app.command()(generate.generate)
app.command()(generate.chat)
app.command()(swarm.swarm)
app.command()(targets.targets)
app.add_typer(model.app, name="model")
app.add_typer(identity.app, name="identity")
app.add_typer(authority.app, name="authority")
# The flags of `serve` are made from its configuration class, so it reads its arguments itself.
app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(serve.serve)
app.command()(serve.check_config)
app.command()(serve.health)
app.command()(schema.schema)
app.command(hidden=True)(reference.reference)
_PASSED_ON = {"ignore_unknown_options": True}
app.command("test", context_settings=_PASSED_ON)(development.run_tests)
app.command("benchmark", context_settings=_PASSED_ON)(development.run_benchmark)
# Their verbs are their own, and so is what --help says about them.
app.command("lab", add_help_option=False, context_settings=_PASSED_ON)(development.run_lab)
app.command("cloud", add_help_option=False, context_settings=_PASSED_ON)(development.run_cloud)

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the `stagefleet` command."""
    run_app(app)


def run_app(application: typer.Typer) -> None:
    """Run a command line; an error an operator can act on ends with 1 and its hint."""
    try:
        # Not the file's name, which is that of a module where `python -m` runs it.
        application(prog_name=application.info.name)
    except StagefleetError as error:
        messages.print(f"[red]error:[/] {click.unstyle(str(error))}", markup=True, soft_wrap=True)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
