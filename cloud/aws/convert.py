"""What EC2 says of security groups and instances, and what it means here: pure."""

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cloud.errors import CloudError
from cloud.names import (
    ALL,
    FLEET_MARK,
    GROUP_MARK,
    HOST_MARK,
    OWNER_MARK,
    group_name,
    group_prefix,
    purpose_of,
    rule_mark,
)
from cloud.rules import Group, Rule, RuleKey, Source, State

_LONGEST_NAME: Final = 255
_LONGEST_DESCRIPTION: Final = 255
_LONGEST_TAG: Final = 256
_MOST_RULES: Final = 60
_DESCRIPTION: Final = re.compile(r"[a-zA-Z0-9. _:/()#,@\[\]+=&;{}!$*-]*")
_ANY: Final = -1
_EVERY_PROTOCOL: Final = "-1"

Answer = Mapping[str, Any]
"""A part of what EC2 answers, or of what it is asked."""


@dataclass(frozen=True)
class Found:
    """A security group that bears one of a fleet's names.

    Attributes:
        id: EC2's own name for it.
        group: what it means; its owner is "" if it carries no mark of this fleet.
        permissions: each of its rules as EC2 takes it to revoke it.
    """

    id: str
    group: Group
    permissions: Mapping[RuleKey, Answer]


def security_group_name(fleet: str, group: str) -> str:
    """Return what a group is called in EC2."""
    return group_name(fleet, group, _LONGEST_NAME)


def name_pattern(fleet: str) -> str:
    """Return the filter that finds every security group with a name of the fleet's.

    It finds those of a fleet whose name begins alike, too; `found_groups` tells them apart.
    """
    return f"{group_prefix(fleet)}*"


def marks(fleet: str, owner: str, group: str) -> list[dict[str, str]]:
    """Return the tags of a group of a fleet."""
    tags = {
        "Name": security_group_name(fleet, group),
        FLEET_MARK: fleet,
        OWNER_MARK: owner,
        GROUP_MARK: group,
    }
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def found_groups(answers: Iterable[Answer], fleet: str) -> dict[str, Found]:
    """Return the security groups that are a fleet's or bear one of its names, by plain names."""
    named: dict[str, Answer] = {}
    for answer in answers:
        name = _plain_name(answer, fleet)
        if name is not None and tags_of(answer).get(FLEET_MARK, fleet) == fleet:
            named[name] = answer
    ids = {answer["GroupId"]: name for name, answer in named.items()}
    return {name: _found(name, answer, ids) for name, answer in named.items()}


def permission(rule: Rule, ids: Mapping[str, str]) -> dict[str, Any]:
    """Return a rule of ours as EC2 takes it.

    Args:
        rule: from a network, or from one of the fleet's groups.
        ids: EC2's names of the fleet's groups.
    """
    source: dict[str, str] = {"Description": rule_mark(rule.purpose)}
    if rule.source.kind == "group":
        kind, source["GroupId"] = "UserIdGroupPairs", ids[rule.source.name]
    elif ipaddress.ip_network(rule.source.name).version == 4:
        kind, source["CidrIp"] = "IpRanges", rule.source.name
    else:
        kind, source["CidrIpv6"] = "Ipv6Ranges", rule.source.name
    ports = {"FromPort": rule.first, "ToPort": rule.last}
    return {"IpProtocol": rule.protocol, **ports, kind: [source]}


def instances_by_host(reservations: Iterable[Answer]) -> dict[str, Answer]:
    """Return the instances by the hosts that their tags name.

    Raises:
        CloudError: two of them name the same host.
    """
    found: dict[str, Answer] = {}
    for reservation in reservations:
        for instance in reservation["Instances"]:
            host = tags_of(instance)[HOST_MARK]
            if host in found:
                both = sorted((found[host]["InstanceId"], instance["InstanceId"]))
                raise CloudError(
                    f"two instances have the tag {HOST_MARK}={host}: {' and '.join(both)}",
                    hint="take the tag off the one that is not this host, or terminate it",
                )
            found[host] = instance
    return found


def primary_interface(instance: Answer) -> Answer | None:
    """Return the network interface that an instance has had from its start."""
    for interface in instance.get("NetworkInterfaces", ()):
        attachment = interface.get("Attachment", {})
        if attachment.get("DeviceIndex") == 0 and attachment.get("NetworkCardIndex", 0) == 0:
            return interface  # type: ignore[no-any-return]  # EC2's answers have no types
    return None


def attached(instance: Answer) -> list[str]:
    """Return EC2's names of the groups of an instance's primary network interface."""
    interface = primary_interface(instance) or {}
    return [group["GroupId"] for group in interface.get("Groups", ())]


def problems(want: State) -> list[str]:
    """Return what EC2 would not take of what is wanted."""
    return [problem for name, group in sorted(want.groups.items()) for problem in _limits(group)]


