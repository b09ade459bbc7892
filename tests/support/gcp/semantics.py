"""What Google's cloud refuses of a firewall that its discovery document allows."""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

_WITH_PORTS = {"tcp", "udp", "sctp", "6", "17", "132"}
_WELL_KNOWN = _WITH_PORTS | {"icmp", "esp", "ah", "ipip", "all"}
_TAG = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")


def firewall_problems(body: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a firewall that is to be made, or to be changed as a whole."""
    if bool(body.get("allowed")) == bool(body.get("denied")):
        yield "Exactly one of allowed and denied has to be specified"
    for traffic in [*body.get("allowed", []), *body.get("denied", [])]:
        yield from _traffic_problems(traffic)
    if not 0 <= body.get("priority", 1000) <= 65535:
        yield "Invalid value for field 'resource.priority': it has to be between 0 and 65535"
    if len(body.get("description", "")) > 2048:
        yield "Invalid value for field 'resource.description': too long"
    yield from _range_problems(body)
    yield from _tag_problems(body)
    yield from _direction_problems(body)


def tag_problems(tags: list[str], field: str, most: int) -> Iterator[str]:
    """Yield what is wrong with network tags."""
    for tag in tags:
        if not _TAG.fullmatch(tag):
            yield f"Invalid value for field '{field}': '{tag}'"
    if len(tags) > most:
        yield f"Invalid value for field '{field}': {len(tags)} of at most {most}"
    if len(set(tags)) != len(tags):
        yield f"Invalid value for field '{field}': duplicates"


def _traffic_problems(traffic: dict[str, Any]) -> Iterator[str]:
    protocol = traffic.get("IPProtocol", "")
    if protocol not in _WELL_KNOWN and not (protocol.isdecimal() and int(protocol) < 256):
        yield f"Invalid value for field 'IPProtocol': '{protocol}'"
    ports = traffic.get("ports", [])
    if ports and protocol not in _WITH_PORTS:
        yield f"Ports may not be specified for protocol {protocol}"
    for each in ports:
        found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", each)
        if not found or not int(found[1]) <= int(found[2] or found[1]) <= 65535:
            yield f"Invalid value for field 'ports': '{each}'"


def _range_problems(body: dict[str, Any]) -> Iterator[str]:
    for field in ("sourceRanges", "destinationRanges"):
        versions = set()
        ranges = body.get(field, [])
        for cidr in ranges:
            try:
                # Whether the real one takes host bits is not known; it must not matter.
                network = ipaddress.ip_network(cidr)
            except ValueError:
                yield f"Invalid value for field '{field}': '{cidr}'"
                continue
            versions.add(network.version)
            if str(network) != cidr:
                yield f"Invalid value for field '{field}': '{cidr}' is not canonical"
        if len(versions) > 1:
            yield f"Invalid value for field '{field}': IPv4 and IPv6 ranges cannot be mixed"
        if len(ranges) > 5000 or len(set(ranges)) != len(ranges):
            yield f"Invalid value for field '{field}': too many, or duplicates"


def _tag_problems(body: dict[str, Any]) -> Iterator[str]:
    yield from tag_problems(body.get("sourceTags", []), "sourceTags", 30)
    yield from tag_problems(body.get("targetTags", []), "targetTags", 70)
    tags = body.get("sourceTags") or body.get("targetTags")
    if tags and (body.get("sourceServiceAccounts") or body.get("targetServiceAccounts")):
        yield "Tags and service accounts cannot be used together"


def _direction_problems(body: dict[str, Any]) -> Iterator[str]:
    if body.get("direction") == "EGRESS":
        if any(body.get(f"source{kind}") for kind in ("Tags", "Ranges", "ServiceAccounts")):
            yield "Sources cannot be specified for EGRESS"
    elif any(":" in cidr for cidr in body.get("sourceRanges", [])) and body.get("sourceTags"):
        yield "Source tags cannot be combined with IPv6 ranges"
