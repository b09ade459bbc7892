"""The pages of docs/reference that are written by the code they describe."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.checks.doctor import catalogue as checks
from runtime.checks.doctor.finding import Report
from runtime.cli.output import messages
from runtime.cli.project import ROOT
from runtime.cli.schema import DIALECT, Kind, schema_of
from runtime.errors import DeployError
from runtime.spec.services import CATALOGUE, Place, Service, stage_port
from runtime.swarm.report import SwarmReport

_REFERENCE = ROOT / "docs" / "reference"
_MADE = "<!-- Made by `stagefleet reference`; change the code it describes instead. -->"
_SHOWN_STAGES = range(5)


def reference(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a page is not up to date.")
    ] = False,
) -> None:
    """Write the generated pages of docs/reference (for those who change stagefleet itself)."""
    stale = [path for path, text in pages().items() if _differs(path, text)]
    if check and stale:
        raise DeployError(
            "not up to date: " + ", ".join(path.name for path in stale),
            hint="run: ./fleet reference",
        )
    for path in stale:
        path.write_text(pages()[path], encoding="utf-8")
        messages.print(f"wrote {path}")


def pages() -> dict[Path, str]:
    """Return the text of every generated page."""
    found = {
        _REFERENCE / f"{kind.value}.schema.json": json.dumps(schema_of(kind), indent=2) + "\n"
        for kind in Kind
    }
    report = SwarmReport.model_json_schema(mode="serialization")
    found[_REFERENCE / "swarm.schema.json"] = json.dumps({"$schema": DIALECT, **report}, indent=2)
    found[_REFERENCE / "swarm.schema.json"] += "\n"
    found[_REFERENCE / "ports.md"] = "\n".join(_ports()) + "\n"
    found[_REFERENCE / "checks.md"] = "\n".join(_checks()) + "\n"
    doctor = Report.model_json_schema(mode="serialization")
    text = json.dumps({"$schema": DIALECT, **doctor}, indent=2)
    found[_REFERENCE / "doctor.schema.json"] = f"{text}\n"
    found[_REFERENCE / "inventory.md"] = "\n".join(_inventory()) + "\n"
    return found


def _differs(path: Path, text: str) -> bool:
    return not path.exists() or path.read_text(encoding="utf-8") != text


def _ports() -> Iterator[str]:
    yield from ("# Ports", "", _MADE, "")
    yield "Every listening socket, its default port, and the only ones who may reach it."
    yield "An inventory may change each of them per host; everything else follows by itself."
    yield "Of servers that choose their blocks, the n-th of a host takes the ports of stage n."
    yield from ("", "| service | port | runs on | reached from |", "|---|---|---|---|")
    for service in CATALOGUE:
        for where, port in _places(service):
            row = (service.name, f"{port}/{service.protocol}", where, service.reached_from)
            yield f"| {' | '.join(row)} |"


def _checks() -> Iterator[str]:
    yield from ("# The doctor's checks", "", _MADE, "")
    yield "What `./fleet doctor` looks at, and when a finding warns or fails; every other"
    yield "one is `ok`, or `skipped` with the reason. Those marked *before* are made ahead of every"
    yield "deployment too ([how](../how-to/examine-a-fleet.md))."
    yield from ("", "| check | before | looks at | warns | fails |", "|---|---|---|---|---|")
    for check in checks.CATALOGUE:
        row = (
            *(f"`{check.id}`", "yes" if check.before else "", check.looks_at),
            *(check.warns, check.fails),
        )
        yield f"| {' | '.join(row)} |"


def _places(service: Service) -> Iterator[tuple[str, int]]:
    if service.runs_on is Place.EVERY_STAGE:
        for stage in _SHOWN_STAGES:
            yield f"stage {stage}", stage_port(service, stage)
    else:
        yield service.runs_on.value, service.port


def _inventory() -> Iterator[str]:
    yield from ("# The inventory's keys", "", _MADE, "")
    yield "Two variables describe a fleet: `fleet`, in `group_vars/all/fleet.yml`, and, for each"
    yield "host, `fleet_host`. Both are plain data. An unknown key is refused, and the nearest"
    yield "known one is named. A Windows machine, which is no host itself, has `fleet_windows`."
    for kind in (Kind.FLEET, Kind.HOST, Kind.WINDOWS):
        schema = schema_of(kind)
        (name,) = schema["properties"]
        yield from (
            "",
            f"## `{name}`",
            "",
            "| key | takes | default | meaning |",
            "|---|---|---|---|",
        )
        yield from _rows(schema["properties"][name], schema["$defs"], "")


def _rows(schema: dict[str, Any], known: dict[str, Any], prefix: str) -> Iterator[str]:
    schema = _resolved(schema, known)
    for key, field in schema["properties"].items():
        inner = _resolved(field, known)
        items = inner.get("items", {})
        objects = [one for one in items.get("anyOf", [items]) if "$ref" in one]
        default = "required" if key in schema.get("required", []) else _shown(field.get("default"))
        meaning = field.get("description", "").replace("|", "\\|")
        yield f"| `{prefix}{key}` | {_kind(field, known)} | {default} | {meaning} |"
        if "properties" in inner:
            yield from _rows(inner, known, f"{prefix}{key}.")
        for one in objects:
            yield from _rows(one, known, f"{prefix}{key}[].")
        # A mapping by names of the operator's own, of records that say themselves what they are.
        for by_name in inner.get("patternProperties", {}).values():
            for one in by_name.get("oneOf", ()):
                tag = _tag(one, by_name["discriminator"])
                yield from _rows(one, known, f"{prefix}{key}.<{tag}>.")


def _resolved(schema: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    given = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if len(given) == 1:
        return _resolved(given[0], known)
    if "$ref" in schema:
        found: dict[str, Any] = known[schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _tag(one: dict[str, Any], discriminator: dict[str, Any]) -> str:
    """Return the value by which a record of a union is known."""
    return next(str(tag) for tag, ref in discriminator["mapping"].items() if ref == one["$ref"])


def _kind(field: dict[str, Any], known: dict[str, Any]) -> str:
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        kinds = [_kind(one, known) for one in field["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    field = _resolved(field, known)
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}), known)}"
    kind = str(field.get("type", "anything"))
    return {"object": "keys", "string": "text", "boolean": "true, false"}.get(kind, kind)


def _shown(value: object) -> str:
    if value is None or value == [] or isinstance(value, dict):
        return ""
    return f"`{json.dumps(value)}`"
