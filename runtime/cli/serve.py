"""`stagefleet serve`, `check-config` and `health`: what units and plays run on a host."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from runtime.cli.output import print_json, results
from runtime.errors import ConfigError
from runtime.spec.base import words
from runtime.spec.stage import AUTO, StageConfig

_CONFIG = "--config"


class _Flags(StageConfig, BaseSettings):
    """One server of a pipeline; --config FILE reads all of this from a JSON file instead."""

    model_config = SettingsConfigDict(
        # Everything on a command line is text.
        strict=False,
        cli_prog_name="stagefleet serve",
        cli_implicit_flags=True,
        cli_kebab_case=False,
        cli_use_class_docs_for_groups=True,
        cli_hide_none_type=True,
        cli_enforce_required=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take flags only: a server's behaviour does not depend on a stray variable."""
        return (init_settings,)


def serve(context: typer.Context) -> None:
    """Run one server. `serve --help` lists its flags; `--config FILE` reads them from JSON."""
    config, path = _config(context.args)
    log_to_stderr()
    from runtime.checks.config import checked
    from runtime.checks.ports import refuse_taken_ports

    ready = checked(config, path)
    refuse_taken_ports(config)
    # Threads that have no work sleep. By default they spin, on cores that the next stage, or
    # anything else on this host, needs at that moment (docs/decisions/0011-threads-sleep.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # torch, transformers and hivemind take seconds to import; whatever can fail has failed before.
    import uvloop

    from runtime.stage.process import Server

    uvloop.run(Server(ready).run())


def check_config(
    path: Annotated[Path, typer.Argument(help="A stage's JSON configuration.")],
) -> None:
    """Check a configuration as the server would; end with 1 and the reason if it is refused."""
    from runtime.checks.config import checked, read_config

    found = checked(read_config(path))
    wanted = found.config.num_blocks
    count = "as many blocks as its memory holds" if wanted == AUTO else f"{wanted} blocks"
    chosen = f"{count} of its own choice"
    blocks = chosen if found.span is None else f"blocks {found.span}"
    results.print(f"stage {found.config.stage} serves {blocks} of {found.manifest.name}")


def health(
    path: Annotated[Path, typer.Option(_CONFIG, help="A stage's JSON configuration.")],
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 10,
    pipeline: Annotated[
        bool, typer.Option("--pipeline", help="At stage 0: require that every block is served.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the status as JSON.")] = False,
) -> None:
    """Ask this host's running server how it is; end with 1 and the reason if it is not well."""
    import msgspec
    import uvloop

    from runtime.checks.config import checked, read_config
    from runtime.stage.health import require_pipeline, status_of

    found = checked(read_config(path))
    status = uvloop.run(status_of(found, timeout))
    if pipeline:
        require_pipeline(found, timeout)
    if json:
        print_json(msgspec.structs.asdict(status))
    else:
        results.print(f"{status.state}, {status.sessions} sessions")


def log_to_stderr() -> None:
    """Send the program's log to standard error, with colours only on a terminal."""
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _config(arguments: list[str]) -> tuple[StageConfig, Path | None]:
    """Return the configuration, and the file that it comes from, if it comes from one."""
    if arguments[:1] == [_CONFIG]:
        from runtime.checks.config import read_config

        if len(arguments) != 2:
            raise ConfigError(f"{_CONFIG} takes one file and no other flag beside it")
        path = Path(arguments[1])
        return read_config(path), path
    try:
        flags = CliApp.run(_Flags, cli_args=arguments)
    except ValidationError as error:
        raise ConfigError(str(words(error, StageConfig, "flags"))) from error
    return flags, None
