"""What has to be done so that a cloud has the instances that are wanted: pure, for every cloud."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import Enum, StrEnum

from cloud.errors import CloudError
from cloud.names import HOST_MARK, label_of
from runtime.spec.base import Frozen
from runtime.spec.clouds import Instance


class Life(Enum):
    """Where an instance is between its start and its end, as an operator reads it."""

    STARTING = "is starting"
    RUNNING = "runs"
    STOPPING = "is stopping"
    STOPPED = "is stopped"
    ENDING = "is being terminated"
    ENDED = "is terminated"


_GONE = frozenset({Life.ENDING, Life.ENDED})


class Seen(Frozen):
    """An instance that says which host of the fleet it is, whoever has made it.

    Attributes:
        id: as the cloud's own tools call it.
        host: which host; where the cloud has labels only, the label of its name.
        owner: the mark of the authority it was made with, or "" if another tool has made it.
        image: "" where the cloud does not tell.
        addresses: the private ones.
        disks: those that go with it.
        kept: the disks that stay when it goes.
        zone: where it is.
        reason: why it is not running, if the cloud says so.
    """

    id: str
    host: str
    life: Life
    owner: str = ""
    type: str = ""
    image: str = ""
    addresses: tuple[str, ...] = ()
    public_ip: str | None = None
    disks: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    zone: str = ""
    reason: str = ""

    @property
    def lives(self) -> bool:
        """Whether it is there, running or not."""
        return self.life not in _GONE


class Act(Enum):
    """What is done with an instance, as a diff shows it."""

    CREATE = "+ instance"
    START = "start"
    STOP = "stop"
    TERMINATE = "- instance"


class Change(Frozen):
    """One thing to do with one host's instance.

    Attributes:
        instance: what is made, where that is what happens.
        seen: what is there, otherwise.
        before: the ids of the host's instances that have ended, by which the next is told from
            those that were.
    """

    act: Act
    host: str
    instance: Instance | None = None
    seen: Seen | None = None
    before: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the one line that a diff shows of it."""
        if self.instance is not None:
            where = self.instance.zone or self.instance.subnet
            what = f"{self.instance.type} from {self.instance.image}, {self.instance.disk} GiB"
            return f"{self.act.value} {self.host}: {what}, in {where}"
        return f"{self.act.value} {self.host}: {self.seen and _shown(self.seen, self.act)}"


class Verb(StrEnum):
    """What an operator asks for."""

    CREATE = "create"
    START = "start"
    STOP = "stop"
    TERMINATE = "terminate"


class Plan(Frozen):
    """What would be done.

    Attributes:
        changes: by the names of hosts.
        notices: what an operator should know and is not changed.
    """

    changes: tuple[Change, ...] = ()
    notices: tuple[str, ...] = ()


class Asked(Frozen):
    """What is asked for, of one cloud.

    Attributes:
        verb: what to do.
        want: the instances that the inventory wants there, by hosts.
        owner: the mark of the fleet's authority; "" while there is none.
        only: the hosts that were named; empty: all.
    """

    verb: Verb
    want: dict[str, Instance]
    owner: str
    only: frozenset[str] = frozenset()


def plan(asked: Asked, seen: Iterable[Seen]) -> Plan:
    """Return what does what is asked for, and nothing to instances of others.

    Raises:
        CloudError: two instances say that they are one host, or a host was named whose instance
            is somebody else's.
    """
    found = tuple(seen)
    live = living(found)
    if asked.verb is Verb.CREATE:
        ended = [each for each in found if not each.lives]
        return Plan(
            changes=tuple(_creations(asked, live, ended)), notices=tuple(_notices(asked, live))
        )
    _refuse(asked, live)
    ours = {
        host: each
        for host, each in sorted(live.items())
        if _is_own(asked, each) and (not asked.only or host in asked.only)
    }
    act, lives = _DONE_WITH[asked.verb]
    return Plan(
        changes=tuple(
            Change(act=act, host=host, seen=each)
            for host, each in ours.items()
            if each.life in lives
        ),
        notices=tuple(_left(asked, live)),
    )


_DONE_WITH = {
    Verb.START: (Act.START, {Life.STOPPED}),
    Verb.STOP: (Act.STOP, {Life.RUNNING, Life.STARTING}),
    Verb.TERMINATE: (Act.TERMINATE, {*Life} - _GONE),
}


def living(seen: Iterable[Seen]) -> dict[str, Seen]:
    """Return the instances that are there, running or not, by their hosts.

    Raises:
        CloudError: two of them say that they are the same host.
    """
    found: dict[str, Seen] = {}
    for each in sorted(seen, key=lambda each: each.id):
        if each.lives and found.setdefault(each.host, each) is not each:
            raise CloudError(
                f"two instances say {HOST_MARK}={each.host}: {found[each.host].id} and {each.id}",
                hint="take that tag off the one that is not this host, or terminate it in the "
                "cloud's own console",
            )
    return found


