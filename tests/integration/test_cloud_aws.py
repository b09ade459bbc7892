"""A fleet's rules in AWS, made by boto3 in an EC2 on loopback."""

import pytest

from cloud.aws.driver import PERMISSIONS
from cloud.changes import Change, Kind, text
from cloud.drivers import driver
from cloud.errors import CloudError
from cloud.names import ALL
from cloud.rules import wanted
from tests.support.aws import StrictEc2
from tests.support.aws_site import Site, ec2, served, site
from tests.support.clouds import CLOUDS, OWNER
from tests.support.loopback import loopback_only

__all__ = ["ec2", "loopback_only", "served", "site"]

OTHER_OWNER = "fedcba9876543210"


def test_a_fleet_is_planned_made_found_complete_and_removed(site: Site, ec2: StrictEc2) -> None:
    fleet = site.fleet()
    instances = {host: site.instance(host) for host in ("gpu-0", "gpu-1")}
    before = site.network.groups()
    planned = site.plan(fleet)
    assert planned.notices == (
        "no instance has the tag stagefleet-host=gpu-2 of this fleet: nothing guards it",
    )
    assert site.network.groups() == before
    ec2.forget()
    assert sorted(site.apply(fleet)) == sorted(str(change) for change in planned.changes)
    # One call for all rules of a group; the group of all hosts has none.
    assert ec2.actions.count("AuthorizeSecurityGroupIngress") == 3
    found = site.plan(fleet)
    assert found.changes == ()
    assert text(found.have) == text(wanted(fleet, "aws"))
    assert site.network.attached(instances["gpu-1"]) == {
        "default",
        "stagefleet-lab-all",
        "stagefleet-lab-gpu-1",
    }
    tags = {tag["Key"]: tag["Value"] for tag in site.network.groups()["stagefleet-lab-all"]["Tags"]}
    assert tags == {
        "Name": "stagefleet-lab-all",
        "stagefleet-fleet": "lab",
        "stagefleet-owner": OWNER,
        "stagefleet-group": ALL,
    }
    assert site.apply(fleet) == []
    assert site.destroy(fleet)
    assert site.network.groups() == before
    assert site.network.attached(instances["gpu-1"]) == {"default"}
    assert site.destroy(fleet) == []


def test_one_more_network_is_one_line_and_one_call(site: Site, ec2: StrictEc2) -> None:
    site.apply(site.fleet())
    # As the operator types it; EC2 drops the bits of the host, and so does the fleet.
    more = {"service": "dht", "hosts": ["gpu-1"], "networks": ["198.51.100.7/24", "2001:db8::1/32"]}
    fleet = site.fleet(access=[more])
    lines = [
        "+ gpu-1: tcp 8002 from 198.51.100.0/24  # dht of stage 1",
        "+ gpu-1: tcp 8002 from 2001:db8::/32  # dht of stage 1",
    ]
    assert site.lines(fleet) == lines
    ec2.forget()
    assert site.apply(fleet) == lines
    assert [each for each in ec2.actions if not each.startswith("Describe")] == [
        "AuthorizeSecurityGroupIngress"
    ]
    assert site.lines(site.fleet()) == ["-" + line[1:] for line in lines]
    assert len(site.apply(site.fleet())) == 2


