"""What AWS refuses, loses, repeats and lets others do while a fleet's rules are made."""

import contextlib
from collections.abc import Callable

import pytest

from cloud.aws import client
from cloud.changes import Change, diff
from cloud.errors import CloudError
from cloud.rules import Group, State, wanted
from runtime.spec.errors import SpecError
from tests.support.aws import CLOSED, LOST, StrictEc2
from tests.support.aws_site import Site, ec2, served, site
from tests.support.clouds import CLOUDS
from tests.support.loopback import loopback_only

__all__ = ["ec2", "loopback_only", "served", "site"]


def test_two_instances_that_say_they_are_one_host_are_named(site: Site) -> None:
    both = sorted(site.instance("gpu-1") for _ in range(2))
    with pytest.raises(CloudError, match=f"stagefleet-host=gpu-1: {both[0]} and {both[1]}"):
        site.plan(site.fleet())
    site.network.boto.terminate_instances(InstanceIds=both[:1])
    assert site.plan(site.fleet()).have.members == {"gpu-1": frozenset()}


@pytest.mark.slow
@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("faults", [("RequestLimitExceeded", "InternalError", CLOSED), (LOST,)])
def test_a_fault_at_any_call_is_mended_by_the_next_run(
    site: Site, ec2: StrictEc2, faults: tuple[str, ...], present: bool
) -> None:
    fleet = site.fleet(inside=2)
    instance = site.instance("gpu-0")
    number, faulted = 0, True
    while faulted:
        site.apply(fleet, present=not present)
        ec2.forget()
        ec2.faults[number] = faults[number % len(faults)]
        with contextlib.suppress(CloudError):
            site.apply(fleet, present=present)
        faulted = not ec2.faults
        ec2.forget()
        site.apply(fleet, present=present)
        assert site.lines(fleet, present=present) == []
        assert len(site.network.attached(instance)) == (3 if present else 1)
        assert len(site.network.groups()) == (4 if present else 1)
        number += 1
    assert number > 10


