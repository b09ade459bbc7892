"""What a resource group holds of a fleet: found by names and tags, and told from others' things.

A host has two groups in Azure: a network security group, which holds its rules and is attached to
its network interface, and an application security group, which stands for it in the rules of
others. The group of all hosts needs but the second one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from cloud.azure.convert import OPEN, Json, kept_by_others, listed
from cloud.azure.fold import Names
from cloud.errors import CloudError
from cloud.names import ALL, FLEET_MARK, GROUP_MARK, HOST_MARK, OWNER_MARK, group_prefix
from cloud.rules import Group, Rule, RuleKey, State


@dataclass(frozen=True)
class Held:
    """What there is of one group.

    Attributes:
        name: a host of the fleet, or `names.ALL`.
        owner: whose it is, as `rules.Group` says it.
        network_group: its network security group, as Azure tells it.
        application_group: its application security group.
    """

    name: str
    owner: str
    network_group: Json | None = None
    application_group: Json | None = None

    @property
    def rules(self) -> list[Json]:
        """Return Azure's rules of the host."""
        return rules_of(self.network_group) if self.network_group else []


@dataclass(frozen=True)
class Survey:
    """What there is of a fleet.

    Attributes:
        names: what its groups are called.
        groups: by their names; what bears a name of the fleet's and is somebody else's, too.
        interfaces: the network interfaces that are tagged as its hosts', by the hosts.
    """

    names: Names
    groups: Mapping[str, Held]
    interfaces: Mapping[str, Json]


def tags(fleet: str, owner: str, group: str) -> dict[str, str]:
    """Return the tags of what is made for a group."""
    return {FLEET_MARK: fleet, OWNER_MARK: owner, GROUP_MARK: group}


def whose_of(thing: Json, names: Names) -> tuple[str, str] | None:
    """Return the group that a thing bears the name of, and its owner; None if no name of ours."""
    called = thing["name"].lower()
    marks = _tags(thing)
    group = marks.get(GROUP_MARK, "")
    if marks.get(FLEET_MARK) == names.fleet and group and names.of(group) == called:
        return group, marks.get(OWNER_MARK, "")
    prefix = group_prefix(names.fleet)
    # Fleets may have names that begin alike.
    if marks.get(FLEET_MARK, names.fleet) != names.fleet or not called.startswith(prefix):
        return None
    plain = called.removeprefix(prefix)
    return (ALL if called == names.of(ALL) else plain), ""


def rules_of(network_group: Json) -> list[Json]:
    """Return the rules of a network security group, Azure's defaults left out."""
    rules: list[Json] = _properties(network_group).get("securityRules") or []
    return rules


def survey(
    names: Names,
    owner: str,
    network_groups: Iterable[Json],
    application_groups: Iterable[Json],
    interfaces: Iterable[Json],
) -> Survey:
    """Return what there is of a fleet in the lists of a resource group.

    Raises:
        CloudError: two network interfaces are tagged as one host's.
    """
    network = _by_group(network_groups, names)
    application = _by_group(application_groups, names)
    found: dict[str, Held] = {}
    for name in sorted(network.keys() | application.keys()):
        one, other = network.get(name), application.get(name)
        owners = [each.owner for each in (one, other) if each]
        # One of the two that is somebody else's is enough to be careful.
        found[name] = Held(
            name,
            next((each for each in owners if each != owner), owner),
            one.thing if one else None,
            other.thing if other else None,
        )
    own = [name for name, held in found.items() if held.application_group and held.owner == owner]
    return Survey(with_groups(names, own), found, _by_host(names.fleet, interfaces))


def with_groups(names: Names, groups: Iterable[str]) -> Names:
    """Return names that know the application security groups of these groups, too."""
    more = {names.application_group(group).lower(): group for group in groups}
    return replace(names, known={**names.known, **more})


def state(found: Survey, owner: str) -> State:
    """Return the groups, their rules and their members."""
    groups = {
        name: Group(name=name, owner=held.owner, rules=_rules(held, found.names))
        for name, held in found.groups.items()
    }
    members = {
        host: frozenset(name for name in groups if _is_in(interface, host, name, found.names))
        for host, interface in found.interfaces.items()
    }
    return State(groups=groups, members=members, notices=tuple(_notices(found, owner)))


