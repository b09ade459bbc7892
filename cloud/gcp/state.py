"""What is there of a fleet in a network of Google's cloud: pure.

Besides its own firewalls, a fleet's groups have those of others that aim at their network tags:
these are firewalls of their own, and the group can go without them. Firewalls of others that stop
something are no openings and are not shown; neither are policies of folders and organisations.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cloud.changes import Change, Kind
from cloud.errors import CloudError
from cloud.gcp.firewalls import Firewall, Holder, altered, fold, mark_of, unfold
from cloud.names import ALL, HOST_MARK, group_prefix
from cloud.rules import Group, Rule, RuleKey, Source, State


@dataclass(frozen=True)
class Instance:
    """One instance that bears the fleet's label.

    Attributes:
        host: the label that says which host it is.
        tags: its network tags, whoever has put them there.
        fingerprint: which version of the tags this is.
        owner: the mark of the authority that it was made with, or "".
    """

    name: str
    zone: str
    host: str
    tags: frozenset[str]
    fingerprint: str = ""
    owner: str = ""


def by_host(instances: Iterable[Instance]) -> dict[str, Instance]:
    """Return instances by the hosts they say they are.

    Raises:
        CloudError: two of them say the same.
    """
    found: dict[str, Instance] = {}
    for instance in sorted(instances, key=lambda each: (each.name, each.zone)):
        other = found.setdefault(instance.host, instance)
        if other is not instance:
            raise CloudError(
                f"the instances {other.name} ({other.zone}) and {instance.name} ({instance.zone}) "
                f"both have the label {HOST_MARK}={instance.host}",
                hint="take it off the one that is not this host",
            )
    return found


def state(holder: Holder, firewalls: Sequence[Firewall], instances: Iterable[Instance]) -> State:
    """Return what is there.

    A group is there if a firewall of the fleet is marked as its own, or if an instance of the fleet
    is a member of it.

    Raises:
        CloudError: two instances say that they are the same host.
    """
    hosts = by_host(instances)
    own: dict[str, list[Firewall]] = {}
    others: list[Firewall] = []
    for firewall in firewalls:
        mark = mark_of(firewall.description)
        if mark is not None and holder.holds(firewall):
            own.setdefault(mark.group, []).append(firewall)
        else:
            others.append(firewall)
    # A host's label may stand for a name that is no label; the marks of firewalls know it.
    tags = {holder.tag(name): name for name in (*hosts, ALL, *own)}
    members = {
        host: frozenset(tags[tag] for tag in instance.tags & tags.keys())
        for host, instance in hosts.items()
    }
    taken = dict(_taken(holder, others))
    sources = _sources(holder, firewalls) | tags
    joined = {name for names in members.values() for name in names}
    present = {*own, *(joined - taken.keys())}
    groups = {
        name: Group(
            name=name,
            owner=holder.owner,
            rules={
                rule.key: rule
                for rule in (
                    *_own_rules(holder, name, own.get(name, []), sources),
                    *_foreign_rules(holder.tag(name), others, sources),
                )
            },
        )
        for name in present
    }
    groups |= {
        name: Group(name=name, owner=owner) for name, owner in taken.items() if name not in groups
    }
    return State(
        groups=groups,
        members=members,
        notices=tuple(_notices(others)),
        made={
            host: instance.name
            for host, instance in hosts.items()
            if holder.owner and instance.owner == holder.owner
        },
    )


def unpurgeable(
    holder: Holder, have: State, firewalls: Mapping[str, Firewall], changes: Iterable[Change]
) -> Iterator[str]:
    """Yield why a firewall of others cannot be removed, though its rules should be."""
    tags = {holder.tag(name) for name in have.groups}
    names = {
        change.rule.resource
        for change in changes
        if change.kind is Kind.REMOVE_RULE and change.rule is not None and change.rule.foreign
    }
    for name in sorted(names & firewalls.keys()):
        firewall = firewalls[name]
        beyond = sorted(firewall.targets - tags)
        if beyond:
            yield (
                f"the firewall {name} lets others into the fleet's groups, and is not removed, as "
                f"it is for {', '.join(beyond)} too: take the fleet's tags off its targets"
            )
        elif mark_of(firewall.description) is not None:
            yield f"the firewall {name} belongs to another fleet, and is not removed"


def _sources(holder: Holder, firewalls: Iterable[Firewall]) -> dict[str, str]:
    """Return the names of groups that firewalls let in, by their tags: a group may be gone."""
    prefix = group_prefix(holder.fleet)
    names = {tag: tag.removeprefix(prefix) for each in firewalls for tag in each.source_tags}
    return {tag: name for tag, name in names.items() if holder.tag(name) == tag}


def _taken(holder: Holder, others: Iterable[Firewall]) -> Iterator[tuple[str, str]]:
    """Yield the groups that somebody else's firewalls stand for, with the mark of the owner."""
    prefix = group_prefix(holder.fleet)
    for firewall in others:
        mark = mark_of(firewall.description)
        if mark is None and firewall.name.startswith(prefix):
            # Called by the firewall: it may be none of the groups that are wanted.
            yield firewall.name.removeprefix(prefix), ""
        elif mark is not None and mark.fleet == holder.fleet:
            yield mark.group, mark.owner


def _own_rules(
    holder: Holder, group: str, firewalls: Sequence[Firewall], tags: Mapping[str, str]
) -> Iterator[Rule]:
    """Yield the rules of a group's own firewalls.

    A firewall that somebody has altered does not do what it should, or more than that: its rules
    are not the rules that are wanted, but others, which go while those come back.
    """
    for firewall in firewalls:
        rules = _by_key(unfold(firewall, tags))
        made = fold(holder, Group(name=group, rules=rules))
        changed = altered(firewall, made)
        if not changed:
            yield from rules.values()
            continue
        shown = rules or _by_key([_emptied(firewall)])
        for rule in shown.values():
            purpose = f"{rule.purpose}; altered by hand: {', '.join(changed)}"
            yield rule.model_copy(update={"purpose": purpose, "resource": firewall.name})


def _by_key(rules: Iterable[Rule]) -> dict[RuleKey, Rule]:
    return {rule.key: rule for rule in rules}


def _emptied(firewall: Firewall) -> Rule:
    """Return what stands for a firewall that does not let in anything any more."""
    mark = mark_of(firewall.description)
    return Rule(
        protocol="nothing",
        first=0,
        last=0,
        source=Source(kind="network", name="anywhere"),
        purpose=mark.purpose if mark else "",
    )


def _foreign_rules(tag: str, others: Iterable[Firewall], tags: Mapping[str, str]) -> Iterator[Rule]:
    for firewall in others:
        if tag in firewall.targets and _opens(firewall):
            for rule in unfold(firewall, tags):
                yield rule.model_copy(update={"foreign": True, "resource": firewall.name})


def _notices(others: Iterable[Firewall]) -> Iterator[str]:
    for firewall in others:
        if _opens(firewall) and not firewall.targets and not firewall.accounts:
            rules = sorted({str(rule) for rule in unfold(firewall, {})})
            yield (
                f"the firewall {firewall.name} is for every instance of the network, the fleet's "
                f"too: {'; '.join(rules)}"
            )


def _opens(firewall: Firewall) -> bool:
    return firewall.direction == "INGRESS" and not firewall.disabled and bool(firewall.allowed)