def test_what_others_did_is_reported_and_mended(site: Site) -> None:
    fleet = site.fleet()
    site.apply(fleet)
    stranger = site.network.group("stranger")
    ports = {"IpProtocol": "tcp", "FromPort": 9000, "ToPort": 9010}
    site.open_by_hand("stagefleet-lab-gpu-0", **ports, Ipv6Ranges=[{"CidrIpv6": "::/0"}])
    site.open_by_hand(
        "stagefleet-lab-gpu-0", IpProtocol="-1", UserIdGroupPairs=[{"GroupId": stranger}]
    )
    ping = {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1}
    described = {"CidrIp": "192.0.2.1/32", "Description": "ping, by hand"}
    site.open_by_hand("stagefleet-lab-gpu-0", **ping, IpRanges=[described])
    listed = [{"PrefixListId": "pl-12345678"}]
    site.open_by_hand("stagefleet-lab-gpu-0", **ports, PrefixListIds=listed)
    site.revoke_ssh("stagefleet-lab-gpu-1")
    found = site.plan(fleet)
    assert [str(change) for change in found.changes] == ["+ gpu-1: tcp 22 from 192.0.2.0/24  # ssh"]
    foreign = [
        f"all 0 from host {stranger}",
        "icmp type 8 0 from 192.0.2.1/32",
        "tcp 9000-9010 from host pl-12345678",
        "tcp 9000-9010 from ::/0",
    ]
    assert found.notices[:4] == tuple(
        f"rule of others in gpu-0: {rule}; --purge removes it" for rule in foreign
    )
    assert len(site.apply(fleet)) == 1
    assert site.plan(fleet).notices == found.notices
    assert site.apply(fleet, purge=True) == [
        f"- gpu-0: {foreign[0]}",
        f"- gpu-0: {foreign[1]}  # ping, by hand",
        *(f"- gpu-0: {rule}" for rule in foreign[2:]),
    ]
    assert len(site.plan(fleet).notices) == 3


def test_destroy_leaves_what_others_have_made(site: Site) -> None:
    fleet = site.fleet()
    other = site.network.group("stagefleet-web-gpu-0", stagefleet_fleet="web")
    host = site.network.instance()
    site.apply(fleet)
    world = [{"CidrIp": "0.0.0.0/0"}]
    site.open_by_hand(
        "stagefleet-lab-gpu-0", IpProtocol="tcp", FromPort=80, ToPort=80, IpRanges=world
    )
    site.destroy(fleet)
    left = site.network.groups()
    assert left.keys() == {"default", "stagefleet-web-gpu-0", "stagefleet-lab-gpu-0"}
    (kept,) = left["stagefleet-lab-gpu-0"]["IpPermissions"]
    assert (kept["FromPort"], kept["IpRanges"]) == (80, [{"CidrIp": "0.0.0.0/0"}])
    assert left["stagefleet-web-gpu-0"]["GroupId"] == other
    assert site.network.attached(host) == {"default"}
    site.destroy(fleet, purge=True)
    assert site.network.groups().keys() == {"default", "stagefleet-web-gpu-0"}


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({}, "stagefleet-lab-gpu-0 is there already and carries no tag stagefleet-fleet"),
        (
            {"stagefleet_fleet": "lab", "stagefleet_owner": OTHER_OWNER},
            "stagefleet-lab-gpu-0 belongs to another fleet of the name lab",
        ),
    ],
)
def test_a_group_of_a_name_of_ours_that_is_not_ours_is_refused(
    site: Site, tags: dict[str, str], reason: str
) -> None:
    fleet = site.fleet()
    site.network.group("stagefleet-lab-gpu-0", **tags)
    before = site.network.groups()
    with pytest.raises(CloudError, match=reason):
        site.apply(fleet)
    assert site.destroy(fleet) == []
    assert site.network.groups() == before


def test_fleets_whose_names_begin_alike_live_side_by_side(site: Site) -> None:
    one, two = site.fleet(), site.fleet(name="lab-2")
    first = site.instance("gpu-0")
    second = site.instance("gpu-0", fleet="lab-2")
    assert len(site.apply(one)) == len(site.apply(two, owner=OTHER_OWNER))
    assert site.apply(one) == site.apply(two, owner=OTHER_OWNER) == []
    assert len(site.network.groups()) == 9
    assert "stagefleet-lab-gpu-0" in site.network.attached(first)
    site.destroy(one)
    assert len(site.network.groups()) == 5
    assert site.network.attached(first) == {"default"}
    assert "stagefleet-lab-2-gpu-0" in site.network.attached(second)
    assert site.apply(two, owner=OTHER_OWNER) == []


