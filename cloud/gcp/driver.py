"""Google's cloud: a fleet's groups are network tags, and its rules firewalls that aim at these."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from cloud.changes import Change, Kind, after
from cloud.errors import CloudError
from cloud.gcp.api import Api, Patience, Pending, Task
from cloud.gcp.errors import Reason, RefusedError
from cloud.gcp.firewalls import Holder, excesses
from cloud.gcp.state import Instance, by_host, state, unpurgeable
from cloud.gcp.writes import Action, Write, additions, is_of, not_ours, removals, waits
from cloud.names import FLEET_MARK, HOST_MARK, label_of
from cloud.rules import State
from runtime.spec.clouds import GcpCloud

_MOST_TAGS: Final = 64
_TRIES: Final = 5
_ADDING: Final = frozenset({Kind.ADD_GROUP, Kind.ADD_RULE})
_REMOVING: Final = frozenset({Kind.REMOVE_RULE, Kind.REMOVE_GROUP})


class Gcp:
    """One network of Google's cloud; see `cloud.provider.Provider`."""

    def __init__(
        self, cloud: GcpCloud, fleet: str, owner: str, patience: Patience | None = None
    ) -> None:
        self._holder = Holder(fleet=fleet, owner=owner, network=cloud.network)
        self._api = Api(cloud, patience or Patience())

    def problems(self, want: State) -> list[str]:
        """Return which limits of the cloud `want` would exceed."""
        return [
            problem for group in want.groups.values() for problem in excesses(self._holder, group)
        ]

    def read(self) -> State:
        """Return the groups that bear the fleet's names, and the instances that bear its labels.

        Members are by the labels of their hosts.

        Raises:
            CloudError: the cloud cannot be asked, or two instances say that they are one host.
        """
        # A network that is not there has no firewalls either, and would seem to be in order.
        self._api.network()
        firewalls = self._api.firewalls()
        return state(self._holder, firewalls, self._api.instances(self._holder.fleet))

    def apply(self, have: State, changes: Sequence[Change], done: Callable[[Change], None]) -> None:
        """Make changes: new rules, then memberships, then what goes.

        Raises:
            CloudError: a change was refused, and those before it are made; or one would change
                what is not the fleet's, and nothing is made.
        """
        present = {firewall.name: firewall for firewall in self._api.firewalls()}
        problems = list(unpurgeable(self._holder, have, present, changes))
        if problems:
            raise CloudError("\n".join(problems))
        adding = [change for change in changes if change.kind in _ADDING]
        removing = [change for change in changes if change.kind in _REMOVING]
        final = after(have, changes)
        between = after(have, adding)
        groups = {change.group for change in adding}
        writes = list(additions(self._holder, present, (between, final), groups))
        self._write(writes, adding, done)
        present |= {write.name: write.firewall for write in writes}
        self._move([change for change in changes if change.member], done)
        writes = list(removals(self._holder, present, final, [*adding, *removing]))
        self._write(writes, removing, done)

    def _write(
        self, writes: Sequence[Write], changes: Collection[Change], done: Callable[[Change], None]
    ) -> None:
        """Write firewalls, and say of each change when nothing of it is left to write."""
        left = {write.name: write for write in writes}
        pending = list(changes)

        def report() -> None:
            waiting = []
            for change in pending:
                if waits(self._holder, change, left.values()):
                    waiting.append(change)
                else:
                    done(change)
            pending[:] = waiting

        report()
        for task in self._api.run([self._writing(write) for write in writes]):
            del left[task.name]
            report()

    def _writing(self, write: Write) -> Task:
        return Task(
            write.name,
            start=lambda: self._start(write),
            settle=lambda refused: self._settle(write, refused),
        )

    def _start(self, write: Write) -> Pending:
        if write.action is Action.INSERT:
            return self._api.insert(write.firewall)
        if write.action is Action.UPDATE:
            return self._api.update(write.firewall)
        return self._api.delete(write.name)

    def _settle(self, write: Write, refused: RefusedError) -> None:
        """Do what a refusal leaves to do, if that is anything."""
        if refused.reason is Reason.PASSING:
            again = write
        elif refused.reason is Reason.MISSING and write.action is Action.DELETE:
            return
        elif refused.reason is Reason.MISSING and write.action is Action.UPDATE:
            again = replace(write, action=Action.INSERT)
        elif refused.reason is Reason.EXISTS and write.action is Action.INSERT:
            there = self._api.firewall(write.name)
            if there is None or not is_of(self._holder, write.group, there):
                raise not_ours(write.name) from refused
            again = replace(write, action=Action.UPDATE)
        else:
            raise refused
        self._api.complete(lambda: self._start(again))

    def _move(self, changes: Sequence[Change], done: Callable[[Change], None]) -> None:
        """Set the network tags of instances that join and leave groups."""
        if not changes:
            return
        instances = by_host(self._api.instances(self._holder.fleet))
        moves: dict[str, list[Change]] = {}
        for change in changes:
            moves.setdefault(change.member, []).append(change)
        gone = sorted(host for host in moves if label_of(host) not in instances)
        if gone:
            raise CloudError(
                f"no instance has the label {HOST_MARK} of {', '.join(gone)} any more",
                hint="run the same command again: it looks which instances there are",
            )
        tasks = [
            self._moving(host, instances[label_of(host)], found) for host, found in moves.items()
        ]
        for task in self._api.run(tasks):
            for change in moves[task.name]:
                done(change)

    def _moving(self, host: str, instance: Instance, changes: Sequence[Change]) -> Task:
        def start(now: Instance = instance) -> Pending:
            return self._api.set_tags(now, self._tags(now, changes))

        def settle(refused: RefusedError) -> None:
            for _ in range(_TRIES):
                if refused.reason not in {Reason.STALE, Reason.PASSING}:
                    break
                now = self._api.instance(instance)
                try:
                    self._api.complete(partial(start, now))
                except RefusedError as error:
                    refused = error
                else:
                    return
            raise refused

        return Task(host, start, settle)

    def _tags(self, instance: Instance, changes: Sequence[Change]) -> frozenset[str]:
        """Return the network tags that an instance should have; those of others stay."""
        joined = {self._holder.tag(each.group) for each in changes if each.kind is Kind.JOIN}
        left = {self._holder.tag(each.group) for each in changes if each.kind is Kind.LEAVE}
        tags = (instance.tags - left) | joined
        if len(tags) > _MOST_TAGS:
            raise RefusedError(
                f"the instance {instance.name} has {len(instance.tags)} network tags, and with the "
                f"{len(joined)} of the fleet's groups more than the {_MOST_TAGS} it can have",
                f"take tags off it that nobody needs; the label {FLEET_MARK} is not one of them",
            )
        return tags
