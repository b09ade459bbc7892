"""Plan, apply, destroy: what is done with a cloud's rules, whichever cloud it is."""

from collections.abc import Callable

from cloud.changes import Change, conflicts, diff, foreign, missing_instances, named, owned
from cloud.errors import CloudError
from cloud.names import HOST_MARK, label_of
from cloud.provider import Provider
from cloud.rules import State, wanted
from runtime.spec.base import Frozen
from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet
from runtime.spec.flows import flows


class Wish(Frozen):
    """What is asked for.

    Attributes:
        fleet: the fleet.
        cloud: which of its clouds.
        owner: the mark of the fleet's authority, by which it knows its own groups.
        present: the rules should be there; False: nothing of the fleet should.
        allow_public: what the inventory says is open to the world may be.
        purge: rules of others in the fleet's groups are removed.
        without_instances: the instances that were made for the fleet go, too, before its rules.
    """

    fleet: Fleet
    cloud: str
    owner: str
    present: bool = True
    allow_public: bool = False
    purge: bool = False
    without_instances: bool = False


class Plan(Frozen):
    """What would be done.

    Attributes:
        have: what is there.
        want: what should be.
        changes: what makes the second of the first.
        notices: what an operator should know and is not changed.
    """

    have: State
    want: State
    changes: tuple[Change, ...]
    notices: tuple[str, ...] = ()


def plan(wish: Wish, provider: Provider) -> Plan:
    """Return what would be done; changes nothing.

    Raises:
        SpecError: the inventory does not say enough, or asks for what is never done.
        CloudError: the cloud cannot be asked, or holds what is not the fleet's.
    """
    want = wanted(wish.fleet, wish.cloud) if wish.present else State()
    problems = _unallowed(wish) + provider.problems(want)
    if problems:
        raise SpecError("\n".join(problems))
    have = provider.read()
    if have.made and not wish.present and not wish.without_instances:
        raise CloudError(
            "nothing would guard the instances that were made for this fleet: "
            + ", ".join(f"{host} ({each})" for host, each in sorted(have.made.items())),
            hint="terminate them before: ./fleet cloud instances terminate (playbook: "
            "-e cloud_instances=absent)",
        )
    taken = conflicts(have, wish.fleet.name, wish.owner)
    if taken and wish.present:
        raise CloudError("\n".join(taken))
    have = named(owned(have, wish.owner), wish.fleet.hosts)
    changes = diff(have, want, wish.purge)
    left = tuple(f"left alone: {each}" for each in taken)
    notices = (*left, *_notices(wish, have, want))
    return Plan(have=have, want=want, changes=changes, notices=notices)


def apply(wish: Wish, provider: Provider, done: Callable[[Change], None]) -> Plan:
    """Do what is planned, and look again: nothing must be left to do.

    Raises:
        SpecError: as `plan`.
        CloudError: as `plan`; or a change was refused, and which ones are made.
    """
    todo = plan(wish, provider)
    made = 0

    def count(change: Change) -> None:
        nonlocal made
        made += 1
        done(change)

    if not todo.changes:
        return todo
    try:
        provider.apply(todo.have, todo.changes, count)
    except CloudError as error:
        raise CloudError(
            f"{Exception.__str__(error)}\n{made} of {len(todo.changes)} changes are made",
            hint=error.hint or "mend the cause and run the same command again: it continues",
        ) from error
    left = plan(wish, provider).changes
    if left:
        lines = "\n".join(str(change) for change in left)
        raise CloudError(
            f"the cloud took every change, and still differs from what is wanted:\n{lines}",
            hint="somebody else may be changing it; run the command again",
        )
    return todo


def _unallowed(wish: Wish) -> list[str]:
    """Return the ports that the inventory opens to the world and this run does not."""
    if wish.allow_public or not wish.present:
        return []
    return [
        f"{flow.purpose} on {flow.host} is open to the world ({', '.join(flow.networks)}): "
        "allow it with --allow-public"
        for flow in flows(wish.fleet)
        if flow.public and wish.fleet.hosts[flow.host].cloud == wish.cloud
    ]


def _marked(host: str) -> str:
    """Return how an instance says that it is this host, in clouds of either kind."""
    label = label_of(host)
    return host if label == host else f"{host} (as a label of Google's cloud: {label})"


def _notices(wish: Wish, have: State, want: State) -> tuple[str, ...]:
    remedy = "" if wish.purge else "; --purge removes it"
    return (
        *(have.notices if want.groups else ()),
        *want.notices,
        *(f"rule of others in {group}: {rule}{remedy}" for group, rule in foreign(have)),
        *(
            f"no instance has the tag {HOST_MARK}={_marked(host)} of this fleet: nothing guards it"
            for host in missing_instances(have, want)
        ),
    )
