"""List, create, start, stop, terminate: what is done with instances, whichever cloud it is."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from cloud.errors import CloudError
from cloud.instances import Asked, Change, Plan, Seen, Verb, living, named, plan, reached
from runtime.spec.base import Frozen
from runtime.spec.errors import SpecError
from runtime.spec.fleet import Fleet


class Instances(Protocol):
    """What stagefleet needs of a cloud to make instances there; each cloud provides it."""

    def read(self) -> tuple[Seen, ...]:
        """Return the instances that bear the fleet's tags, those that ended a moment ago too.

        Raises:
            CloudError: the cloud cannot be asked.
        """

    def begin(self, changes: Sequence[Change], begun: Callable[[Change], None]) -> None:
        """Begin changes, and say of each when the cloud has taken it.

        What was asked for already is not done twice.

        Raises:
            CloudError: the cloud refused one; those before it are begun.
        """


@dataclass(frozen=True)
class Patience:
    """How to wait until the cloud has done what it was asked for, all in seconds.

    Attributes:
        first, longest: between two looks; it doubles.
        bound: how long at most.
        sleep: waits for as many seconds.
        clock: tells the time.
    """

    first: float = 2
    longest: float = 15
    bound: float = 600
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


class Run(Frozen):
    """What was or would be done in one cloud.

    Attributes:
        seen: what was there before.
        known: the hosts that have an instance there or should have one.
        plan: what was or would be done.
    """

    seen: tuple[Seen, ...]
    known: frozenset[str]
    plan: Plan


def look(
    verb: Verb,
    fleet: Fleet,
    cloud: str,
    provider: Instances,
    owner: str,
    only: Collection[str] = (),
) -> Run:
    """Return what would be done in one cloud; changes nothing.

    Args:
        verb: what is asked for.
        fleet: the fleet.
        cloud: which of its clouds.
        provider: what talks to it.
        owner: the mark of the fleet's authority; "" while there is none.
        only: hosts, those of other clouds among them; empty: all.

    Raises:
        CloudError: the cloud cannot be asked, or holds what must not be touched.
    """
    inside = [name for name, host in fleet.hosts.items() if host.cloud == cloud]
    want = {name: found for name in inside if (found := fleet.instance(name)) is not None}
    seen = named(provider.read(), fleet.hosts)
    known = frozenset({*want, *living(seen)})
    asked = Asked(verb=verb, want=want, owner=owner, only=known.intersection(only))
    if only and not asked.only:
        return Run(seen=seen, known=known, plan=Plan())
    return Run(seen=seen, known=known, plan=plan(asked, seen))


def require_known(only: Collection[str], runs: Collection[Run]) -> None:
    """See that each host that was named has an instance somewhere, or should have one.

    Raises:
        SpecError: it has none, and the inventory asks for none.
    """
    unknown = sorted(set(only).difference(*(run.known for run in runs)))
    if unknown:
        raise SpecError(
            f"there is no instance of {', '.join(unknown)}, and the inventory asks for none",
            hint="add fleet_host.instance to the host; {} where its cloud says all of it",
        )


def do(
    run: Run,
    fleet: Fleet,
    cloud: Instances,
    say: Callable[[str], None],
    patience: Patience | None = None,
) -> None:
    """Do what is planned, and wait until it is done.

    Args:
        run: what `look` has returned.
        fleet: the fleet.
        cloud: where.
        say: is told of each change when it is begun and when it has come to its end.
        patience: how long to wait.

    Raises:
        CloudError: a change was refused or took too long; with what is done and what is not.
    """
    begun: list[Change] = []

    def taken(change: Change) -> None:
        begun.append(change)
        say(f"{change} (begun)")

    refused: list[CloudError] = []
    try:
        cloud.begin(run.plan.changes, taken)
    except CloudError as error:
        refused.append(error)
    # What was begun is brought to its end, whatever became of the others.
    left = list(begun)
    try:
        _wait(left, fleet, cloud, say, patience or Patience())
    except CloudError as error:
        refused.append(error)
    if refused:
        said = [*map(Exception.__str__, refused)]
        made = f"{len(begun) - len(left)} of {len(run.plan.changes)} changes of instances are made"
        raise CloudError(
            "\n".join([*said, made]),
            hint=refused[0].hint or "mend the cause and run the same command again: it continues",
        ) from refused[0]


def _wait(
    left: list[Change],
    fleet: Fleet,
    cloud: Instances,
    say: Callable[[str], None],
    patience: Patience,
) -> None:
    """Wait until nothing is left of `left`."""
    pause, until = patience.first, patience.clock() + patience.bound
    while left:
        seen = named(cloud.read(), fleet.hosts)
        for change in [each for each in left if reached(each, seen)]:
            left.remove(change)
            say(f"{change} (done)")
        if not left:
            return
        if patience.clock() >= until:
            raise CloudError(
                f"waited {patience.bound:g} seconds for {', '.join(_waited(left, seen))}",
                hint="it may still come: look with ./fleet cloud instances list, and run the same "
                "command again: it continues",
            )
        patience.sleep(pause)
        pause = min(2 * pause, patience.longest)


def _waited(left: Sequence[Change], seen: Sequence[Seen]) -> list[str]:
    there = living(seen)
    return [
        f"{change.host}: {there[change.host].id} {there[change.host].life.value}"
        if change.host in there
        else f"{change.host}: its instance is not seen yet"
        for change in left
    ]
