"""Which groups and rules a fleet needs in a cloud: derived from its flows, the same for each cloud.

Every host has a group of its own, with the rules for what it serves, and all hosts of a cloud are
in one more group, which has no rules and is there to be named as a source.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from cloud.names import ALL
from runtime.spec.access import is_private
from runtime.spec.base import Frozen, Port
from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet
from runtime.spec.flows import Flow, flows
from runtime.spec.links import Link, are_neighbours, link, networks_of
from runtime.spec.sources import source_by


class Source(Frozen):
    """Where connections come from.

    Attributes:
        kind: "group": the instances of a group, by their private addresses; "network": a CIDR.
        name: the group's name (a host or `names.ALL`; somebody else's group by the cloud's own
            id), or the CIDR in its canonical form.
    """

    kind: Literal["group", "network"]
    name: str

    def __str__(self) -> str:
        """Return it as diffs show it."""
        if self.kind == "network":
            return self.name
        return "every host" if self.name == ALL else f"host {self.name}"


RuleKey = tuple[str, int, int, str, str]


class Rule(Frozen):
    """Connections from one source to one port.

    Attributes:
        protocol: "tcp" or "udp"; what others have made may have any, or "all".
        first, last: the ports; ours have one.
        purpose: what people read; two rules that differ in nothing else are the same rule.
        foreign: it is in a group of ours, but somebody else has put it there.
        resource: what holds it, where that is a thing of its own and neither the group nor what
            the product would have made: the group can go without it, and a rule of the product's
            that says the same is another rule.
    """

    protocol: str
    first: Port | Literal[0]
    last: Port | Literal[0]
    source: Source
    purpose: str = ""
    foreign: bool = False
    resource: str = ""

    @property
    def key(self) -> RuleKey:
        """What makes it this rule and no other."""
        # No name of a source has a space.
        source = f"{self.source.name} {self.resource}".rstrip()
        return (self.protocol, self.first, self.last, self.source.kind, source)

    def __str__(self) -> str:
        """Return it as diffs show it."""
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        held = f" (in {self.resource})" if self.resource else ""
        return f"{self.protocol} {ports} from {self.source}{held}"


class Group(Frozen):
    """The rules of one host, or the group of all hosts.

    Attributes:
        name: a host of the fleet, or `names.ALL`.
        owner: of a group that exists: the mark of the fleet's authority, "" for a group that
            carries no mark of this product.
        rules: by their keys.
    """

    name: str
    owner: str = ""
    rules: dict[RuleKey, Rule] = Field(default_factory=dict)


class State(Frozen):
    """The groups of a fleet in one cloud: those it has or those it wants.

    Attributes:
        groups: by their names.
        members: for each host whose instance is known, the groups of the fleet it is in.
        notices: what an operator should know of what surrounds the groups.
        made: the hosts whose instances were made for the fleet, with what the cloud calls them.
    """

    groups: dict[str, Group] = Field(default_factory=dict)
    members: dict[str, frozenset[str]] = Field(default_factory=dict)
    notices: tuple[str, ...] = ()
    made: dict[str, str] = Field(default_factory=dict)


def wanted(fleet: Fleet, cloud: str) -> State:
    """Return what a fleet needs in one of its clouds.

    Rules that need the address of an instance that is not there wait for it, which is noticed;
    among hosts that are made in one cloud, no rule needs an address.

    Raises:
        SpecError: from where a host comes is not known.
    """
    inside = frozenset(name for name, host in fleet.hosts.items() if host.cloud == cloud)
    sources = _Sources(fleet, inside)
    rules: dict[str, dict[RuleKey, Rule]] = {name: {} for name in inside}
    # What waits is not there: an address that nobody has any more may be a stranger's tomorrow.
    for flow in flows(fleet):
        if flow.host in inside:
            for source in sources.of(flow):
                rule = Rule(
                    protocol=flow.protocol,
                    first=flow.port,
                    last=flow.port,
                    source=source,
                    purpose=flow.purpose,
                )
                rules[flow.host][rule.key] = rule
    groups = {name: Group(name=name, rules=found) for name, found in sorted(rules.items())}
    if inside:
        groups[ALL] = Group(name=ALL)
    return State(
        groups=groups,
        members={name: frozenset({name, ALL}) for name in sorted(inside)},
        notices=tuple(sources.waiting()),
    )


class _Sources:
    """From where the hosts of a flow come, as the cloud of its host sees them.

    What way leads from one host to another depends, besides the target, on nothing but the
    networks that the source is in: of millions of pairs, a few are looked up.
    """

    def __init__(self, fleet: Fleet, inside: frozenset[str]) -> None:
        self._fleet = fleet
        self._inside = inside
        # A host whose addresses are not known is like no other, but for those that are like it.
        self._networks = {
            name: (*networks_of(fleet, name), *(("?",) if host.is_unmade else ()))
            for name, host in fleet.hosts.items()
        }
        self._alike: dict[tuple[str, ...], frozenset[str]] = {
            networks: frozenset(name for name in inside if self._networks[name] == networks)
            for networks in {self._networks[name] for name in inside}
        }
        self._examples = {networks: sorted(names)[:2] for networks, names in self._alike.items()}
        # The stages of a host have the same peers, most often.
        self._of_hosts: dict[tuple[str, tuple[str, ...]], tuple[Source, ...]] = {}
        self._inward: dict[tuple[tuple[str, ...], str], bool] = {}
        self._outward: dict[tuple[tuple[str, ...], str], Link] = {}
        self._waiting: dict[str, set[str]] = {}

    def waiting(self) -> Iterator[str]:
        """Yield what the rules of `of` lack, as an operator reads it."""
        for unmade, targets in sorted(self._waiting.items()):
            yield (
                f"rules on {', '.join(sorted(targets))} wait until the instance of {unmade} runs "
                "and its address is known"
            )

    def of(self, flow: Flow) -> Iterator[Source]:
        for network in flow.networks:
            yield Source(kind="network", name=network)
        key = (flow.host, flow.hosts)
        if key not in self._of_hosts:
            self._of_hosts[key] = tuple(self._hosts(flow))
        yield from self._of_hosts[key]

    def _hosts(self, flow: Flow) -> Iterator[Source]:
        hosts = frozenset(flow.hosts)
        near: set[str] = set()
        for networks, names in self._alike.items():
            here = names & hosts
            if here and self._comes_from_inside(networks, flow.host):
                near |= here
        if len(near) > 1 and near >= self._inside - {flow.host}:
            yield Source(kind="group", name=ALL)
        else:
            for host in sorted(near):
                yield Source(kind="group", name=host)
        for host in sorted(hosts - near):
            unmade = self._is_unmade(host, flow.host)
            if unmade:
                self._waiting.setdefault(unmade, set()).add(flow.host)
                continue
            yield _from_outside(self._way_back(flow.host, host), host, flow.host)

    def _comes_from_inside(self, networks: tuple[str, ...], target: str) -> bool:
        """Return whether hosts in these networks dial `target` at an address inside the cloud.

        A group as a source stands for its members' private addresses: what leaves through a public
        address and comes back in is nobody's member.
        """
        key = (networks, target)
        if key not in self._inward:
            example = next(name for name in self._examples[networks] if name != target)
            self._inward[key] = self._is_near(example, target)
        return self._inward[key]

    def _is_near(self, source: str, target: str) -> bool:
        if self._is_unmade(source, target):
            return are_neighbours(self._fleet, source, target)
        return _is_inside(link(self._fleet, source, target))

    def _is_unmade(self, source: str, target: str) -> str:
        """Return whose missing address keeps the way between two hosts unknown, or ""."""
        if self._fleet.hosts[source].is_unmade:
            return source
        # From outside of the cloud, it is the source alone by which the target's group lets in.
        return target if source in self._inside and self._fleet.hosts[target].is_unmade else ""

    def _way_back(self, target: str, source: str) -> Link:
        key = (self._networks[target], source)
        if key not in self._outward:
            self._outward[key] = link(self._fleet, target, source)
        return self._outward[key]


def _from_outside(way: Link, source: str, target: str) -> Source:
    """Return the address that a host outside of a cloud comes from; `way` leads back to it.

    Raises:
        SpecError: it is not known, or nobody outside can have it.
    """
    cidr = source_by(way, source, target)
    if way.via in {"public", "direct"} and is_private(cidr):
        raise SpecError(
            f"host {source} is known by the private address {way.address} only: {target}, in a "
            "cloud, shares no network with it and never sees it come from there",
            hint=f"give {source} the fleet_host.public_ip that the outside sees, or name the "
            "network that both share in fleet.networks",
        )
    return Source(kind="network", name=cidr)


def _is_inside(way: Link) -> bool:
    if way.mapped:
        return False
    try:
        return is_private(way.address)
    except ValueError:
        # Inside a cloud, names of instances stand for their private addresses.
        return True


def clouds_of(fleet: Fleet, only: str | None = None) -> tuple[str, ...]:
    """Return the clouds of a fleet, or the one that is asked for.

    Raises:
        SpecError: the fleet has none, or none of this name.
    """
    if not fleet.clouds:
        raise SpecError(
            "no host of this fleet is in a cloud",
            hint="describe it in fleet.clouds and name it in fleet_host.cloud",
        )
    if only is None:
        return tuple(sorted(fleet.clouds))
    if only not in fleet.clouds:
        raise SpecError(f"there is no cloud '{only}': {', '.join(sorted(fleet.clouds))}")
    return (only,)
