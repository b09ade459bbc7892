"""Instances of a fleet in Google's cloud: made, started, stopped and terminated by its API."""

from collections.abc import Callable, Sequence

from cloud.errors import CloudError
from cloud.gcp.api import Api, Patience, Pending, Task
from cloud.gcp.errors import Reason, RefusedError
from cloud.gcp.firewalls import Holder
from cloud.gcp.machines import seen_of, wanted_machine
from cloud.instances import Act, Change, Seen
from cloud.names import HOST_MARK
from runtime.spec.clouds import GcpCloud


class GcpInstances:
    """The instances of a fleet in one network; see `instance_operation.Instances`."""

    def __init__(
        self, cloud: GcpCloud, fleet: str, owner: str, patience: Patience | None = None
    ) -> None:
        self._holder = Holder(fleet=fleet, owner=owner, network=cloud.network)
        self._project = cloud.project
        self._api = Api(cloud, patience or Patience())

    def read(self) -> tuple[Seen, ...]:
        """Return the instances with the fleet's labels; of those that have ended, there are none.

        Raises:
            RefusedError: the cloud cannot be asked.
        """
        self._api.network()
        return tuple(seen_of(each) for each in self._api.machines(self._holder.fleet))

    def begin(self, changes: Sequence[Change], begun: Callable[[Change], None]) -> None:
        """Ask for changes, some of them at once, and say of each when the cloud has done it.

        Raises:
            CloudError: one was refused; what was begun with it was brought to its end.
        """
        by_host = {change.host: change for change in changes}
        for task in self._api.run([self._task(change) for change in changes]):
            begun(by_host[task.name])

    def _task(self, change: Change) -> Task:
        return Task(
            change.host,
            start=lambda: self._start(change),
            settle=lambda refused: self._settle(change, refused),
        )

    def _start(self, change: Change) -> Pending:
        wanted, seen = change.instance, change.seen
        if wanted is not None:
            machine = wanted_machine(self._holder, change.host, wanted, self._project)
            return self._api.insert_machine(wanted.zone or "", machine)
        if seen is None:
            raise RefusedError(f"nothing is said of what to do with {change.host}")
        verb = {Act.START: "start", Act.STOP: "stop", Act.TERMINATE: "delete"}[change.act]
        return self._api.change_machine(verb, seen.zone, seen.id)

    def _settle(self, change: Change, refused: RefusedError) -> None:
        """Do what a refusal leaves to do, if that is anything."""
        if refused.reason is Reason.PASSING:
            self._api.complete(lambda: self._start(change))
        elif refused.reason is Reason.EXISTS and change.instance is not None:
            self._require_ours(change, refused)
        elif refused.reason is not Reason.MISSING or change.act is not Act.TERMINATE:
            raise refused

    def _require_ours(self, change: Change, refused: RefusedError) -> None:
        """See that an instance that is there already is the one that was asked for.

        Raises:
            CloudError: somebody else has made it.
        """
        name = self._holder.tag(change.host)
        for seen in self.read():
            if seen.id == name and seen.owner == self._holder.owner:
                return
        raise CloudError(
            f"there is an instance {name} already, and it was not made for this fleet in this "
            "network",
            hint=f"rename or delete it, or label it {HOST_MARK}={change.host} if it is this host",
        ) from refused
