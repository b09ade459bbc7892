"""The proof of all links: what each host is asked to do for it, and what its answers come to."""

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from runtime.checks.link_report import End, Verdict, Way, lines, report, worst
from runtime.spec.fleet import Fleet
from runtime.spec.network.plan import LinkPlan, network_plans

PROGRAM: Final = Path(__file__).with_name("link_probe.py")
SECONDS: Final = 5
"""How long each direction sends, in seconds: slow start is over after a tenth of the first."""
STREAMS: Final = 4
# All sending of one host has to end before its run is given up.
_MOST_SECONDS: Final = 80
# For as long as all hosts of a large fleet may take, one after the other.
_RECEIVE_SECONDS: Final = 1800
# Where a network says no MTU, what its interface has is not exceeded by anybody.
_JUMBO: Final = 9000


def ways(fleet: Fleet) -> tuple[Way, ...]:
    """Return every direction of every link of a fleet, host by host."""
    plans = network_plans(fleet)
    at = {
        (name, link.address.partition("/")[0]): link
        for name, plan in plans.items()
        for link in plan.links
    }
    return tuple(
        _way(name, link, peer.host, at[peer.host, peer.address])
        for name, plan in plans.items()
        for link in plan.links
        for peer in link.peers
    )


def _way(source: str, here: LinkPlan, target: str, there: LinkPlan) -> Way:
    own, far = (each.address.partition("/")[0] for each in (here, there))
    return Way(
        id=f"{source} {here.interface} {target} {there.interface}",
        source=source,
        target=target,
        network=here.network,
        source_interface=here.interface,
        target_interface=there.interface,
        source_address=own,
        target_address=far,
        mtu=here.mtu,
        speed_gbps=here.speed_gbps,
        version=ipaddress.ip_address(own).version,
    )


def requests(
    fleet: Fleet, looked: Mapping[str, Mapping[str, Any]], seconds: int, streams: int
) -> dict[str, Any]:
    """Return the requests to `link_probe.py`, by host.

    Args:
        fleet: the fleet.
        looked: what the request "look" has brought, by host; before that nothing. By it, the tool
            is chosen: iperf3 where every host has it, a sender of our own otherwise.
        seconds: how long each direction sends; 0: nothing is measured with TCP.
        streams: how many connections at once.
    """
    found = ways(fleet)
    interfaces = {
        name: sorted({each.source_interface for each in found if each.source == name})
        for name in fleet.hosts
    }
    tool = tool_of(looked)
    return {
        "program": str(PROGRAM),
        "problem": "" if found else _no_links(fleet),
        "look": {name: {"look": each} for name, each in interfaces.items()},
        "receive": {
            name: {"receive": _receiver(fleet, name, found, tool)} if interfaces[name] else {}
            for name in fleet.hosts
        },
        "send": {
            name: {
                "send": list(_sends(fleet, name, found, tool, seconds, streams)),
            }
            for name in fleet.hosts
        },
    }


def tool_of(looked: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what measures: one tool for all, so that its numbers can be compared."""
    return "iperf3" if looked and all(each.get("iperf3") for each in looked.values()) else "own"


def _no_links(fleet: Fleet) -> str:
    linked = [name for name, host in fleet.hosts.items() if host.links]
    if not linked:
        return (
            "no host of the inventory has links: describe them with fleet_host.links "
            "(docs/how-to/tune-links.md)"
        )
    return f"{', '.join(linked)} has links, but no other host is on their networks"


def _receiver(fleet: Fleet, host: str, found: tuple[Way, ...], tool: str) -> dict[str, Any]:
    own = sorted({each.source_address for each in found if each.source == host})
    return {
        # Of a host with several links, all of them.
        "address": own[0] if len(own) == 1 else "0.0.0.0",  # noqa: S104 - its firewall guards it
        "port": fleet.hosts[host].ports.proof,
        "tool": tool,
        "seconds": _RECEIVE_SECONDS,
    }


def _sends(
    fleet: Fleet, host: str, found: tuple[Way, ...], tool: str, seconds: int, streams: int
) -> Iterator[dict[str, Any]]:
    own = [each for each in found if each.source == host]
    for each in own:
        yield {
            "id": each.id,
            "address": each.target_address,
            "source": each.source_address,
            "port": fleet.hosts[each.target].ports.proof,
            "mtu": each.mtu or _JUMBO,
            "seconds": min(seconds, max(1, _MOST_SECONDS // len(own))) if seconds else 0,
            "streams": streams,
            "tool": tool,
        }


def outcome(fleet: Fleet, facts: Mapping[str, Mapping[str, Any]], seconds: int) -> dict[str, Any]:
    """Return the report: as lines for people, as data, and the problem if there is one.

    Args:
        fleet: the fleet.
        facts: by host, what `link_probe.py` has printed: "looked", "receiving", "sent" and "ended",
            the last of which is a second look; a host that could not be asked lacks some.
        seconds: as for `requests`.
    """
    found: dict[str, Any] = {}
    for each in facts.values():
        found |= each.get("sent", {}).get("ways", {})
    for way in ways(fleet):
        problem = facts.get(way.target, {}).get("receiving", {}).get("problem")
        if problem and way.id in found:
            # Why nobody received there says more than that nobody did.
            found[way.id] = found[way.id] | {"problem": f"{way.target}: {problem}"}
    ends = {
        (host, name): _end(said, each.get("ended", {}).get("interfaces", {}).get(name, said))
        for host, each in facts.items()
        for name, said in each.get("looked", {}).get("interfaces", {}).items()
    }
    looked = {host: each["looked"] for host, each in facts.items() if "looked" in each}
    rows = report(ways(fleet), ends, found, tool_of(looked), measured=bool(seconds))
    verdict = worst(rows)
    return {
        "lines": lines(rows),
        "problem": "\n".join(lines(row for row in rows if row.verdict is not Verdict.OK)),
        "report": {
            "fleet": fleet.name,
            "verdict": verdict.value,
            "rows": [row.model_dump(mode="json") for row in rows],
        },
    }


def _end(first: Mapping[str, Any], last: Mapping[str, Any]) -> End:
    speed = first["speed_mbps"]
    return End(
        mtu=first["mtu"],
        carrier=first["carrier"] == 1,
        # A card that does not know says -1.
        speed_gbps=speed / 1000 if speed is not None and speed > 0 else None,
        errors={
            key: count - before
            for key, count in last["counters"].items()
            for before in (first["counters"].get(key),)
            if count is not None and before is not None
        },
    )
