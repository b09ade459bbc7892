"""A fleet's rules in AWS: a security group for each of its groups, attached to its instances."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from cloud.aws import convert
from cloud.aws.client import Ec2
from cloud.aws.network import Network
from cloud.aws.work import Work
from cloud.changes import Change, after, diff, named, owned
from cloud.names import OWNER_MARK
from cloud.rules import State
from runtime.spec.clouds import AwsCloud

PERMISSIONS: Final = (
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:CreateSecurityGroup",
    "ec2:CreateTags",
    "ec2:DeleteSecurityGroup",
    "ec2:DescribeInstances",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeVpcs",
    "ec2:ModifyNetworkInterfaceAttribute",
    "ec2:RevokeSecurityGroupIngress",
)
"""What an operator's credentials have to allow."""


class Aws:
    """The security groups of a fleet in one virtual private cloud.

    What leaves an instance stays as AWS has it: everything may.
    """

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

    def problems(self, want: State) -> list[str]:
        """Return which limits of AWS `want` would exceed."""
        return convert.problems(want)

    def read(self) -> State:
        """Return the security groups with the fleet's names and the instances with its tags.

        Raises:
            CloudError: AWS cannot be asked, or two instances say that they are the same host.
        """
        self._network.check()
        groups = self._network.groups()
        ids = {found.id: name for name, found in groups.items() if self._network.owns(found)}
        instances = self._network.instances()
        return State(
            groups={name: found.group for name, found in groups.items()},
            members={
                host: frozenset(ids[each] for each in convert.attached(instance) if each in ids)
                for host, instance in instances.items()
            },
            made={
                host: instance["InstanceId"]
                for host, instance in instances.items()
                if self._network.owner
                and convert.tags_of(instance).get(OWNER_MARK) == self._network.owner
            },
        )

    def apply(self, have: State, changes: Sequence[Change], done: Callable[[Change], None]) -> None:
        """Make changes, and wait until AWS shows them to those who ask.

        Raises:
            CloudError: AWS refused one; those of which `done` has been told are made.
        """
        Work(self._network, changes, done).do()
        expected = after(have, changes)
        # What is made is not seen at once by whoever looks.
        self._ec2.wait_until(lambda: not diff(self._own(have), expected))

    def _own(self, have: State) -> State:
        return named(owned(self.read(), self._network.owner), have.members)
