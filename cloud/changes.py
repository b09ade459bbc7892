"""What has to change so that a cloud has what is wanted: pure, and the same for every cloud.

One list of changes is what a check shows, what a run does and what a report of drift says.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum

from cloud.names import FLEET_MARK, group_name, label_of
from cloud.rules import Group, Rule, State
from runtime.spec.base import Frozen


class Kind(Enum):
    """What a change does, in the order of doing: a new way is there before an old one goes."""

    ADD_GROUP = "+ group"
    ADD_RULE = "+"
    JOIN = "+ member"
    LEAVE = "- member"
    REMOVE_RULE = "-"
    REMOVE_GROUP = "- group"


_ORDER = {kind: number for number, kind in enumerate(Kind)}


class Change(Frozen):
    """One change of one group.

    Attributes:
        group: the group's name.
        rule: what is added or removed, where that is a rule.
        member: the host whose instance joins or leaves, where that is what happens.
    """

    kind: Kind
    group: str
    rule: Rule | None = None
    member: str = ""

    def __str__(self) -> str:
        """Return the one line that a diff shows of it."""
        if self.rule is not None:
            purpose = f"  # {self.rule.purpose}" if self.rule.purpose else ""
            return f"{self.kind.value} {self.group}: {self.rule}{purpose}"
        member = f": the instance of {self.member}" if self.member else ""
        return f"{self.kind.value} {self.group}{member}"


def diff(have: State, want: State, purge: bool = False) -> tuple[Change, ...]:
    """Return what makes `want` of `have`, in the order in which to do it.

    Rules that somebody else has put into a group stay, and so does a group that holds such a rule,
    unless they are to be purged. Members are compared for hosts whose instances are known.
    """
    return tuple(sorted(_changes(have, want, purge), key=_order))


def after(have: State, changes: Iterable[Change]) -> State:
    """Return what is there once these changes are made."""
    groups = {name: dict(group.rules) for name, group in have.groups.items()}
    owners = {name: group.owner for name, group in have.groups.items()}
    members = {name: set(found) for name, found in have.members.items()}
    for change in changes:
        if change.kind is Kind.ADD_GROUP:
            groups.setdefault(change.group, {})
        elif change.kind is Kind.REMOVE_GROUP:
            groups.pop(change.group, None)
        elif change.kind is Kind.JOIN:
            members[change.member].add(change.group)
        elif change.kind is Kind.LEAVE:
            members[change.member].discard(change.group)
        elif change.rule is not None and change.kind is Kind.ADD_RULE:
            groups[change.group][change.rule.key] = change.rule
        elif change.rule is not None:
            groups[change.group].pop(change.rule.key, None)
    return State(
        groups={
            name: Group(name=name, owner=owners.get(name, ""), rules=rules)
            for name, rules in groups.items()
        },
        members={name: frozenset(found) for name, found in members.items()},
    )


def foreign(have: State) -> Iterator[tuple[str, Rule]]:
    """Yield the rules that others have put into the fleet's groups, with the group's name."""
    for name, group in sorted(have.groups.items()):
        for _, rule in sorted(group.rules.items()):
            if rule.foreign:
                yield name, rule


def missing_instances(have: State, want: State) -> list[str]:
    """Return the hosts of which no instance is known: no rule guards them."""
    return sorted(set(want.members) - set(have.members))


def conflicts(have: State, fleet: str, owner: str) -> list[str]:
    """Return the groups that bear a name of the fleet's and are not the fleet's."""
    problems = []
    for name, group in sorted(have.groups.items()):
        called = f"the group {group_name(fleet, name)}"
        if not group.owner:
            problems.append(
                f"{called} is there already and carries no tag {FLEET_MARK}: somebody else has "
                "made it. Rename or remove it, or give the fleet another name"
            )
        elif group.owner != owner:
            problems.append(
                f"{called} belongs to another fleet of the name {fleet}, whose authority is not "
                "the one of this machine: give one of the two another name, or bring that fleet's "
                "fleet.authority here"
            )
    return problems


def owned(have: State, owner: str) -> State:
    """Return what is the fleet's own of a state: of the rest, nothing is ever changed."""
    groups = {name: group for name, group in have.groups.items() if group.owner == owner}
    members = {host: names & frozenset(groups) for host, names in have.members.items()}
    return State(groups=groups, members=members, notices=have.notices)


def named(have: State, hosts: Iterable[str]) -> State:
    """Return a state with members by the names of hosts, where the cloud has but their labels."""
    names = {label_of(host): host for host in hosts}
    members = {names.get(label, label): groups for label, groups in have.members.items()}
    return have.model_copy(update={"members": members})


def text(state: State) -> list[str]:
    """Return a state as lines of a diff: one for each rule."""
    return [
        f"{name}: {rule}" + (f"  # {rule.purpose}" if rule.purpose else "")
        for name, group in sorted(state.groups.items())
        for rule in sorted(group.rules.values(), key=lambda rule: rule.key)
    ]


def by_group(changes: Sequence[Change], kind: Kind) -> dict[str, list[Rule]]:
    """Return the rules of the changes of a kind, by their groups."""
    found: dict[str, list[Rule]] = {}
    for change in changes:
        if change.kind is kind and change.rule is not None:
            found.setdefault(change.group, []).append(change.rule)
    return found


def _changes(have: State, want: State, purge: bool) -> Iterator[Change]:
    nothing = Group(name="")
    for name in want.groups.keys() - have.groups.keys():
        yield Change(kind=Kind.ADD_GROUP, group=name)
    for name, group in want.groups.items():
        held = have.groups.get(name, nothing).rules
        for key in group.rules.keys() - held.keys():
            yield Change(kind=Kind.ADD_RULE, group=name, rule=group.rules[key])
    for name, group in have.groups.items():
        kept = want.groups.get(name, nothing).rules
        left = [group.rules[key] for key in group.rules.keys() - kept.keys()]
        removed = [rule for rule in left if purge or not rule.foreign]
        for rule in removed:
            yield Change(kind=Kind.REMOVE_RULE, group=name, rule=rule)
        stays = not purge and any(rule.foreign and not rule.resource for rule in left)
        if name not in want.groups and not stays:
            yield Change(kind=Kind.REMOVE_GROUP, group=name)
    for host, groups in have.members.items():
        wanted = want.members.get(host, frozenset())
        for name in wanted - groups:
            yield Change(kind=Kind.JOIN, group=name, member=host)
        for name in groups - wanted:
            yield Change(kind=Kind.LEAVE, group=name, member=host)


def _order(change: Change) -> tuple[object, ...]:
    key = change.rule.key if change.rule else ("", 0, 0, "", "")
    return (_ORDER[change.kind], change.group, change.member, key)
