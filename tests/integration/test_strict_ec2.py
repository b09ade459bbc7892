"""The EC2 of these tests refuses what the real one does, so that they show something."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.aws import IMAGE, Network, StrictEc2, network, serve
from tests.support.aws_instances import KEY
from tests.support.loopback import loopback_only  # noqa: F401 - it guards every test of this file

SSH = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
LAB = {"CidrIp": "192.0.2.0/24"}


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[StrictEc2, str]]:
    with serve() as found:
        yield found


@pytest.fixture
def site(served: tuple[StrictEc2, str]) -> Network:
    served[0].forget()
    return network(served[1])


def authorize(site: Network, group: str, *permissions: dict[str, Any]) -> None:
    site.boto.authorize_security_group_ingress(GroupId=group, IpPermissions=list(permissions))


def revoke(site: Network, group: str, *permissions: dict[str, Any]) -> None:
    site.boto.revoke_security_group_ingress(GroupId=group, IpPermissions=list(permissions))


@pytest.mark.parametrize(
    ("permissions", "code"),
    [
        ([SSH | {"ToPort": 70000, "IpRanges": [LAB]}], "InvalidParameterValue"),
        ([SSH | {"ToPort": 21, "IpRanges": [LAB]}], "InvalidParameterValue"),
        ([{"IpProtocol": "tcp", "IpRanges": [LAB]}], "InvalidParameterValue"),
        ([SSH | {"IpProtocol": "bogus", "IpRanges": [LAB]}], "InvalidParameterValue"),
        ([SSH], "InvalidParameterValue"),
        ([SSH | {"IpRanges": [{"CidrIp": "192.0.2.1"}]}], "InvalidParameterValue"),
        ([SSH | {"IpRanges": [{"CidrIp": "2001:db8::/32"}]}], "InvalidParameterValue"),
        ([SSH | {"IpRanges": [LAB | {"Description": "caf\u00e9"}]}], "InvalidParameterValue"),
        ([SSH | {"IpRanges": [LAB | {"Description": "x" * 256}]}], "InvalidParameterValue"),
        ([SSH | {"IpRanges": [LAB]}, SSH | {"IpRanges": [LAB]}], "InvalidParameterValue"),
        ([SSH | {"UserIdGroupPairs": [{"GroupId": "sg-0123"}]}], "InvalidGroup.NotFound"),
        (
            [SSH | {"IpRanges": [{"CidrIp": f"192.0.2.{n}/32"} for n in range(61)]}],
            "RulesPerSecurityGroupLimitExceeded",
        ),
    ],
)
def test_rules_that_ec2_does_not_take_are_refused_as_a_whole(
    site: Network, permissions: list[dict[str, Any]], code: str
) -> None:
    group = site.group("web")
    good = SSH | {"IpProtocol": "udp", "IpRanges": [LAB]}
    with pytest.raises(ClientError, match=code):
        authorize(site, group, good, *permissions)
    assert site.groups()["web"]["IpPermissions"] == []


def test_a_rule_is_the_same_whatever_its_description_and_its_host_bits(site: Network) -> None:
    group, other = site.group("web"), site.group("other")
    pairs = [{"GroupId": other, "Description": "one"}]
    authorize(site, group, SSH | {"IpRanges": [{"CidrIp": "192.0.2.7/24"}]})
    authorize(site, group, SSH | {"UserIdGroupPairs": pairs})
    (held,) = site.groups()["web"]["IpPermissions"]
    assert held["IpRanges"] == [LAB]
    for again in (
        {"IpRanges": [LAB | {"Description": "again"}]},
        {"UserIdGroupPairs": [{"GroupId": other, "Description": "two"}]},
    ):
        with pytest.raises(ClientError, match=r"InvalidPermission\.Duplicate"):
            authorize(site, group, SSH | again)
    revoke(site, group, SSH | {"UserIdGroupPairs": [{"GroupId": other}]})
    with pytest.raises(ClientError, match=r"InvalidPermission\.NotFound"):
        revoke(site, group, SSH | {"UserIdGroupPairs": [{"GroupId": other}]})
    assert len(site.groups()["web"]["IpPermissions"]) == 1


def test_sixty_rules_for_each_version_of_ip_fit(site: Network) -> None:
    group = site.group("web")
    authorize(
        site,
        group,
        SSH | {"IpRanges": [{"CidrIp": f"192.0.2.{n}/32"} for n in range(60)]},
        SSH | {"Ipv6Ranges": [{"CidrIpv6": f"2001:db8::{n:x}/128"} for n in range(59)]},
    )
    pairs = [{"GroupId": site.group("other")}]
    with pytest.raises(ClientError, match="RulesPerSecurityGroupLimitExceeded"):
        authorize(site, group, SSH | {"UserIdGroupPairs": pairs})


def test_a_group_in_use_is_not_deleted(site: Network) -> None:
    group, other = site.group("web"), site.group("other")
    authorize(site, other, SSH | {"UserIdGroupPairs": [{"GroupId": group}]})
    with pytest.raises(ClientError, match="DependencyViolation"):
        site.boto.delete_security_group(GroupId=group)
    revoke(site, other, SSH | {"UserIdGroupPairs": [{"GroupId": group}]})
    instance = site.instance()
    interface = site.interface(instance)
    site.boto.modify_network_interface_attribute(
        NetworkInterfaceId=interface, Groups=[group, other]
    )
    assert site.attached(instance) == {"web", "other"}
    with pytest.raises(ClientError, match="DependencyViolation"):
        site.boto.delete_security_group(GroupId=group)
    site.boto.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[other])
    assert site.attached(instance) == {"other"}
    site.boto.delete_security_group(GroupId=group)
    with pytest.raises(ClientError, match="InvalidParameterCombination"):
        site.boto.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=[])
    with pytest.raises(ClientError, match="SecurityGroupsPerInterfaceLimitExceeded"):
        site.boto.modify_network_interface_attribute(
            NetworkInterfaceId=interface, Groups=[site.group(f"more-{n}") for n in range(6)]
        )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"VpcId": "vpc-0123"}, r"InvalidVpcID\.NotFound"),
        ({"GroupName": "sg-web"}, "InvalidParameterValue"),
        ({"Description": "somebody's"}, "InvalidParameterValue"),
    ],
)
def test_groups_that_ec2_does_not_make_are_refused(
    site: Network, change: dict[str, str], code: str
) -> None:
    asked = {"VpcId": site.vpc, "GroupName": "web", "Description": "for the web"}
    with pytest.raises(ClientError, match=code):
        site.boto.create_security_group(**(asked | change))


def test_lists_come_in_pages(site: Network, served: tuple[StrictEc2, str]) -> None:
    for number in range(4):
        site.group(f"web-{number}")
    filters = [{"Name": "vpc-id", "Values": [site.vpc]}]
    served[0].page = 2
    answer = site.boto.describe_security_groups(Filters=filters)
    assert len(answer["SecurityGroups"]) == 2
    assert answer["NextToken"]
    assert len(site.groups()) == 5


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"InstanceType": "g99.xlarge"}, "InvalidParameterValue"),
        ({"ImageId": "ami-00000000"}, "InvalidAMIID.NotFound"),
        ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
        ({"SubnetId": "subnet-00000000"}, "InvalidSubnetID.NotFound"),
        ({"Groups": ["sg-00000000"]}, "InvalidGroup.NotFound"),
        ({"ClientToken": "x" * 65}, "InvalidParameterValue"),
    ],
)
def test_instances_that_ec2_would_not_make_are_not_made(
    site: Network, change: dict[str, Any], code: str
) -> None:
    with pytest.raises(ClientError) as found:
        run_instance(site, **change)
    assert found.value.response["Error"]["Code"] == code


def test_a_token_leads_to_one_instance_and_never_to_another(
    site: Network, served: tuple[StrictEc2, str]
) -> None:
    one = run_instance(site)
    assert run_instance(site) == one
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        run_instance(site, InstanceType="g5.2xlarge")
    site.boto.terminate_instances(InstanceIds=[one])
    with pytest.raises(ClientError, match="IdempotentInstanceTerminated"):
        run_instance(site)
    served[0].instances.looks = 2
    other = run_instance(site, ClientToken="another")
    states = [site.state(other) for _ in range(3)]
    assert states == ["pending", "running", "running"]
    site.boto.stop_instances(InstanceIds=[other])
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        site.boto.start_instances(InstanceIds=[other])


def run_instance(site: Network, **change: Any) -> str:
    group = site.groups()["default"]["GroupId"]
    card: dict[str, Any] = {"DeviceIndex": 0, "SubnetId": site.subnet, "Groups": [group]}
    card |= {key: change.pop(key) for key in ("SubnetId", "Groups") if key in change}
    asked: dict[str, Any] = {"ImageId": IMAGE, "InstanceType": "g5.xlarge", "KeyName": KEY}
    asked |= {"MinCount": 1, "MaxCount": 1, "ClientToken": f"token-of-{site.vpc}"}
    made = site.boto.run_instances(**asked | change, NetworkInterfaces=[card])
    return str(made["Instances"][0]["InstanceId"])
