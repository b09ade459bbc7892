"""Which firewalls of Google's cloud have to be written for changes of groups: pure."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from cloud.changes import Change
from cloud.errors import CloudError
from cloud.gcp.firewalls import Firewall, Holder, firewall_name, fits, fold, mark_of
from cloud.rules import State


class Action(Enum):
    """What is done with a firewall."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True)
class Write:
    """One firewall that is written.

    Attributes:
        firewall: what it is to be, or what goes.
        group: the group whose firewall it is, "" for somebody else's.
    """

    action: Action
    firewall: Firewall
    group: str

    @property
    def name(self) -> str:
        """The firewall's name."""
        return self.firewall.name


def additions(
    holder: Holder, present: Mapping[str, Firewall], states: tuple[State, State], groups: set[str]
) -> Iterator[Write]:
    """Yield what is needed so that no rule is missing; nothing goes.

    Args:
        holder: the fleet.
        present: the network's firewalls by their names.
        states: what is wanted before anything goes, and at the end.
        groups: those that change.

    Raises:
        CloudError: a firewall of somebody else has the name of one that is needed.
    """
    between, final = states
    for group in sorted(groups):
        ends = _made(holder, final, group)
        for name, firewall in sorted(_made(holder, between, group).items()):
            # Where old and new sources together do not fit, the firewall changes at once.
            made = firewall if fits(firewall) else ends.get(name, firewall)
            yield from _needed(holder, made, group, present)


def removals(
    holder: Holder,
    present: Mapping[str, Firewall],
    final: State,
    changes: Collection[Change],
) -> Iterator[Write]:
    """Yield what is needed so that groups have nothing but what `final` says.

    Args:
        holder: the fleet.
        present: the network's firewalls by their names.
        final: what is wanted at the end.
        changes: all that are made of groups and rules.

    Raises:
        CloudError: a firewall of somebody else has the name of one that is needed.
    """
    for group in sorted({change.group for change in changes if not change.member}):
        made = _made(holder, final, group)
        for _, firewall in sorted(made.items()):
            yield from _needed(holder, firewall, group, present)
        for name, firewall in sorted(present.items()):
            if name not in made and is_of(holder, group, firewall):
                yield Write(Action.DELETE, firewall, group)
    purged = {change.rule.resource for change in changes if change.rule and change.rule.foreign}
    for name in sorted(purged & present.keys()):
        yield Write(Action.DELETE, present[name], "")


def waits(holder: Holder, change: Change, left: Iterable[Write]) -> bool:
    """Return whether a change is not made before one of these writes is."""
    if change.rule is None:
        return any(write.group == change.group for write in left)
    name = change.rule.resource or firewall_name(holder, change.group, change.rule)
    return any(write.name == name for write in left)


def is_of(holder: Holder, group: str, firewall: Firewall) -> bool:
    """Return whether a firewall was made for a group of the fleet."""
    mark = mark_of(firewall.description)
    return mark is not None and mark.group == group and holder.holds(firewall)


def not_ours(name: str) -> CloudError:
    """Return what to say of a firewall whose name is needed."""
    return CloudError(
        f"there is a firewall {name} already, and it was not made for this fleet in this network",
        hint="rename or remove it, or give the fleet another name; one that this fleet has left "
        "in another network goes with ./fleet cloud destroy there",
    )


def _made(holder: Holder, wished: State, group: str) -> dict[str, Firewall]:
    found = wished.groups.get(group)
    return fold(holder, found) if found else {}


def _needed(
    holder: Holder, firewall: Firewall, group: str, present: Mapping[str, Firewall]
) -> Iterator[Write]:
    there = present.get(firewall.name)
    if there is None:
        yield Write(Action.INSERT, firewall, group)
        return
    if not is_of(holder, group, there):
        raise not_ours(firewall.name)
    firewall = firewall.model_copy(update={"logs": there.logs})
    if firewall != there:
        yield Write(Action.UPDATE, firewall, group)