def test_fleets_that_would_give_a_group_the_same_name_are_told(site: Site) -> None:
    two = site.fleet(name="lab-2")
    site.apply(two)
    # A host of "lab" called 2-gpu-0 has a group of the name that gpu-0 of "lab-2" has.
    provider = driver(two.clouds["aws"], "lab", OWNER)
    change = Change(kind=Kind.ADD_GROUP, group="2-gpu-0")
    with pytest.raises(CloudError, match="stagefleet-lab-2-gpu-0 is there already, and is not"):
        provider.apply(provider.read(), [change], lambda _: None)


def test_instances_join_and_leave_and_keep_the_groups_of_others(site: Site) -> None:
    fleet = site.fleet()
    site.apply(fleet)
    extra = site.network.group("extra")
    instance = site.instance("gpu-1")
    site.instance("gpu-1", fleet="another")
    interface = site.network.interface(instance)
    site.network.boto.modify_network_interface_attribute(
        NetworkInterfaceId=interface, Groups=[extra]
    )
    assert site.apply(fleet) == [
        "+ member *: the instance of gpu-1",
        "+ member gpu-1: the instance of gpu-1",
    ]
    assert site.network.attached(instance) == {
        "extra",
        "stagefleet-lab-all",
        "stagefleet-lab-gpu-1",
    }
    # It becomes another host.
    site.network.boto.create_tags(
        Resources=[instance], Tags=[{"Key": "stagefleet-host", "Value": "gpu-2"}]
    )
    assert site.apply(fleet) == [
        "+ member gpu-2: the instance of gpu-2",
        "- member gpu-1: the instance of gpu-2",
    ]
    site.destroy(fleet)
    assert site.network.attached(instance) == {"extra"}
    # It is in no group but the fleet's, and has to be in one.
    site.apply(fleet)
    ours = [site.network.groups()[f"stagefleet-lab-{name}"]["GroupId"] for name in ("all", "gpu-2")]
    site.network.boto.modify_network_interface_attribute(NetworkInterfaceId=interface, Groups=ours)
    site.destroy(fleet)
    assert site.network.attached(instance) == {"default"}


def test_a_run_without_changes_makes_as_few_calls_for_many_rules_as_for_few(
    site: Site, ec2: StrictEc2
) -> None:
    calls = []
    for count in (1, 50):
        fleet = site.fleet(operators=[f"192.0.2.{number}/32" for number in range(count)])
        site.apply(fleet)
        ec2.forget()
        assert site.apply(fleet) == []
        calls.append(list(ec2.actions))
    assert calls[0] == calls[1] == ["DescribeVpcs", "DescribeSecurityGroups", "DescribeInstances"]


def test_lists_of_many_pages_are_read_to_their_end(site: Site, ec2: StrictEc2) -> None:
    fleet = site.fleet(inside=4)
    for number in range(4):
        site.instance(f"gpu-{number}")
    ec2.page = 1
    site.apply(fleet)
    found = site.plan(fleet)
    assert found.changes == ()
    assert len(found.have.members) == 4
    assert len(site.destroy(fleet)) > 4


def test_no_more_permissions_are_used_than_are_asked_for(site: Site, ec2: StrictEc2) -> None:
    fleet = site.fleet()
    site.instance("gpu-0")
    ec2.forget()
    site.apply(fleet)
    ec2.refused["DeleteSecurityGroup"] = ["DependencyViolation"] * 3
    with pytest.raises(CloudError, match="something that AWS does not name"):
        site.destroy(fleet)
    # That of the tags is asked for by the call that makes a group with tags.
    assert {f"ec2:{action}" for action in ec2.actions} == {*PERMISSIONS} - {"ec2:CreateTags"}


@pytest.mark.parametrize("in_environment", [True, False])
def test_credentials_are_not_sent_over_plain_http(
    site: Site, ec2: StrictEc2, monkeypatch: pytest.MonkeyPatch, in_environment: bool
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "SECRET")
    fleet = site.fleet()
    if in_environment:
        monkeypatch.setenv("AWS_ENDPOINT_URL", site.endpoint)
        fleet = site.fleet(clouds=CLOUDS | {"aws": CLOUDS["aws"] | {"vpc": site.network.vpc}})
    assert site.plan(fleet).changes
    assert ec2.keys == {"nobody"}
