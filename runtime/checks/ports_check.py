"""The check of all ports: what each host is asked to do for it, and what its answers come to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from runtime.checks.ports_report import Seen, Verdict, lines, report, seen, worst
from runtime.spec.base import Address, Port
from runtime.spec.fleet import Fleet
from runtime.spec.probes import OPERATOR, Probe, listeners, probes
from runtime.spec.services import SSH

PROGRAM: Final = Path(__file__).with_name("probe.py")
# For as long as the slowest host of a large fleet may take to dial.
_LISTEN_SECONDS: Final = 300

Connections = Mapping[str, tuple[str, int]]


def requests(fleet: Fleet, connections: Connections) -> dict[str, Any]:
    """Return the requests to `probe.py`: for each host what to listen on and dial.

    Args:
        fleet: the fleet.
        connections: for each host, the address and the port that SSH connects to; port 0 stands
            for the usual one.
    """
    tried = _probes(fleet, connections)
    return {
        "program": str(PROGRAM),
        "listen": {
            name: {
                "name": name,
                "seconds": _LISTEN_SECONDS,
                "listen": [each.model_dump(mode="json") for each in found],
            }
            for name, found in listeners(fleet).items()
        },
        "dial": {name: {"dial": _dial(tried, name)} for name in fleet.hosts},
        "operator": {"dial": _dial(tried, OPERATOR)},
    }


def outcome(
    fleet: Fleet, connections: Connections, facts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the report: as lines for people, as data, and the problem if there is one.

    Args:
        fleet: the fleet.
        connections: as for `requests`.
        facts: by host, what `probe.py` has printed: "listening" of the first run, "dialled" of the
            second; "localhost" for the operator. A host that could not be asked has neither.
    """
    found = {
        OPERATOR if name == "localhost" else name: _merged(each)
        for name, each in facts.items()
        if "dialled" in each
    }
    rows = report(fleet, _probes(fleet, connections), found)
    verdict = worst(rows)
    bad = [row for row in rows if row.verdict is not Verdict.OK]
    return {
        "lines": lines(rows),
        "problem": "\n".join(lines(bad)),
        "report": {
            "fleet": fleet.name,
            "verdict": verdict.value,
            "rows": [row.model_dump(mode="json") for row in rows],
        },
    }


def _merged(facts: Mapping[str, Any]) -> Seen:
    first, second = seen(facts.get("listening", {})), seen(facts["dialled"])
    return first.model_copy(update={"dialled": second.dialled})


def _probes(fleet: Fleet, connections: Connections) -> tuple[Probe, ...]:
    ways: dict[str, tuple[Address, Port]] = {}
    for name in fleet.hosts:
        address, port = connections.get(name, (name, 0))
        ways[name] = (address, port or SSH.port)
    return probes(fleet, ways)


def _dial(tried: tuple[Probe, ...], source: str) -> list[dict[str, Any]]:
    return [
        {
            "id": probe.id,
            "protocol": probe.protocol,
            "address": probe.address,
            "port": probe.dialled,
        }
        for probe in tried
        if probe.source == source
    ]
