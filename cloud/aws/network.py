"""What is there in one virtual private cloud of AWS, as far as it is a fleet's."""

from collections.abc import Iterable, Sequence
from typing import Final

from cloud.aws import convert
from cloud.aws.client import Ec2
from cloud.aws.convert import Answer, Found
from cloud.names import FLEET_MARK, HOST_MARK

# Those that are gone for good still have tags for an hour.
_LIVING: Final = ("pending", "running", "stopping", "stopped")


class Network:
    """A virtual private cloud, looked at for one fleet.

    Attributes:
        ec2: whom to ask.
        vpc: its id.
        fleet: the fleet's name.
        owner: the mark of the fleet's authority.
    """

    def __init__(self, ec2: Ec2, vpc: str, fleet: str, owner: str) -> None:
        """Take where to look, and for whom; asks nobody."""
        self.ec2 = ec2
        self.vpc = vpc
        self.fleet = fleet
        self.owner = owner

    def check(self) -> None:
        """See that it is there.

        Raises:
            RefusalError: it is not, or it cannot be asked about.
        """
        # The list of the groups of a network that is not there is empty, and no error.
        self.ec2.call("describe_vpcs", VpcIds=[self.vpc])

    def groups(self) -> dict[str, Found]:
        """Return the security groups that bear names of the fleet's, by their plain names."""
        pattern = convert.name_pattern(self.fleet)
        return convert.found_groups(self.security_groups("group-name", pattern), self.fleet)

    def security_groups(self, filter_name: str, value: str) -> Iterable[Answer]:
        """Yield the security groups of the network that a filter lets through."""
        wanted = filters({"vpc-id": self.vpc, filter_name: value})
        return self.ec2.all("describe_security_groups", "SecurityGroups", Filters=wanted)

    def instances(self) -> dict[str, Answer]:
        """Return the instances that bear the fleet's tags, by their hosts."""
        wanted = filters(
            {
                "vpc-id": self.vpc,
                f"tag:{FLEET_MARK}": self.fleet,
                "tag-key": HOST_MARK,
                "instance-state-name": _LIVING,
            }
        )
        return convert.instances_by_host(
            self.ec2.all("describe_instances", "Reservations", Filters=wanted)
        )

    def owns(self, found: Found) -> bool:
        """Return whether a security group was made for this fleet."""
        # Without an authority there is no mark, as on groups that are nobody's.
        return bool(self.owner) and found.group.owner == self.owner


def filters(values: dict[str, str | Sequence[str]]) -> list[dict[str, object]]:
    """Return filters as EC2 takes them: all of them must hold, each for one of its values."""
    return [
        {"Name": name, "Values": [value] if isinstance(value, str) else list(value)}
        for name, value in values.items()
    ]
