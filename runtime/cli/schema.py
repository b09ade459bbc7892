"""`stagefleet schema`: JSON Schema of what operators write, so that editors can check it."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from runtime.cli.output import print_json
from runtime.spec.base import Frozen
from runtime.spec.fleet import Site
from runtime.spec.host import Host
from runtime.spec.inventory import HOST_VARIABLE, SITE_VARIABLE, WINDOWS_VARIABLE
from runtime.spec.stage import StageConfig
from runtime.spec.windows import Windows

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Kind(StrEnum):
    """The files that have a schema."""

    FLEET = "fleet"
    HOST = "host"
    WINDOWS = "windows"
    STAGE = "stage"


def schema(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="fleet: group_vars/all/fleet.yml; host, windows: host_vars; stage: a server's."
        ),
    ] = Kind.FLEET,
) -> None:
    """Print the JSON Schema of a file, for editors."""
    print_json(schema_of(kind))


_VARIABLES: dict[Kind, tuple[str, type[Frozen]]] = {
    Kind.FLEET: (SITE_VARIABLE, Site),
    Kind.HOST: (HOST_VARIABLE, Host),
    Kind.WINDOWS: (WINDOWS_VARIABLE, Windows),
}


def schema_of(kind: Kind) -> dict[str, Any]:
    """Return the JSON Schema of a kind of file."""
    if kind is Kind.STAGE:
        found = StageConfig.model_json_schema()
    else:
        # The file has one key, the inventory's variable.
        variable, model = _VARIABLES[kind]
        inner = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions = inner.pop("$defs", {}) | {model.__name__: inner}
        found = {
            "type": "object",
            "properties": {variable: {"$ref": f"#/$defs/{model.__name__}"}},
            "required": [variable],
            "$defs": definitions,
        }
    return {"$schema": DIALECT, **found}