def _limits(group: Group) -> Iterator[str]:
    called = "the group of all hosts" if group.name == ALL else f"the group of host {group.name}"
    if len(group.name) > _LONGEST_TAG:
        yield (
            f"{called}: the name has {len(group.name)} characters, and a tag of AWS takes "
            f"{_LONGEST_TAG}: give the host a shorter name"
        )
    for version in (4, 6):
        count = sum(_counts(rule.source, version) for rule in group.rules.values())
        if count > _MOST_RULES:
            yield (
                f"{called} needs {count} rules for IPv{version}, and a security group of AWS takes "
                f"{_MOST_RULES}: name networks that hold many addresses instead of single "
                "addresses, and declare in fleet.networks what network the hosts share, so that "
                "one rule lets all of them in"
            )
    for purpose in sorted({rule.purpose for rule in group.rules.values()}):
        mark = rule_mark(purpose)
        if len(mark) > _LONGEST_DESCRIPTION or not _DESCRIPTION.fullmatch(mark):
            yield (
                f"{called}: AWS takes no rule with the description '{mark}': at most "
                f"{_LONGEST_DESCRIPTION} of its plain characters"
            )


def _counts(source: Source, version: int) -> bool:
    """Return whether a rule counts for the limit of an IP version: groups do for both."""
    return source.kind == "group" or ipaddress.ip_network(source.name).version == version


def tags_of(answer: Answer) -> dict[str, str]:
    """Return the tags of a group or an instance, by their names."""
    return {tag["Key"]: tag["Value"] for tag in answer.get("Tags", ())}


def _plain_name(answer: Answer, fleet: str) -> str | None:
    """Return which of the fleet's groups a security group is by its name, or None.

    A name in EC2 never changes, a tag may: it counts only where it agrees with the name.
    """
    called: str = answer["GroupName"]
    rest = called.removeprefix(group_prefix(fleet))
    for name in (tags_of(answer).get(GROUP_MARK), ALL if rest == "all" else rest):
        if name is not None and security_group_name(fleet, name) == called:
            return name
    return None


def _found(name: str, answer: Answer, ids: Mapping[str, str]) -> Found:
    tags = tags_of(answer)
    rules: dict[RuleKey, Rule] = {}
    permissions: dict[RuleKey, Answer] = {}
    for rule, found in _rules(answer["IpPermissions"], ids):
        rules[rule.key] = rule
        permissions[rule.key] = found
    owner = tags.get(OWNER_MARK, "") if FLEET_MARK in tags else ""
    group = Group(name=name, owner=owner, rules=rules)
    return Found(id=answer["GroupId"], group=group, permissions=permissions)


def _rules(
    permissions: Collection[Answer], ids: Mapping[str, str]
) -> Iterator[tuple[Rule, Answer]]:
    for found in permissions:
        protocol, first, last = _protocol_and_ports(found)
        same = {key: found[key] for key in ("IpProtocol", "FromPort", "ToPort") if key in found}
        for source, description, single in _sources(found, ids):
            purpose = purpose_of(description)
            rule = Rule(
                protocol=protocol,
                first=first,
                last=last,
                source=source,
                purpose=description if purpose is None else purpose,
                foreign=purpose is None,
            )
            yield rule, same | single


def _protocol_and_ports(found: Answer) -> tuple[str, int, int]:
    protocol: str = found["IpProtocol"]
    first, last = found.get("FromPort", _ANY), found.get("ToPort", _ANY)
    if protocol == _EVERY_PROTOCOL:
        return "all", 0, 0
    if protocol.startswith("icmp"):
        # What EC2 calls ports are their types and codes, and 0 is one of these.
        kind = "" if first == _ANY else f" type {first}"
        code = "" if last == _ANY else f" code {last}"
        return f"{protocol}{kind}{code}", 0, 0
    return protocol, max(first, 0), max(last, 0)


def _sources(
    found: Answer, ids: Mapping[str, str]
) -> Iterator[tuple[Source, str, dict[str, list[dict[str, str]]]]]:
    """Yield each source of a permission, its description, and what names it to EC2."""
    for kind, key in (("IpRanges", "CidrIp"), ("Ipv6Ranges", "CidrIpv6")):
        for each in found.get(kind, ()):
            name = str(ipaddress.ip_network(each[key], strict=False))
            source = Source(kind="network", name=name)
            yield source, each.get("Description", ""), {kind: [{key: each[key]}]}
    for pair in found.get("UserIdGroupPairs", ()):
        named = {key: pair[key] for key in ("GroupId", "UserId") if key in pair}
        source = Source(kind="group", name=ids.get(pair["GroupId"], pair["GroupId"]))
        yield source, pair.get("Description", ""), {"UserIdGroupPairs": [named]}
    for each in found.get("PrefixListIds", ()):
        name = each["PrefixListId"]
        listed = {"PrefixListIds": [{"PrefixListId": name}]}
        yield Source(kind="group", name=name), each.get("Description", ""), listed