def application_groups_of(interface: Json) -> list[set[str]]:
    """Return the ids, in lower case, of the groups that each address of an interface is in."""
    configurations = _properties(interface).get("ipConfigurations") or []
    return [
        {group["id"].lower() for group in _properties(each).get("applicationSecurityGroups") or ()}
        for each in configurations
    ]


def network_group_of(interface: Json) -> str:
    """Return the id, in lower case, of the network security group of an interface, or ""."""
    group = _properties(interface).get("networkSecurityGroup") or {}
    return str(group.get("id", "")).lower()


def joined(interface: Json, application_groups: Sequence[str]) -> Json:
    """Return an interface whose addresses are in these groups, by their ids, besides others."""
    return _with_groups(interface, application_groups, ())


def left(interface: Json, application_groups: Sequence[str], network_groups: Sequence[str]) -> Json:
    """Return an interface that is in none of these groups, by their ids."""
    found = _with_groups(interface, (), application_groups)
    if network_group_of(found) in {each.lower() for each in network_groups}:
        properties = {
            key: value for key, value in _properties(found).items() if key != "networkSecurityGroup"
        }
        found = found | {"properties": properties}
    return found


def guarded(interface: Json, network_group: str) -> Json:
    """Return an interface that has a network security group, by its id, attached."""
    attached = {"networkSecurityGroup": {"id": network_group}}
    if network_group_of(interface) == network_group.lower():
        return interface
    return interface | {"properties": _properties(interface) | attached}


def _with_groups(interface: Json, more: Sequence[str], fewer: Sequence[str]) -> Json:
    """Return an interface with all its addresses in more groups and fewer.

    Azure refuses an interface whose addresses are in different ones.
    """
    gone = {each.lower() for each in fewer}
    configurations = []
    for configuration in _properties(interface).get("ipConfigurations") or ():
        each = configuration
        properties = _properties(each)
        groups = [
            group
            for group in properties.get("applicationSecurityGroups") or ()
            if group["id"].lower() not in gone
        ]
        there = {group["id"].lower() for group in groups}
        groups += [{"id": group} for group in more if group.lower() not in there]
        if groups != (properties.get("applicationSecurityGroups") or []):
            each = each | {"properties": properties | {"applicationSecurityGroups": groups}}
        configurations.append(each)
    changed = {"ipConfigurations": configurations}
    return interface | {"properties": _properties(interface) | changed}


def _rules(held: Held, names: Names) -> dict[RuleKey, Rule]:
    if held.name == ALL:
        return {}
    if held.network_group is None:
        return {OPEN.key: OPEN}
    return listed(held.rules, names)


def _is_in(interface: Json, host: str, group: str, names: Names) -> bool:
    """Return whether an interface is a member; of its host's own group only if it has both."""
    addresses = application_groups_of(interface)
    stands = bool(addresses) and all(
        names.application_group(group).lower() in each for each in addresses
    )
    attached = network_group_of(interface) == names.network_group(group).lower()
    if group == ALL:
        return stands
    return (stands and attached) if group == host else (stands or attached)


def _notices(found: Survey, owner: str) -> Iterator[str]:
    for name, held in sorted(found.groups.items()):
        if held.owner == owner:
            for rule in kept_by_others(held.rules):
                yield (
                    f"rule of others in {name}: {rule} denies connections or is about those that "
                    "go out; it stays as it is"
                )


class _Marked(NamedTuple):
    thing: Json
    owner: str


def _by_group(things: Iterable[Json], names: Names) -> dict[str, _Marked]:
    found = {}
    for each in things:
        whose = whose_of(each, names)
        if whose is not None:
            found[whose[0]] = _Marked(each, whose[1])
    return found


def _by_host(fleet: str, interfaces: Iterable[Json]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for each in interfaces:
        marks = _tags(each)
        host = marks.get(HOST_MARK)
        if marks.get(FLEET_MARK) != fleet or not host:
            continue
        if host in found:
            raise CloudError(
                f"the network interfaces {found[host]['name']} and {each['name']} both have the "
                f"tag {HOST_MARK}={host}",
                hint="a host has one: take the tag off the other",
            )
        found[host] = each
    return found


def _tags(thing: Json) -> dict[str, str]:
    # To Azure, the names of tags are the same in capitals.
    return {str(key).lower(): str(value) for key, value in (thing.get("tags") or {}).items()}


def _properties(thing: Json) -> Json:
    found: Json = thing.get("properties") or {}
    return found
