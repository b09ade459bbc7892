"""Google's compute API, as far as fleets need it: calls that are repeated, and that end."""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import uuid4

import google.auth
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import RetryError
from google.api_core.retry import Retry
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from cloud.errors import CloudError
from cloud.gcp.errors import ERRORS, Reason, RefusedError, is_passing, operation_refusal, refusal
from cloud.gcp.firewalls import Firewall
from cloud.gcp.messages import firewall_of, instance_of, message_of
from cloud.gcp.state import Instance
from cloud.names import FLEET_MARK, HOST_MARK
from runtime.spec.clouds import GcpCloud

_SCOPE: Final = "https://www.googleapis.com/auth/compute"
_CALL_SECONDS: Final = 30
# The cloud itself answers after two minutes at the latest.
_WAIT_SECONDS: Final = 150
_AT_ONCE: Final = 20
_DONE: Final = compute_v1.Operation.Status.DONE

Result = TypeVar("Result")


@dataclass(frozen=True)
class Patience:
    """How long to try, all in seconds.

    Attributes:
        first, longest: between two tries; it doubles, and chance makes it shorter.
        call: how long a call is repeated that the cloud asks to repeat.
        operation: how long what was begun may take.
    """

    first: float = 1
    longest: float = 16
    call: float = 90
    operation: float = 300


@dataclass(frozen=True)
class Pending:
    """What was begun and has not ended.

    Attributes:
        doing: what it is, for errors.
        zone: where it is done, or "" for what is global.
        since: when it was begun, by the clock of `time.monotonic`.
    """

    operation: compute_v1.Operation
    doing: str
    zone: str = ""
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Task:
    """One thing to do, and what to do if it is refused.

    Attributes:
        name: by which whoever has asked for it knows it.
        start: begins it.
        settle: makes it good, or raises what it is given.
    """

    name: str
    start: Callable[[], Pending]
    settle: Callable[[RefusedError], None]


class _UnderwayError(Exception):
    """An operation has not ended."""


