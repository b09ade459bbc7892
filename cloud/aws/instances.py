"""Instances of a fleet in AWS: made, started, stopped and terminated by EC2."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cloud.aws.client import Ec2
from cloud.aws.convert import Answer, tags_of
from cloud.aws.errors import (
    ASKED_AND_ENDED,
    ASKED_OTHERWISE,
    NO_SUCH_GROUP,
    NO_SUCH_INSTANCE,
    RefusalError,
)
from cloud.aws.network import Network, filters
from cloud.aws.work import Work
from cloud.changes import Change as RuleChange
from cloud.changes import Kind
from cloud.errors import CloudError
from cloud.instances import Act, Change, Life, Seen
from cloud.names import ALL, FLEET_MARK, HOST_MARK, OWNER_MARK, group_name, marks_of_host
from runtime.spec.clouds import AwsCloud, Instance

PERMISSIONS: Final = (
    "ec2:CreateSecurityGroup",
    "ec2:CreateTags",
    "ec2:DescribeImages",
    "ec2:DescribeInstances",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeVpcs",
    "ec2:RunInstances",
    "ec2:StartInstances",
    "ec2:StopInstances",
    "ec2:TerminateInstances",
)
"""What an operator's credentials have to allow, besides those for rules (`cloud.aws`)."""

_LIVES: Final = {
    "pending": Life.STARTING,
    "running": Life.RUNNING,
    "stopping": Life.STOPPING,
    "stopped": Life.STOPPED,
    "shutting-down": Life.ENDING,
    "terminated": Life.ENDED,
}
_CALLS: Final = {
    Act.START: "start_instances",
    Act.STOP: "stop_instances",
    Act.TERMINATE: "terminate_instances",
}
_TOKENS: Final = 8
"""How many instances of one host may have ended and be forgotten, while their tokens are not."""