def test_what_a_call_asks_to_repeat_is_repeated(
    site: Site, ec2: StrictEc2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_ATTEMPTS", 3)
    # An answer that is lost makes the second attempt find its own group.
    ec2.faults |= {5: LOST, 6: "RequestLimitExceeded"}
    fleet = site.fleet(inside=1)
    assert len(site.apply(fleet)) == len(site.plan(fleet, present=False).changes)
    assert not ec2.faults
    assert ec2.actions[4:8] == ["CreateSecurityGroup"] * 4
    assert ec2.actions[8] == "DescribeSecurityGroups"


def test_rules_find_room_where_old_ones_were(site: Site, ec2: StrictEc2) -> None:
    old, new = (
        site.fleet(inside=1, operators=[f"192.0.{third}.{number}/32" for number in range(50)])
        for third in (2, 3)
    )
    site.apply(old)
    ec2.forget()
    assert len(site.apply(new)) == 100
    changing = [each for each in ec2.actions if not each.startswith("Describe")]
    assert changing == [
        "AuthorizeSecurityGroupIngress",
        "RevokeSecurityGroupIngress",
        "AuthorizeSecurityGroupIngress",
    ]
    with pytest.raises(SpecError, match=r"group of host gpu-0 needs \d+ rules for IPv4"):
        site.apply(site.fleet(operators=[f"192.0.2.{number}/32" for number in range(60)]))


def test_a_rule_that_somebody_made_meanwhile_counts_as_made(site: Site, ec2: StrictEc2) -> None:
    fleet = site.fleet()
    site.apply(fleet)
    site.revoke_ssh("stagefleet-lab-gpu-1")
    provider = site.provider(fleet)
    held = site.plan(fleet).have
    removals = site.plan(fleet, present=False).changes
    want = wanted(fleet, "aws")
    added = diff(State(groups={name: Group(name=name) for name in want.groups}), want)
    said: list[Change] = []
    provider.apply(held, added, said.append)
    assert tuple(said) == added
    assert site.lines(fleet) == []
    # And what is gone already counts as removed.
    for _ in range(2):
        said.clear()
        provider.apply(held, removals, said.append)
        assert tuple(said) == removals
    assert "RevokeSecurityGroupIngress" in ec2.actions


def test_what_a_stranger_put_in_the_place_of_ours_meanwhile_is_left_alone(site: Site) -> None:
    fleet = site.fleet(inside=1)
    site.network.group("stagefleet-lab-gpu-0")
    ports = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
    site.open_by_hand("stagefleet-lab-gpu-0", **ports, IpRanges=[{"CidrIp": "192.0.2.0/24"}])
    before = site.network.groups()
    want = wanted(fleet, "aws")
    provider = site.provider(fleet)
    for changes, reason in (
        (diff(State(), want)[1:2], "is there already, and is not this fleet's"),
        (diff(State(), want)[2:], "stagefleet-lab-gpu-0 was there a moment ago, and is gone"),
    ):
        with pytest.raises(CloudError, match=reason):
            provider.apply(State(), changes, lambda _: None)
    said: list[Change] = []
    provider.apply(want, diff(want, State()), said.append)
    assert len(said) == len(diff(want, State()))
    assert site.network.groups() == before


def test_a_look_that_comes_too_early_is_repeated(site: Site, ec2: StrictEc2) -> None:
    fleet = site.fleet(inside=1)
    assert site.apply(fleet)
    look = ec2.actions[6:].index("DescribeSecurityGroups") + 6
    assert ec2.actions[look - 2 : look] == ["AuthorizeSecurityGroupIngress", "DescribeVpcs"]
    site.destroy(fleet)
    ec2.forget()
    ec2.blind.add(look)
    assert site.apply(fleet)
    assert site.lines(fleet) == []


def test_what_ec2_has_not_seen_yet_or_has_lost_meanwhile_stops_nothing(
    site: Site, ec2: StrictEc2
) -> None:
    fleet = site.fleet()
    site.instance("gpu-0")
    # One of its replicas does not know the group yet that another has made.
    ec2.refused["AuthorizeSecurityGroupIngress"] = ["InvalidGroup.NotFound"]
    ec2.refused["ModifyNetworkInterfaceAttribute"] = ["InvalidGroup.NotFound"]
    done = site.apply(fleet)
    # Somebody has removed these a moment ago.
    ec2.refused["RevokeSecurityGroupIngress"] = ["InvalidPermission.NotFound"]
    ec2.refused["DeleteSecurityGroup"] = ["DependencyViolation"]
    assert len(site.destroy(fleet)) == len(done)
    assert not any(ec2.refused.values())


def test_a_group_that_is_still_used_is_named_with_who_uses_it(site: Site, ec2: StrictEc2) -> None:
    fleet = site.fleet(inside=1)
    site.apply(fleet)
    groups = site.network.groups()
    held = groups["stagefleet-lab-gpu-0"]["GroupId"]
    stranger = site.network.instance()
    interface = site.network.interface(stranger)
    site.network.boto.modify_network_interface_attribute(
        NetworkInterfaceId=interface, Groups=[held]
    )
    site.network.group("web")
    site.open_by_hand("web", IpProtocol="-1", UserIdGroupPairs=[{"GroupId": held}])
    ec2.forget()
    with pytest.raises(CloudError) as found:
        site.destroy(fleet)
    assert f"stagefleet-lab-gpu-0 ({held}) is still used by" in str(found.value)
    assert f"network interface {interface} of {stranger}" in str(found.value)
    assert "(web)" in str(found.value)
    assert ec2.actions.count("DeleteSecurityGroup") == 4
    # What lets go a moment later is waited for.
    site.network.boto.revoke_security_group_ingress(
        GroupId=site.network.groups()["web"]["GroupId"],
        IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": held}]}],
    )
    site.network.boto.modify_network_interface_attribute(
        NetworkInterfaceId=interface, Groups=[groups["default"]["GroupId"]]
    )
    ec2.refused["DeleteSecurityGroup"] = ["DependencyViolation"] * 2
    assert site.destroy(fleet) == ["- group gpu-0"]


def _no_permission(ec2: StrictEc2) -> None:
    ec2.denied.add("AuthorizeSecurityGroupIngress")


def _bad_keys(ec2: StrictEc2) -> None:
    ec2.refused["DescribeVpcs"] = ["AuthFailure"]


def _expired(ec2: StrictEc2) -> None:
    ec2.refused["CreateSecurityGroup"] = ["ExpiredToken"]


def _full(ec2: StrictEc2) -> None:
    ec2.most_groups = 2


def _busy(ec2: StrictEc2) -> None:
    ec2.refused["DescribeInstances"] = ["RequestLimitExceeded"]


@pytest.mark.parametrize(
    ("prepare", "reason", "hint"),
    [
        (_no_permission, "may not ec2:AuthorizeSecurityGroupIngress", "the permission ec2:Auth"),
        (_bad_keys, "does not accept these credentials", "AWS_ACCESS_KEY_ID"),
        (_expired, "have expired", "AWS_SESSION_TOKEN"),
        (_full, "no more security groups in us-east-1", "VPC security groups per Region"),
        (_busy, "'RequestLimitExceeded' for DescribeInstances", "it continues"),
    ],
)
def test_what_ec2_refuses_is_said_with_what_to_do(
    site: Site, ec2: StrictEc2, prepare: Callable[[StrictEc2], None], reason: str, hint: str
) -> None:
    prepare(ec2)
    with pytest.raises(CloudError, match=reason) as found:
        site.apply(site.fleet())
    assert hint in found.value.hint
    assert "c2VjcmV0" not in str(found.value)
    ec2.forget()
    assert site.apply(site.fleet())


def test_a_network_that_is_not_there_is_said_before_anything_is_planned(site: Site) -> None:
    aws = CLOUDS["aws"] | {"vpc": "vpc-00000000", "endpoint": site.endpoint}
    with pytest.raises(CloudError, match="no network vpc-00000000 in us-east-1") as found:
        site.plan(site.fleet(clouds=CLOUDS | {"aws": aws}))
    assert "fleet.clouds" in found.value.hint


def test_nobody_there_is_said(site: Site) -> None:
    aws = CLOUDS["aws"] | {"endpoint": "http://127.0.0.1:1"}
    with pytest.raises(CloudError, match=r"EC2 at http://127.0.0.1:1 cannot be reached") as found:
        site.plan(site.fleet(clouds=CLOUDS | {"aws": aws}))
    assert "endpoint in fleet.clouds" in found.value.hint