class Api:
    """The calls, for one network.

    Every call raises `RefusedError`.
    """

    def __init__(self, cloud: GcpCloud, patience: Patience) -> None:
        self._project = cloud.project
        self._network = cloud.network
        self._patience = patience
        self._again = Retry(
            predicate=is_passing,
            initial=patience.first,
            maximum=patience.longest,
            timeout=patience.call,
        )
        # Each client gets both: what a library makes of its own accord would ask Google, whatever
        # the endpoint.
        how = {
            "credentials": self._credentials(cloud.endpoint or ""),
            "client_options": ClientOptions(
                api_endpoint=(cloud.endpoint or "").rstrip("/") or None
            ),
        }
        self._networks = compute_v1.NetworksClient(**how)
        self._firewalls = compute_v1.FirewallsClient(**how)
        self._instances = compute_v1.InstancesClient(**how)
        self._global_operations = compute_v1.GlobalOperationsClient(**how)
        self._zone_operations = compute_v1.ZoneOperationsClient(**how)

    def network(self) -> str:
        """Return the network's address, by which others name it."""
        doing = f"find the network {self._network} of the project {self._project}"
        request = compute_v1.GetNetworkRequest(project=self._project, network=self._network)
        try:
            return self._call(doing, self._networks.get, request).self_link
        except RefusedError as error:
            # It may be the project that is missing.
            if error.reason is not Reason.MISSING or error.hint:
                raise
            raise RefusedError(
                Exception.__str__(error), "check the network's name in fleet.clouds"
            ) from error

    def firewalls(self) -> list[Firewall]:
        """Return every firewall of the network, whoever has made it."""
        request = compute_v1.ListFirewallsRequest(project=self._project)
        pages = self._pages("read the firewalls", self._firewalls.list, request)
        return [firewall_of(each) for each in pages if self._is_here(each.network)]

    def firewall(self, name: str) -> Firewall | None:
        """Return a firewall of the network, or None where it is none of this network's."""
        request = compute_v1.GetFirewallRequest(project=self._project, firewall=name)
        try:
            found = self._call(f"read the firewall {name}", self._firewalls.get, request)
        except RefusedError as error:
            if error.reason is Reason.MISSING:
                return None
            raise
        return firewall_of(found) if self._is_here(found.network) else None

    def insert(self, firewall: Firewall) -> Pending:
        """Begin to make a firewall."""
        request = compute_v1.InsertFirewallRequest(
            project=self._project,
            firewall_resource=message_of(firewall, self._path),
            request_id=str(uuid4()),
        )
        doing = f"make the firewall {firewall.name}"
        return Pending(self._call(doing, self._firewalls.insert_unary, request), doing)

    def update(self, firewall: Firewall) -> Pending:
        """Begin to make a firewall what it should be, whatever it is."""
        # A patch would leave lists as they are that have become empty.
        request = compute_v1.UpdateFirewallRequest(
            project=self._project,
            firewall=firewall.name,
            firewall_resource=message_of(firewall, self._path),
            request_id=str(uuid4()),
        )
        doing = f"change the firewall {firewall.name}"
        return Pending(self._call(doing, self._firewalls.update_unary, request), doing)

    def delete(self, name: str) -> Pending:
        """Begin to remove a firewall."""
        request = compute_v1.DeleteFirewallRequest(
            project=self._project, firewall=name, request_id=str(uuid4())
        )
        doing = f"remove the firewall {name}"
        return Pending(self._call(doing, self._firewalls.delete_unary, request), doing)

    def instances(self, fleet: str) -> list[Instance]:
        """Return the network's instances that say which host of a fleet they are."""
        return [instance_of(each) for each in self.machines(fleet)]

    def machines(self, fleet: str) -> list[compute_v1.Instance]:
        """Return what `instances` does, with all that the cloud says of them."""
        request = compute_v1.AggregatedListInstancesRequest(
            project=self._project, filter=f'labels.{FLEET_MARK} = "{fleet}"'
        )
        pages = self._pages("read the instances", self._instances.aggregated_list, request)
        return [
            each
            for _, zone in pages
            for each in zone.instances
            if each.labels.get(FLEET_MARK) == fleet
            and each.labels.get(HOST_MARK)
            and any(self._is_here(card.network) for card in each.network_interfaces)
        ]

    def insert_machine(self, zone: str, machine: compute_v1.Instance) -> Pending:
        """Begin to make an instance."""
        request = compute_v1.InsertInstanceRequest(
            project=self._project, zone=zone, instance_resource=machine, request_id=str(uuid4())
        )
        doing = f"make the instance {machine.name} in {zone}"
        return Pending(self._call(doing, self._instances.insert_unary, request), doing, zone=zone)

    def change_machine(self, verb: str, zone: str, name: str) -> Pending:
        """Begin to "start", "stop" or "delete" an instance."""
        methods = {
            "start": (self._instances.start_unary, compute_v1.StartInstanceRequest),
            "stop": (self._instances.stop_unary, compute_v1.StopInstanceRequest),
            "delete": (self._instances.delete_unary, compute_v1.DeleteInstanceRequest),
        }
        method, kind = methods[verb]
        request = kind(project=self._project, zone=zone, instance=name, request_id=str(uuid4()))
        doing = f"{verb} the instance {name}"
        return Pending(self._call(doing, method, request), doing, zone=zone)

    def instance(self, known: Instance) -> Instance:
        """Return an instance as it is now."""
        request = compute_v1.GetInstanceRequest(
            project=self._project, zone=known.zone, instance=known.name
        )
        return instance_of(
            self._call(f"read the instance {known.name}", self._instances.get, request)
        )

    def set_tags(self, instance: Instance, tags: frozenset[str]) -> Pending:
        """Begin to set an instance's network tags, if they still are what `instance` says."""
        request = compute_v1.SetTagsInstanceRequest(
            project=self._project,
            zone=instance.zone,
            instance=instance.name,
            tags_resource=compute_v1.Tags(items=sorted(tags), fingerprint=instance.fingerprint),
            request_id=str(uuid4()),
        )
        doing = f"set the network tags of the instance {instance.name}"
        operation = self._call(doing, self._instances.set_tags_unary, request)
        return Pending(operation, doing, zone=instance.zone)

    def finish(self, pending: Pending) -> None:
        """Wait until something has ended."""
        # What was begun together is given up together, and not one after the other.
        left = pending.since + self._patience.operation - time.monotonic()
        look = Retry(
            predicate=lambda error: isinstance(error, _UnderwayError),
            initial=self._patience.first / 4,
            maximum=self._patience.longest,
            timeout=max(left, self._patience.first),
        )
        try:
            ended = look(self._ended)(pending)
        except RetryError:
            raise RefusedError(
                f"could not {pending.doing}: it is still under way after "
                f"{self._patience.operation:g} seconds",
                "wait a while and run the same command again: it continues",
            ) from None
        refused = operation_refusal(ended, pending.doing, self._project)
        if refused:
            raise refused

    def complete(self, start: Callable[[], Pending]) -> None:
        """Begin something and wait until it has ended; begin again what may work in a moment."""

        def once() -> None:
            self.finish(start())

        try:
            self._again(once)()
        except RetryError as error:
            # Only refusals are tried again here, and the last of them is the cause.
            raise error.cause or error from None

    def run(self, tasks: Sequence[Task]) -> Iterator[Task]:
        """Do things, some of them at once, and yield each that is done.

        Raises:
            CloudError: one was refused; what had been begun with it was brought to its end.
        """
        todo = iter(tasks)
        while some := list(itertools.islice(todo, _AT_ONCE)):
            refused: CloudError | None = None
            begun: list[tuple[Task, Pending | RefusedError]] = []
            for task in some:
                begun.append((task, _begun(task)))
                if isinstance(begun[-1][1], RefusedError):
                    # The others would most likely be refused, too.
                    break
            for task, result in begun:
                try:
                    self._end(task, result)
                except CloudError as error:
                    refused = refused or error
                else:
                    yield task
            if refused:
                raise refused
            todo = itertools.chain(some[len(begun) :], todo)

    def _end(self, task: Task, result: Pending | RefusedError) -> None:
        if isinstance(result, RefusedError):
            task.settle(result)
            return
        try:
            self.finish(result)
        except RefusedError as error:
            task.settle(error)

    def _ended(self, pending: Pending) -> compute_v1.Operation:
        operation = pending.operation
        if operation.status == _DONE:
            return operation
        where = {"project": self._project, "operation": operation.name}
        # Not the operation's own `result`: it asks Google, with the operator's credentials,
        # whatever the endpoint.
        if pending.zone:
            operation = self._call(
                pending.doing,
                self._zone_operations.wait,
                compute_v1.WaitZoneOperationRequest(**where, zone=pending.zone),
                _WAIT_SECONDS,
            )
        else:
            operation = self._call(
                pending.doing,
                self._global_operations.wait,
                compute_v1.WaitGlobalOperationRequest(**where),
                _WAIT_SECONDS,
            )
        if operation.status != _DONE:
            raise _UnderwayError
        return operation

    def _call(
        self,
        doing: str,
        method: Callable[..., Result],
        request: Any,  # noqa: ANN401 - each method has a class of its own
        seconds: float = _CALL_SECONDS,
    ) -> Result:
        try:
            return method(request=request, retry=self._again, timeout=seconds)
        except ERRORS as error:
            raise refusal(error, doing, self._project) from error

    def _pages(
        self,
        doing: str,
        method: Callable[..., Any],
        request: Any,  # noqa: ANN401 - each method has a class of its own
    ) -> list[Any]:
        pages = self._call(doing, method, request)
        try:
            # The pages that follow are read here.
            return list(pages)
        except ERRORS as error:
            raise refusal(error, doing, self._project) from error

    def _credentials(self, endpoint: str) -> Any:  # noqa: ANN401 - of many kinds, untyped
        if endpoint.startswith("http:"):
            # Whoever listens in could use them.
            return AnonymousCredentials()
        try:
            credentials, _ = google.auth.default(scopes=[_SCOPE])
        except ERRORS as error:
            raise refusal(error, "find credentials", self._project) from error
        return credentials

    def _is_here(self, network: str) -> bool:
        return network.endswith(f"/{self._path}")

    @property
    def _path(self) -> str:
        return f"projects/{self._project}/global/networks/{self._network}"


def _begun(task: Task) -> Pending | RefusedError:
    try:
        return task.start()
    except RefusedError as error:
        return error