class AwsInstances:
    """The instances of a fleet in one virtual private cloud; see `instance_operation.Instances`."""

    def __init__(
        self,
        cloud: AwsCloud,
        fleet: str,
        owner: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make it; asks nobody.

        Args:
            cloud: where it is.
            fleet: the fleet's name.
            owner: the mark of the fleet's authority.
            sleep: waits for as many seconds.

        Raises:
            CloudError: what is said about credentials cannot be read.
        """
        self._ec2 = Ec2(cloud, sleep)
        self._network = Network(self._ec2, cloud.vpc, fleet, owner)

    def read(self) -> tuple[Seen, ...]:
        """Return the instances with the fleet's tags, and those that ended within the hour.

        Raises:
            RefusalError: AWS cannot be asked.
        """
        self._network.check()
        tagged = filters({f"tag:{FLEET_MARK}": self._network.fleet, "tag-key": HOST_MARK})
        found = self._ec2.all("describe_instances", "Reservations", Filters=tagged)
        # What has ended is in no network any more.
        return tuple(
            seen_of(each)
            for reservation in found
            for each in reservation["Instances"]
            if each.get("VpcId", self._network.vpc) == self._network.vpc
        )

    def begin(self, changes: Sequence[Change], begun: Callable[[Change], None]) -> None:
        """Ask for changes; the groups that instances are born into are made before.

        Raises:
            CloudError: EC2 refused one; those before it are begun.
        """
        making = [change for change in changes if change.instance is not None]
        if making:
            groups = self._groups([change.host for change in making])
            disks = self._root_disks(making)
        for change in changes:
            if change.instance is not None:
                tags = marks_of_host(self._network.fleet, self._network.owner, change.host)
                wanted = request(change.instance, tags)
                wanted["NetworkInterfaces"][0]["Groups"] = [groups[change.host], groups[ALL]]
                wanted["BlockDeviceMappings"][0]["DeviceName"] = disks[wanted["ImageId"]]
                self._create(change, tags, wanted)
            elif change.seen is not None:
                self._change(_CALLS[change.act], change.seen.id)
            begun(change)

    def _groups(self, hosts: Sequence[str]) -> dict[str, str]:
        """Return EC2's names of the groups of hosts and of the group of all; make what is not."""
        wanted = [*hosts, ALL]
        present = self._owned()
        missing = [
            RuleChange(kind=Kind.ADD_GROUP, group=name) for name in wanted if name not in present
        ]
        if missing:
            Work(self._network, missing, lambda _: None).do()
            self._ec2.wait_until(lambda: self._owned().keys() >= set(wanted))
            present = self._owned()
        unseen = sorted(set(wanted) - present.keys())
        if unseen:
            raise CloudError(
                f"the groups of {', '.join(unseen)} were made and are not seen yet",
                hint="wait a minute and run the same command again: it continues",
            )
        return present

    def _owned(self) -> dict[str, str]:
        found = self._network.groups()
        return {name: each.id for name, each in found.items() if self._network.owns(each)}

    def _root_disks(self, changes: Sequence[Change]) -> dict[str, str]:
        """Return how images name the disk that an instance starts from."""
        images = sorted({change.instance.image or "" for change in changes if change.instance})
        found = self._ec2.call("describe_images", ImageIds=images)["Images"]
        return {each["ImageId"]: each["RootDeviceName"] for each in found}

    def _create(
        self, change: Change, tags: Mapping[str, str], wanted: Mapping[str, object]
    ) -> None:
        for attempt in range(_TOKENS):
            said = token(self._network.vpc, tags, change.before, attempt)
            try:
                made = self._ec2.patiently(
                    {NO_SUCH_GROUP}, "run_instances", **wanted, ClientToken=said
                )
            except RefusalError as refused:
                # EC2 remembers a token for longer than it shows what was made with it.
                if refused.code == ASKED_AND_ENDED or (
                    refused.code == ASKED_OTHERWISE and not self._is_seen(said)
                ):
                    continue
                raise
            (found,) = made["Instances"]
            if _LIVES[found["State"]["Name"]] not in {Life.ENDING, Life.ENDED}:
                return
        raise CloudError(
            f"{_TOKENS} instances of {change.host} have ended in the last hours, and AWS remembers "
            "them",
            hint="wait an hour, or give the host another name",
        )

    def _is_seen(self, said: str) -> bool:
        """Return whether there is an instance that was asked for with a token, or soon will be."""
        found: list[Answer] = []

        def look() -> bool:
            asked = filters({"client-token": said})
            found[:] = self._ec2.all("describe_instances", "Reservations", Filters=asked)
            return bool(found)

        self._ec2.wait_until(look)
        lives = [_LIVES[each["State"]["Name"]] for one in found for each in one["Instances"]]
        return any(life not in {Life.ENDING, Life.ENDED} for life in lives)

    def _change(self, call: str, instance: str) -> None:
        try:
            self._ec2.call(call, InstanceIds=[instance])
        except RefusalError as refused:
            if refused.code != NO_SUCH_INSTANCE or call != "terminate_instances":
                raise


def request(wanted: Instance, tags: Mapping[str, str]) -> dict[str, Any]:
    """Return what is asked of EC2 for one instance, but for its groups, disk's name and token."""
    name = group_name(tags[FLEET_MARK], tags[HOST_MARK])
    marks = [{"Key": key, "Value": value} for key, value in {**tags, "Name": name}.items()]
    interface = {
        "DeviceIndex": 0,
        "SubnetId": wanted.subnet,
        "AssociatePublicIpAddress": wanted.public_address is not False,
        "DeleteOnTermination": True,
    }
    disk = {
        "VolumeSize": wanted.disk,
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    placed = {"Placement": {"GroupName": wanted.placement}} if wanted.placement else {}
    return {
        "ImageId": wanted.image,
        "InstanceType": wanted.type,
        "KeyName": wanted.key,
        "MinCount": 1,
        "MaxCount": 1,
        "NetworkInterfaces": [interface],
        "BlockDeviceMappings": [{"Ebs": disk}],
        # Without a token, whatever runs there and can be made to fetch an address has its role.
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpEndpoint": "enabled",
            "HttpPutResponseHopLimit": 1,
        },
        "TagSpecifications": [
            {"ResourceType": kind, "Tags": marks} for kind in ("instance", "volume")
        ],
        **placed,
    }


def token(vpc: str, tags: Mapping[str, str], before: Sequence[str], attempt: int) -> str:
    """Return by what EC2 knows that an instance was asked for already.

    Args:
        vpc: the network it is in.
        tags: the instance's; they name the authority, the fleet and the host.
        before: the host's instances that have ended: their tokens lead to them for ever.
        attempt: how many tokens in a row led to one that has ended and is shown no more.
    """
    parts = (vpc, tags[OWNER_MARK], tags[FLEET_MARK], tags[HOST_MARK], *before, str(attempt))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def seen_of(instance: Answer) -> Seen:
    """Return an instance as it is here."""
    tags = tags_of(instance)
    address = instance.get("PrivateIpAddress")
    disks = list(_disks(instance))
    reason = instance.get("StateReason", {}).get("Message", "")
    return Seen(
        id=instance["InstanceId"],
        host=tags[HOST_MARK],
        owner=tags.get(OWNER_MARK, ""),
        life=_LIVES[instance["State"]["Name"]],
        type=instance.get("InstanceType", ""),
        image=instance.get("ImageId", ""),
        addresses=(address,) if address else (),
        public_ip=instance.get("PublicIpAddress") or None,
        disks=tuple(name for name, goes in disks if goes),
        kept=tuple(name for name, goes in disks if not goes),
        zone=instance.get("Placement", {}).get("AvailabilityZone", ""),
        reason=reason,
    )


def _disks(instance: Answer) -> Iterator[tuple[str, bool]]:
    for each in instance.get("BlockDeviceMappings", ()):
        disk = each.get("Ebs", {})
        yield disk.get("VolumeId", ""), bool(disk.get("DeleteOnTermination"))
