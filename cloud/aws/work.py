"""A run of changes in AWS: what is asked of EC2 for each, and what its refusals mean."""

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Final

from cloud.aws import convert
from cloud.aws.convert import Answer, Found
from cloud.aws.errors import (
    DUPLICATE_GROUP,
    DUPLICATE_RULE,
    NO_SUCH_GROUP,
    NO_SUCH_RULE,
    STILL_USED,
    TOO_MANY_RULES,
    RefusalError,
)
from cloud.aws.network import Network, filters
from cloud.changes import Change, Kind
from cloud.errors import CloudError
from cloud.names import PRODUCT, label_of
from cloud.rules import Group, Rule

_BATCHED: Final = frozenset({Kind.ADD_RULE, Kind.REMOVE_RULE, Kind.ADD_GROUP, Kind.REMOVE_GROUP})
"""What is done for one group after the other; the rest is done for all at once."""


class Work:
    """One run of changes; it knows what is there, and what it has made itself."""

    def __init__(
        self, network: Network, changes: Sequence[Change], done: Callable[[Change], None]
    ) -> None:
        """Take what is to be done.

        Args:
            network: where.
            changes: what.
            done: is called with each change that is made.
        """
        self._network = network
        self._ec2 = network.ec2
        self._changes = changes
        self._done = done
        self._made: set[Change] = set()
        self._groups: dict[str, Found] = {}

    def do(self) -> None:
        """Do it.

        Raises:
            CloudError: EC2 refused a change; those before it are made.
        """
        self._groups = {
            name: found
            for name, found in self._network.groups().items()
            if self._network.owns(found)
        }
        steps: dict[Kind, Callable[[str, list[Change]], None]] = {
            Kind.ADD_GROUP: self._add_group,
            Kind.ADD_RULE: self._add_rules,
            Kind.JOIN: self._move,
            Kind.LEAVE: self._move,
            Kind.REMOVE_RULE: self._remove_rules,
            Kind.REMOVE_GROUP: self._remove_group,
        }
        for (kind, group), run in groupby(self._changes, key=_batch):
            # What had to go early is gone.
            steps[kind](group, [change for change in run if change not in self._made])

    def _say(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._made.add(change)
            self._done(change)

    def _id(self, group: str) -> str:
        if group not in self._groups:
            raise CloudError(
                f"the group {self._called(group)} was there a moment ago, and is gone",
                hint="somebody else is changing the fleet's groups; run the same command again",
            )
        return self._groups[group].id

    def _called(self, group: str) -> str:
        return convert.security_group_name(self._network.fleet, group)

    def _add_group(self, group: str, changes: list[Change]) -> None:
        tags = convert.marks(self._network.fleet, self._network.owner, group)
        try:
            made = self._ec2.call(
                "create_security_group",
                GroupName=self._called(group),
                Description=f"{PRODUCT}: made for the fleet {self._network.fleet}",
                VpcId=self._network.vpc,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
            )
        except RefusalError as refused:
            # Another run may have been faster, or the answer to the first attempt was lost.
            if refused.code != DUPLICATE_GROUP:
                raise
            self._groups[group] = self._look_up(group)
        else:
            new = Group(name=group, owner=self._network.owner)
            self._groups[group] = Found(id=made["GroupId"], group=new, permissions={})
        self._say(changes)

    def _look_up(self, group: str) -> Found:
        """Return a group of ours that is there, though it may not be seen at once."""
        called = self._called(group)
        answers: list[Answer] = []

        def seen() -> bool:
            answers[:] = self._network.security_groups("group-name", called)
            return bool(answers)

        self._ec2.wait_until(seen)
        found = convert.found_groups(answers, self._network.fleet).get(group)
        if found is None or not self._network.owns(found):
            raise CloudError(
                f"the group {called} is there already, and is not this fleet's",
                hint="rename or remove it, or give the fleet or the host another name",
            )
        return found

    def _add_rules(self, group: str, changes: list[Change]) -> None:
        ids = {name: found.id for name, found in self._groups.items()}
        rules = _rules(changes)
        for rule in rules:
            if rule.source.kind == "group":
                self._id(rule.source.name)
        try:
            self._ec2.patiently(
                {NO_SUCH_GROUP},
                "authorize_security_group_ingress",
                GroupId=self._id(group),
                IpPermissions=[convert.permission(rule, ids) for rule in rules],
            )
        except RefusalError as refused:
            early = self._removals(group) if refused.code == TOO_MANY_RULES else []
            if early:
                # The new ones have room only where the old ones were.
                self._remove_rules(group, early)
                self._add_rules(group, changes)
            elif refused.code == DUPLICATE_RULE and len(changes) > 1:
                for change in changes:
                    self._add_rules(group, [change])
            elif refused.code == DUPLICATE_RULE:
                self._say(changes)
            else:
                raise
        else:
            self._say(changes)

    def _removals(self, group: str) -> list[Change]:
        """Return the removals of rules of a group that are still to come."""
        return [
            change
            for change in self._changes
            if change.kind is Kind.REMOVE_RULE
            and change.group == group
            and change not in self._made
        ]

    def _remove_rules(self, group: str, changes: list[Change]) -> None:
        found = self._groups.get(group)
        known = {} if found is None else found.permissions
        permissions = [known[rule.key] for rule in _rules(changes) if rule.key in known]
        try:
            if found is not None and permissions:
                self._ec2.call(
                    "revoke_security_group_ingress", GroupId=found.id, IpPermissions=permissions
                )
        except RefusalError as refused:
            if refused.code not in {NO_SUCH_RULE, NO_SUCH_GROUP}:
                raise
            if refused.code == NO_SUCH_RULE and len(changes) > 1:
                for change in changes:
                    self._remove_rules(group, [change])
                return
        self._say(changes)

    def _move(self, _: str, changes: list[Change]) -> None:
        """Let instances join or leave groups; those of others that they are in stay."""
        # Attaching replaces the list: the nearer the look, the less of others' changes is lost.
        instances = self._network.instances()
        for host, of_host in groupby(sorted(changes, key=_member), key=_member):
            run = list(of_host)
            # As `changes.named` has it, a host may be known by its label.
            instance = instances.get(host) or instances.get(label_of(host))
            if instance is not None:
                self._attach(instance, run)
            elif run[0].kind is Kind.JOIN:
                raise CloudError(
                    f"the instance of {host} was there a moment ago, and is gone",
                    hint="run the same command again",
                )
            self._say(run)

    def _attach(self, instance: Answer, changes: list[Change]) -> None:
        interface = convert.primary_interface(instance)
        if interface is None:
            raise CloudError(
                f"the instance {instance['InstanceId']} of {changes[0].member} has no network "
                "interface yet",
                hint="wait until it runs, and run the same command again",
            )
        attached = convert.attached(instance)
        groups = list(attached)
        for change in changes:
            if change.kind is Kind.JOIN and self._id(change.group) not in groups:
                groups.append(self._id(change.group))
            elif change.kind is Kind.LEAVE and change.group in self._groups:
                groups = [each for each in groups if each != self._id(change.group)]
        if groups != attached:
            self._ec2.patiently(
                {NO_SUCH_GROUP},
                "modify_network_interface_attribute",
                NetworkInterfaceId=interface["NetworkInterfaceId"],
                # An interface is always in one; that of the network's own is what AWS gives it.
                Groups=groups or [self._default()],
            )

    def _default(self) -> str:
        (group,) = self._network.security_groups("group-name", "default")
        return str(group["GroupId"])

    def _remove_group(self, group: str, changes: list[Change]) -> None:
        found = self._groups.get(group)
        try:
            if found is not None:
                self._ec2.patiently({STILL_USED}, "delete_security_group", GroupId=found.id)
        except RefusalError as refused:
            if refused.code == STILL_USED and found is not None:
                raise self._still_used(group, found) from refused
            if refused.code != NO_SUCH_GROUP:
                raise
        self._say(changes)

    def _still_used(self, group: str, found: Found) -> CloudError:
        interfaces = self._ec2.all(
            "describe_network_interfaces",
            "NetworkInterfaces",
            Filters=filters({"group-id": found.id}),
        )
        users = [
            f"network interface {each['NetworkInterfaceId']}"
            + (f" of {each['Attachment']['InstanceId']}" if _is_of_instance(each) else "")
            for each in interfaces
        ]
        for way in ("ip-permission.group-id", "egress.ip-permission.group-id"):
            users += [
                f"a rule of the security group {each['GroupId']} ({each['GroupName']})"
                for each in self._network.security_groups(way, found.id)
            ]
        return CloudError(
            f"the group {self._called(group)} ({found.id}) is still used by "
            f"{', '.join(dict.fromkeys(users)) or 'something that AWS does not name'}",
            hint="take it off there and run the same command again: it continues",
        )


def _is_of_instance(interface: Answer) -> bool:
    return "InstanceId" in interface.get("Attachment", {})


def _rules(changes: Iterable[Change]) -> list[Rule]:
    return [change.rule for change in changes if change.rule is not None]


def _member(change: Change) -> str:
    return change.member


def _batch(change: Change) -> tuple[Kind, str]:
    """Return what changes have in common that are made at once."""
    return (change.kind, change.group if change.kind in _BATCHED else "")