def named(seen: Iterable[Seen], hosts: Iterable[str]) -> tuple[Seen, ...]:
    """Return instances by the names of hosts, where the cloud has but their labels."""
    names = {label_of(host): host for host in hosts}
    return tuple(each.model_copy(update={"host": names.get(each.host, each.host)}) for each in seen)


def reached(change: Change, seen: Iterable[Seen]) -> bool:
    """Return whether a change that was begun has come to its end.

    Raises:
        CloudError: an instance that was made ended before it ran.
    """
    of_host = [each for each in seen if each.host == change.host]
    if change.seen is not None and change.act in {Act.STOP, Act.TERMINATE}:
        end = Life.STOPPED if change.act is Act.STOP else Life.ENDED
        now = [each.life for each in of_host if each.id == change.seen.id]
        return all(life in {end, Life.ENDED} for life in now)
    for each in of_host:
        if each.life is Life.RUNNING:
            hidden = change.instance is None or change.instance.public_address is False
            return bool(each.addresses) and (hidden or each.public_ip is not None)
        if not each.lives and change.act is Act.CREATE and each.id not in change.before:
            raise CloudError(
                f"the instance {each.id} of {change.host} ended before it ran: "
                f"{each.reason or 'the cloud does not say why'}",
                hint="mend the cause and run the same command again: it makes another one",
            )
    return False


def text(seen: Iterable[Seen]) -> list[str]:
    """Return what is there as lines of a diff: one for each instance."""
    return [
        f"{each.host}: {each.type or 'an instance'} {each.life.value}"
        for each in sorted(seen, key=lambda each: (each.host, each.id))
        if each.lives
    ]


def text_after(seen: Iterable[Seen], changes: Collection[Change]) -> list[str]:
    """Return what `text` does once these changes are made."""
    lives = {Act.START: Life.RUNNING, Act.STOP: Life.STOPPED, Act.TERMINATE: Life.ENDED}
    done = {change.seen.id: lives[change.act] for change in changes if change.seen is not None}
    made = [
        Seen(id="", host=change.host, life=Life.RUNNING, type=change.instance.type or "")
        for change in changes
        if change.instance is not None
    ]
    left = [each.model_copy(update={"life": done.get(each.id, each.life)}) for each in seen]
    return text([*left, *made])


def _is_own(asked: Asked, seen: Seen) -> bool:
    # Without an authority there is no mark, as on instances that are nobody's.
    return bool(asked.owner) and seen.owner == asked.owner


def _creations(asked: Asked, live: Mapping[str, Seen], ended: list[Seen]) -> Iterator[Change]:
    for host, instance in sorted(asked.want.items()):
        if host not in live and (not asked.only or host in asked.only):
            before = tuple(sorted(each.id for each in ended if each.host == host))
            yield Change(act=Act.CREATE, host=host, instance=instance, before=before)


def _notices(asked: Asked, live: Mapping[str, Seen]) -> Iterator[str]:
    """Yield what is there and is not what the inventory says: it is never replaced."""
    for host, seen in sorted(live.items()):
        instance = asked.want.get(host)
        if asked.only and host not in asked.only:
            continue
        if instance is not None and not _is_own(asked, seen):
            yield f"{host} is {seen.id}, which was not made with this fleet's authority: left alone"
        elif instance is None and _is_own(asked, seen):
            yield (
                f"{seen.id} was made for {host}, of which the inventory wants no instance here any "
                f"more: it {seen.life.value} and is paid for; terminate it with --host {host}"
            )
        if instance is None:
            continue
        for key in ("type", "image", "zone"):
            have, want = getattr(seen, key), getattr(instance, key)
            if have and want and have != want:
                yield (
                    f"{host}: {key} of {seen.id} is {have}, and the inventory says {want}: it "
                    "stays; terminate it and create it again, or correct the inventory"
                )
        if seen.life in {Life.STOPPED, Life.STOPPING}:
            yield f"{host}: {seen.id} {seen.life.value}: ./fleet cloud instances start"


def _refuse(asked: Asked, live: Mapping[str, Seen]) -> None:
    problems = [
        f"{live[host].id} of {host} was not made with this fleet's authority"
        for host in sorted(asked.only & live.keys())
        if not _is_own(asked, live[host])
    ]
    if problems:
        raise CloudError(
            "; ".join(problems),
            hint="what another tool has made, that tool stops and terminates",
        )


def _left(asked: Asked, live: Mapping[str, Seen]) -> Iterator[str]:
    for host, seen in sorted(live.items()):
        if not _is_own(asked, seen):
            yield f"left alone: {seen.id} of {host}, not made with this fleet's authority"
        elif asked.verb is Verb.START and seen.life is Life.STOPPING:
            yield f"{seen.id} of {host} is still stopping: start it once it has stopped"


def _shown(seen: Seen, act: Act) -> str:
    if act is not Act.TERMINATE:
        return seen.id
    disks = f", with {', '.join(seen.disks)}" if seen.disks else ""
    kept = f"; {', '.join(seen.kept)} stays" if seen.kept else ""
    return f"{seen.id} ({seen.type}, {seen.life.value}){disks}{kept}"
