"""What EC2 refuses and moto does not, and how it keeps what moto keeps as it was asked."""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from moto.backends import get_backend
from moto.ec2.models.security_groups import SecurityGroup, SecurityGroupRule

REGION: Final = "us-east-1"
ACCOUNT: Final = "123456789012"

_PLAIN: Final = re.compile(r"[a-zA-Z0-9. _:/()#,@\[\]+=&;{}!$*-]{0,255}")
_MOST_RULES, _MOST_GROUPS = 60, 5


class RefusedError(Exception):
    """What EC2 would refuse."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


def backend() -> Any:
    """Return what moto keeps of one account and region."""
    return get_backend("ec2")[ACCOUNT][REGION]


def group(name: str) -> SecurityGroup:
    """Return a security group by its id."""
    found: SecurityGroup | None = backend().get_security_group_from_id(name)
    if found is None:
        raise RefusedError("InvalidGroup.NotFound", f"The security group '{name}' does not exist")
    return found


def nested(form: dict[str, str]) -> dict[str, Any]:
    """Return parameters such as IpPermissions.1.FromPort as a tree."""
    tree: dict[str, Any] = {}
    for key, value in form.items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


@dataclass(frozen=True)
class _Permission:
    """One rule, as the call asks for it; `source` holds but one of its kinds."""

    protocol: str
    first: int | None
    last: int | None
    network: dict[str, str] | None = None
    group: dict[str, str] | None = None
    listed: dict[str, str] | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        named = {**(self.network or {}), **(self.group or {}), **(self.listed or {})}
        names = ("CidrIp", "CidrIpv6", "GroupId", "PrefixListId")
        return (self.protocol, self.first, self.last, *(named.get(name) for name in names))


def permissions(tree: dict[str, Any]) -> list[_Permission]:
    """Return the rules that a call is about, one for each source."""
    parts = [list(_permission(part)) for part in tree["IpPermissions"].values()]
    if not all(parts):
        raise RefusedError("InvalidParameterValue", "a permission without a source")
    found = [each for part in parts for each in part]
    if len({each.key for each in found}) < len(found):
        raise RefusedError(
            "InvalidParameterValue", "The same permission must not appear multiple times"
        )
    return found


def _permission(part: dict[str, Any]) -> Iterator[_Permission]:
    protocol = part["IpProtocol"]
    first, last = _ports(protocol, part)
    for kind, version in (("IpRanges", 4), ("Ipv6Ranges", 6)):
        for each in part.get(kind, {}).values():
            key = "CidrIp" if version == 4 else "CidrIpv6"
            named = _described(each) | {key: _canonical(each[key], version)}
            yield _Permission(protocol, first, last, network=named)
    for each in part.get("Groups", {}).values():
        group(each["GroupId"])
        owner = {"UserId": ACCOUNT, "OwnerId": ACCOUNT}
        yield _Permission(
            protocol, first, last, group=owner | {"GroupId": each["GroupId"]} | _described(each)
        )
    for each in part.get("PrefixListIds", {}).values():
        yield _Permission(protocol, first, last, listed=dict(each))


def _ports(protocol: str, part: dict[str, str]) -> tuple[int | None, int | None]:
    if protocol == "-1":
        return None, None
    if protocol not in {"tcp", "udp", "icmp", "icmpv6"} and not (
        protocol.isdigit() and int(protocol) < 256
    ):
        raise RefusedError("InvalidParameterValue", f"Invalid value '{protocol}' for IP protocol")
    if protocol.isdigit():
        return -1, -1
    if "FromPort" not in part or "ToPort" not in part:
        raise RefusedError("InvalidParameterValue", "Must specify both from and to ports")
    first, last = int(part["FromPort"]), int(part["ToPort"])
    lowest = -1 if protocol.startswith("icmp") else 0
    if not (lowest <= first <= 65535 and lowest <= last <= 65535):
        raise RefusedError("InvalidParameterValue", f"Invalid value '{first}' for portRange")
    if first > last and lowest == 0:
        raise RefusedError("InvalidParameterValue", "from is greater than to")
    return first, last


def _canonical(cidr: str, version: int) -> str:
    try:
        network = ipaddress.ip_network(cidr, strict=False)
    except ValueError as error:
        raise RefusedError("InvalidParameterValue", f"CIDR block {cidr} is malformed") from error
    if network.version != version or "/" not in cidr:
        raise RefusedError("InvalidParameterValue", f"CIDR block {cidr} is malformed")
    return str(network)


def _described(each: dict[str, str]) -> dict[str, str]:
    if not _PLAIN.fullmatch(each.get("Description", "")):
        raise RefusedError("InvalidParameterValue", "Invalid rule description")
    return {"Description": each["Description"]} if "Description" in each else {}


def _held(group: SecurityGroup) -> dict[tuple[Any, ...], SecurityGroupRule]:
    return {
        _Permission(
            rule.ip_protocol or "",
            rule.from_port,
            rule.to_port,
            rule.ip_range,
            rule.source_group,
            {"PrefixListId": rule.prefix_list_id} if rule.prefix_list_id else {},
        ).key: rule
        for rule in group.ingress_rules
    }


def authorize(to: SecurityGroup, permissions: list[_Permission]) -> None:
    """Add all rules or none."""
    held = _held(to)
    if any(each.key in held for each in permissions):
        raise RefusedError("InvalidPermission.Duplicate", "the specified rule already exists")
    keys = [*held, *(each.key for each in permissions)]
    for other_version in (4, 3):  # where a key names an IPv6 and an IPv4 network
        if sum(key[other_version] is None for key in keys) > _MOST_RULES:
            raise RefusedError(
                "RulesPerSecurityGroupLimitExceeded",
                "The maximum number of rules per security group has been reached.",
            )
    for each in permissions:
        first, last = (None if port is None else str(port) for port in (each.first, each.last))
        rule = SecurityGroupRule(
            backend(),
            each.protocol,
            to.id,
            first,
            last,
            each.network,
            each.group,
            each.listed,
            is_egress=False,
        )
        to.ingress_rules.append(rule)


def revoke(group: SecurityGroup, permissions: list[_Permission]) -> None:
    """Remove all rules or none; descriptions need not agree."""
    held = _held(group)
    if any(each.key not in held for each in permissions):
        raise RefusedError("InvalidPermission.NotFound", "The specified rule does not exist")
    gone = {held[each.key].id for each in permissions}
    group.ingress_rules = [rule for rule in group.ingress_rules if rule.id not in gone]


def check_new_group(form: dict[str, str], most: int) -> None:
    """See that a group may be made; of a network, at most `most`."""
    held = backend()
    if form["VpcId"] not in held.vpcs:
        raise RefusedError("InvalidVpcID.NotFound", f"The vpc ID '{form['VpcId']}' does not exist")
    for text in (form["GroupName"], form["GroupDescription"]):
        if not text or not _PLAIN.fullmatch(text) or text.startswith("sg-"):
            raise RefusedError("InvalidParameterValue", f"'{text}' is not allowed")
    if len(held.groups[form["VpcId"]]) >= most:
        raise RefusedError("SecurityGroupLimitExceeded", "The maximum number has been reached.")


def check_unused(group: SecurityGroup) -> None:
    """See that nothing is in a group, and that no rule of another names it."""
    held = backend()
    attached = any(group in interface.group_set for interface in held.enis.values())
    named = any(
        rule.source_group.get("GroupId") == group.id
        for other in held.groups[group.vpc_id].values()
        for rule in (*other.ingress_rules, *other.egress_rules)
        if other.id != group.id
    )
    if attached or named:
        raise RefusedError("DependencyViolation", f"resource {group.id} has a dependent object")


def check_attached(names: list[str]) -> None:
    """See that an interface may be in these groups and no others."""
    if not names:
        raise RefusedError("InvalidParameterCombination", "No attributes specified.")
    if len(names) > _MOST_GROUPS:
        raise RefusedError(
            "SecurityGroupsPerInterfaceLimitExceeded",
            "The maximum number of security groups per interface has been reached.",
        )
    for name in names:
        group(name)


def agree(interface: str) -> None:
    """Let an instance be in no groups but those of its interface, which moto forgets."""
    found = backend().get_network_interface(interface)
    if found.instance is not None:
        found.instance.security_groups = list(found._group_set)
