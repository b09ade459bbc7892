"""What EC2 refuses of instances and moto does not, and how long what EC2 does takes."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

from moto.ec2.models.instance_types import INSTANCE_TYPES

from tests.support.aws_rules import RefusedError, backend, check_attached, nested

KEY: Final = "operators"
"""A key pair that is there."""

_TAGGED: Final = {"instance", "volume", "network-interface", "spot-instances-request"}
_BEFORE: Final = {"running": ("pending", 0), "stopped": ("stopping", 64)}
_ENDING: Final = ("shutting-down", 32)


@dataclass
class Instances:
    """What EC2 remembers of calls about instances.

    Attributes:
        looks: how often instances have to be looked at before they are what they were asked to be.
        known: by tokens, a digest of what was asked, the instance, and the answer.
        underway: by instances, how many looks are left, and the state that follows.
    """

    looks: int = 0
    known: dict[str, tuple[str, str, bytes]] = field(default_factory=dict)
    underway: dict[str, tuple[int, str, int]] = field(default_factory=dict)

    def asked(self, form: dict[str, str]) -> bytes | None:
        """Return the answer to a call that was made before, or None for a new one.

        Raises:
            RefusedError: EC2 would not make such an instance.
        """
        token = form.get("ClientToken", "")
        if not token or len(token) > 64:
            raise RefusedError("InvalidParameterValue", "Invalid client token")
        if token not in self.known:
            _check(nested(form))
            return None
        digest, instance, answer = self.known[token]
        if digest != _digest(form):
            raise RefusedError(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in "
                "previous request(s).",
            )
        if _state(instance) in {"terminated", "shutting-down"}:
            raise RefusedError(
                "IdempotentInstanceTerminated",
                "Client token was used with an instance that has been terminated.",
            )
        return answer

    def by_id(self, form: dict[str, str]) -> dict[str, str]:
        """Return a question after instances by their tokens, which moto does not filter by."""
        asked = dict(form)
        for key, name in form.items():
            if name == "client-token":
                value = key.replace(".Name", ".Value.1")
                asked |= {key: "instance-id", value: self.known.get(form[value], ("", "i-0"))[1]}
        return asked

    def made(self, form: dict[str, str], instance: str, answer: bytes) -> None:
        """Remember a call that was made."""
        self.known[form["ClientToken"]] = (_digest(form), instance, answer)
        self.changed(instance)

    def pass_an_hour(self) -> None:
        """Show what has ended no more; its token is still known."""
        held = backend()
        for name, reservation in list(held.reservations.items()):
            reservation.instances = [
                each for each in reservation.instances if each.state != "terminated"
            ]
            if not reservation.instances:
                del held.reservations[name]

    def pass_a_day(self) -> None:
        """Know nothing more of what has ended: with all that ends, tests become slow."""
        self.pass_an_hour()
        self.known = {
            said: each for said, each in self.known.items() if _state(each[1]) != "terminated"
        }

    def check_change(self, action: str, instance: str) -> None:
        """See that an instance may be started or stopped, and is not about to be otherwise."""
        state = _instance(instance).state
        allowed = {
            "StartInstances": {"stopped", "running", "pending"},
            "StopInstances": {"running", "stopping", "stopped"},
        }
        if state not in allowed.get(action, {state}):
            raise RefusedError(
                "IncorrectInstanceState",
                f"The instance '{instance}' is not in a state from which it can be changed.",
            )

    def changed(self, instance: str) -> None:
        """Let what was asked for take a while."""
        if self.looks:
            state = _instance(instance)._state
            self.underway[instance] = (self.looks, state.name, state.code)
            state.name, state.code = _BEFORE.get(state.name, _ENDING)

    def looked(self) -> None:
        """Let instances come a step nearer to what they were asked to be."""
        for instance, (left, name, code) in list(self.underway.items()):
            if left > 1:
                self.underway[instance] = (left - 1, name, code)
                continue
            state = _instance(instance)._state
            state.name, state.code = name, code
            del self.underway[instance]


def _instance(name: str) -> Any:
    try:
        return backend().get_instance(name)
    except Exception as error:  # moto has several for it
        raise RefusedError(
            "InvalidInstanceID.NotFound", f"The instance ID '{name}' does not exist"
        ) from error


def _state(name: str) -> str:
    try:
        return str(_instance(name).state)
    except RefusedError:
        return "terminated"


def _digest(form: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(form.items())).encode()).hexdigest()


def _check(tree: dict[str, Any]) -> None:
    kind = tree.get("InstanceType", "m1.small")
    if kind not in INSTANCE_TYPES:
        raise RefusedError("InvalidParameterValue", f"Invalid value '{kind}' for InstanceType.")
    image = backend().amis.get(tree["ImageId"])
    if image is None:
        raise RefusedError(
            "InvalidAMIID.NotFound", f"The image id '[{tree['ImageId']}]' does not exist"
        )
    if tree.get("KeyName") not in {None, KEY}:
        raise RefusedError(
            "InvalidKeyPair.NotFound", f"The key pair '{tree['KeyName']}' does not exist"
        )
    if "NetworkInterface" in tree:
        if {"SubnetId", "SecurityGroupId"} & tree.keys():
            raise RefusedError(
                "InvalidParameterCombination",
                "Network interfaces and an instance-level subnet ID may not be specified on the "
                "same request",
            )
        for interface in tree["NetworkInterface"].values():
            _check_interface(interface)
    for disk in tree.get("BlockDeviceMapping", {}).values():
        _check_disk(disk, image)
    for tagged in tree.get("TagSpecification", {}).values():
        if tagged["ResourceType"] not in _TAGGED:
            raise RefusedError("InvalidParameterValue", f"'{tagged['ResourceType']}' has no tags")


def _check_interface(interface: dict[str, Any]) -> None:
    found = [
        subnet
        for zone in backend().subnets.values()
        for name, subnet in zone.items()
        if name == interface["SubnetId"]
    ]
    if not found:
        raise RefusedError(
            "InvalidSubnetID.NotFound", f"The subnet ID '{interface['SubnetId']}' does not exist"
        )
    groups = list(interface.get("SecurityGroupId", {}).values())
    check_attached(groups)
    if any(backend().get_security_group_from_id(each).vpc_id != found[0].vpc_id for each in groups):
        raise RefusedError(
            "InvalidParameter", "Security group and subnet belong to different networks."
        )


def _check_disk(disk: dict[str, Any], image: Any) -> None:
    if disk["DeviceName"] == image.root_device_name and int(disk["Ebs"].get("VolumeSize", 8)) < 8:
        raise RefusedError(
            "InvalidBlockDeviceMapping", "Volume is smaller than snapshot, expect size >= 8GB"
        )
