"""The fleet's rules as few of Azure's: which go into one, and how many a group may have.

A rule of Azure's names one port and either networks of one family, none inside another, or at most
ten application security groups.
"""

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from cloud.names import PRODUCT, group_name, rule_mark
from cloud.rules import Group, Rule, Source, State

LONGEST_NAME: Final = 80
_LONGEST_DESCRIPTION: Final = 140
_GROUPS_PER_RULE: Final = 10
# Of one network security group.
_MOST_RULES: Final = 1000
_MOST_NETWORKS: Final = 4000
_MOST_GROUPS: Final = 100


@dataclass(frozen=True)
class Names:
    """What the fleet's groups are called in a resource group.

    Attributes:
        scope: the resource group's id.
        fleet: the fleet's name.
        known: the fleet's groups by the ids, in lower case, of their application security groups.
    """

    scope: str
    fleet: str
    known: Mapping[str, str] = field(default_factory=dict)

    def of(self, group: str) -> str:
        """Return what both of a group's security groups are called."""
        return group_name(self.fleet, group, LONGEST_NAME)

    def network_group(self, group: str) -> str:
        """Return the id of a group's network security group."""
        return f"{self.scope}/providers/Microsoft.Network/networkSecurityGroups/{self.of(group)}"

    def application_group(self, group: str) -> str:
        """Return the id of the application security group of a group; others' have ids already."""
        if group.startswith("/"):
            return group
        kind = "applicationSecurityGroups"
        return f"{self.scope}/providers/Microsoft.Network/{kind}/{self.of(group)}"

    def group_of(self, application_group: str) -> str:
        """Return the group that an id stands for, or the id of somebody else's."""
        return self.known.get(application_group.lower(), application_group)


@dataclass(frozen=True)
class Bundle:
    """Rules of the fleet that are one rule of Azure's.

    Attributes:
        name: unique in its network security group.
        kind: "v4", "v6", "groups", or "tag" for a name that Azure has for networks.
        sources: in their order, at least one.
    """

    name: str
    protocol: str
    first: int
    last: int
    purpose: str
    kind: str
    sources: tuple[str, ...]


def fold(rules: Iterable[Rule], taken: Collection[str] = ()) -> tuple[Bundle, ...]:
    """Return the fewest of Azure's rules that stand for these.

    Args:
        rules: what to let in; no two have one key.
        taken: names, in lower case, that others have given to their rules.
    """
    alike: dict[tuple[str, int, int, str], dict[tuple[str, int], list[str]]] = {}
    for (protocol, first, last, kind, purpose), sources in _by_purpose(rules).items():
        parts = alike.setdefault((protocol, first, last, kind), {})
        for part, names in _parts(kind, sources).items():
            parts[purpose, part] = names
    return tuple(
        bundle for key, parts in sorted(alike.items()) for bundle in _bundles(key, parts, taken)
    )


def problems(want: State) -> list[str]:
    """Return which limits of Azure's the groups would exceed; one rule more denies the rest."""
    return [
        f"the network security group of {name} would have {problem}"
        for name, group in sorted(want.groups.items())
        for problem in _problems(group)
    ]


def _problems(group: Group) -> Iterator[str]:
    count = len(fold(group.rules.values())) + 1
    sources = [rule.source for rule in group.rules.values()]
    networks = sum(source.kind == "network" for source in sources)
    groups = len({source.name for source in sources if source.kind == "group"})
    fewer = "name networks instead of single addresses"
    if count > _MOST_RULES:
        yield f"{count} rules, and Azure allows {_MOST_RULES}: give the host fewer stages"
    if networks > _MOST_NETWORKS:
        yield f"{networks} networks as sources, and Azure allows {_MOST_NETWORKS}: {fewer}"
    if groups > _MOST_GROUPS:
        yield (
            f"{groups} single hosts as sources, and Azure allows {_MOST_GROUPS}: where all hosts "
            "of this cloud have a stage, they count as one"
        )
    for purpose in sorted({rule.purpose for rule in group.rules.values()}):
        if len(rule_mark(purpose)) > _LONGEST_DESCRIPTION:
            yield f"a description of more than {_LONGEST_DESCRIPTION} characters: {purpose}"


def _by_purpose(rules: Iterable[Rule]) -> dict[tuple[str, int, int, str, str], list[str]]:
    found: dict[tuple[str, int, int, str, str], list[str]] = {}
    for rule in rules:
        key = (rule.protocol, rule.first, rule.last, _kind(rule.source), rule.purpose)
        found.setdefault(key, []).append(rule.source.name)
    return found


def _kind(source: Source) -> str:
    if source.kind == "group":
        return "groups"
    try:
        return f"v{ipaddress.ip_network(source.name).version}"
    except ValueError:
        return "tag"


def _parts(kind: str, sources: list[str]) -> dict[int, list[str]]:
    """Return the sources by numbers: those of one number may be in one rule."""
    found: dict[int, list[str]] = {}
    together = set(sources)
    for number, name in enumerate(sorted(sources)):
        if kind == "groups":
            part = number // _GROUPS_PER_RULE
        elif kind == "tag":
            part = number
        else:
            # Azure refuses a network beside one that it is inside of; equally deep ones are apart.
            part = _depth(name, together)
        found.setdefault(part, []).append(name)
    return found


def _depth(name: str, others: Collection[str]) -> int:
    network = ipaddress.ip_network(name)
    wider = (network.supernet(new_prefix=length) for length in range(network.prefixlen))
    return sum(str(each) in others for each in wider)


def _bundles(
    key: tuple[str, int, int, str],
    parts: Mapping[tuple[str, int], list[str]],
    taken: Collection[str],
) -> Iterator[Bundle]:
    protocol, first, last, kind = key
    ports = f"{first}" if first == last else f"{first}-{last}"
    number = 0
    for (purpose, _), sources in sorted(parts.items()):
        number += 1
        while (name := f"{PRODUCT}-{protocol}-{ports}-{kind}-{number}") in taken:
            number += 1
        yield Bundle(name, protocol, first, last, purpose, kind, tuple(sources))
