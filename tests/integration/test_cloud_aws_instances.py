"""A fleet's instances in AWS, made by boto3 in an EC2 on loopback."""

import contextlib
import functools
from typing import Any

import pytest

from cloud import instance_operation
from cloud.aws import instances
from cloud.aws.instances import PERMISSIONS, AwsInstances
from cloud.errors import CloudError
from cloud.instance_operation import Patience
from cloud.instances import Verb
from runtime.spec.clouds import AwsCloud
from runtime.spec.fleet import Fleet
from tests.support.aws import CLOSED, IMAGE, LOST, StrictEc2
from tests.support.aws_instances import KEY
from tests.support.aws_site import Site, ec2, served, site
from tests.support.clouds import OWNER
from tests.support.instances import OTHER_OWNER, rented_fleet
from tests.support.loopback import loopback_only

__all__ = ["ec2", "loopback_only", "served", "site"]

AT_ONCE = Patience(bound=30, sleep=lambda _: None)


def fleet_at(site: Site, /, inside: int = 2, **instance: Any) -> Fleet:
    said = {"type": "g5.xlarge", "image": IMAGE, "disk": 100, "key": KEY}
    row = {"vpc": site.network.vpc, "endpoint": site.endpoint}
    subnet = {"subnet": site.network.subnet}
    return rented_fleet("aws", said | subnet | instance, inside=inside, row=row)


def run(
    verb: Verb,
    fleet: Fleet,
    *only: str,
    owner: str = OWNER,
    patience: Patience = AT_ONCE,
) -> list[str]:
    """Do what is asked for, and return what was begun and done, a line each."""
    provider = _provider(fleet.clouds["aws"].model_dump_json(), owner)
    looked = instance_operation.look(verb, fleet, "aws", provider, owner, only)
    said: list[str] = []
    if looked.plan.changes:
        instance_operation.do(looked, fleet, provider, said.append, patience)
        again = instance_operation.look(verb, fleet, "aws", provider, owner, only)
        assert again.plan.changes == ()
    return [line.removesuffix(" (done)") for line in said if line.endswith("(done)")]


@functools.cache
def _provider(row: str, owner: str) -> AwsInstances:
    # To make a client takes boto3 longer than all that is asked of it.
    return AwsInstances(AwsCloud.model_validate_json(row), "lab", owner, sleep=lambda _: None)


def living(site: Site) -> dict[str, dict[str, Any]]:
    """Return the network's instances that are there, by their hosts."""
    found = site.network.boto.describe_instances(
        Filters=[{"Name": "vpc-id", "Values": [site.network.vpc]}]
    )
    return {
        _tags(each).get("stagefleet-host", ""): each
        for reservation in found["Reservations"]
        for each in reservation["Instances"]
        if each["State"]["Name"] not in {"terminated", "shutting-down"}
    }


def _tags(answer: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in answer.get("Tags", ())}


def test_instances_are_made_as_they_are_asked_for_and_go_again(site: Site, ec2: StrictEc2) -> None:
    fleet = fleet_at(site)
    ec2.instances.looks = 2
    done = run(Verb.CREATE, fleet)
    assert [line[:17] for line in done] == ["+ instance gpu-0:", "+ instance gpu-1:"]
    found = living(site)
    assert found.keys() == {"gpu-0", "gpu-1"}
    one = found["gpu-0"]
    marks = {"stagefleet-fleet": "lab", "stagefleet-owner": OWNER, "stagefleet-host": "gpu-0"}
    assert _tags(one) == marks | {"Name": "stagefleet-lab-gpu-0"}
    assert (one["InstanceType"], one["KeyName"]) == ("g5.xlarge", KEY)
    assert one["MetadataOptions"]["HttpTokens"] == "required"
    # Closed from its first moment: it is in the fleet's groups and in no other.
    assert site.network.attached(one["InstanceId"]) == {
        "stagefleet-lab-gpu-0",
        "stagefleet-lab-all",
    }
    (disk,) = site.network.boto.describe_volumes(
        Filters=[{"Name": "attachment.instance-id", "Values": [one["InstanceId"]]}]
    )["Volumes"]
    assert (disk["Encrypted"], disk["Size"]) == (True, 100)
    assert _tags(disk) == _tags(one)
    assert one["PublicIpAddress"]

    assert run(Verb.CREATE, fleet) == []
    assert len(run(Verb.STOP, fleet)) == 2
    assert {each["State"]["Name"] for each in living(site).values()} == {"stopped"}
    assert run(Verb.CREATE, fleet) == []
    assert len(run(Verb.START, fleet, "gpu-1")) == 1
    assert living(site)["gpu-0"]["State"]["Name"] == "stopped"
    (gone,) = run(Verb.TERMINATE, fleet, "gpu-0")
    assert disk["VolumeId"] in gone
    assert living(site).keys() == {"gpu-1"}
    # The token of the one that has ended would lead to it.
    assert len(run(Verb.CREATE, fleet)) == 1
    assert living(site)["gpu-0"]["InstanceId"] != one["InstanceId"]
    assert len(run(Verb.TERMINATE, fleet)) == 2
    assert living(site) == {}


def test_an_instance_may_have_no_public_address(site: Site) -> None:
    fleet = fleet_at(site, inside=1, public_address=False)
    run(Verb.CREATE, fleet)
    assert "PublicIpAddress" not in living(site)["gpu-0"]


def test_what_ended_so_long_ago_that_it_is_shown_no_more_is_not_mistaken(
    site: Site, ec2: StrictEc2
) -> None:
    fleet = fleet_at(site, inside=1)
    for _ in range(3):
        run(Verb.CREATE, fleet)
        run(Verb.TERMINATE, fleet)
        ec2.instances.pass_an_hour()
    ec2.forget()
    # Its group is another one by now, and so is what is asked for.
    site.destroy(fleet)
    run(Verb.CREATE, fleet)
    assert ec2.actions.count("RunInstances") == 4
    assert len(living(site)) == 1


def test_what_was_asked_for_with_other_keys_and_is_not_seen_yet_is_not_made_twice(
    site: Site, ec2: StrictEc2
) -> None:
    first, second = fleet_at(site, inside=1), fleet_at(site, inside=1, type="g5.2xlarge")
    run(Verb.CREATE, first)
    ec2.forget()
    # The look before shows nothing yet.
    ec2.blind.add(1)
    with pytest.raises(CloudError, match="was asked for a moment ago with other keys"):
        run(Verb.CREATE, second)
    assert living(site)["gpu-0"]["InstanceType"] == "g5.xlarge"


def test_instances_of_other_tools_are_hosts_and_are_left_alone(site: Site) -> None:
    foreign = site.instance("gpu-0")
    stranger = site.network.instance()
    fleet = fleet_at(site)
    (made,) = run(Verb.CREATE, fleet)
    assert "gpu-1" in made
    for verb in (Verb.STOP, Verb.TERMINATE):
        (done,) = run(verb, fleet)
        assert "gpu-1" in done
        with pytest.raises(CloudError, match=f"{foreign} of gpu-0 was not made with this"):
            run(verb, fleet, "gpu-0")
    # Another fleet of the same name, with another authority, or none.
    for owner in (OTHER_OWNER, ""):
        assert run(Verb.TERMINATE, fleet, owner=owner) == []
    states = [
        each["State"]["Name"]
        for name in (foreign, stranger)
        for each in site.network.boto.describe_instances(InstanceIds=[name])["Reservations"][0][
            "Instances"
        ]
    ]
    assert states == ["running", "running"]


@pytest.mark.parametrize(
    ("instance", "reason", "hint"),
    [
        ({"type": "g99.xlarge"}, "Invalid value 'g99.xlarge'", "it continues"),
        ({"image": "ami-00000000"}, "no such image in us-east-1", "instance.image"),
        ({"key": "nobody"}, "no such key pair in us-east-1", "import-key-pair"),
        ({"subnet": "subnet-00000000"}, "no such subnet in us-east-1", "instance.subnet"),
    ],
)
def test_what_is_not_there_is_said_with_what_to_correct(
    site: Site, instance: dict[str, Any], reason: str, hint: str
) -> None:
    with pytest.raises(CloudError, match=reason) as found:
        run(Verb.CREATE, fleet_at(site, **instance))
    assert hint in found.value.hint
    assert living(site) == {}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("InsufficientInstanceCapacity", "no machine of this type free there now"),
        ("VcpuLimitExceeded", "may have no more instances of this kind"),
        ("UnauthorizedOperation", "may not ec2:RunInstances"),
    ],
)
def test_a_refusal_halfway_says_what_is_made_and_a_rerun_continues(
    site: Site, ec2: StrictEc2, code: str, reason: str
) -> None:
    fleet = fleet_at(site)
    ec2.forget()
    # Two calls see what is there, seven make the groups.
    ec2.refused["RunInstances"] = ["", code]
    with pytest.raises(CloudError, match=f"{reason}(.|\n)*1 of 2 changes of instances") as found:
        run(Verb.CREATE, fleet)
    assert found.value.hint
    assert living(site).keys() == {"gpu-0"}
    first = living(site)["gpu-0"]["InstanceId"]
    assert len(run(Verb.CREATE, fleet)) == 1
    assert living(site)["gpu-0"]["InstanceId"] == first


def test_waiting_ends_and_says_for_what(site: Site, ec2: StrictEc2) -> None:
    fleet = fleet_at(site, inside=1)
    ec2.instances.looks = 100_000
    hasty = Patience(bound=0, sleep=lambda _: None)
    with pytest.raises(CloudError, match=r"waited 0 seconds for gpu-0: i-\w+ is starting"):
        run(Verb.CREATE, fleet, patience=hasty)
    ec2.instances.looks = 0
    ec2.instances.underway.clear()
    assert run(Verb.CREATE, fleet) == []


@pytest.mark.slow
@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("faults", [("RequestLimitExceeded", "InternalError", CLOSED), (LOST,)])
def test_a_fault_at_any_call_is_mended_by_the_next_run(
    site: Site, ec2: StrictEc2, faults: tuple[str, ...], present: bool
) -> None:
    fleet = fleet_at(site)
    wanted, other = (Verb.CREATE, Verb.TERMINATE) if present else (Verb.TERMINATE, Verb.CREATE)
    number, faulted = 0, True
    while faulted:
        run(other, fleet)
        ec2.forget()
        ec2.instances.pass_a_day()
        ec2.faults[number] = faults[number % len(faults)]
        with contextlib.suppress(CloudError):
            run(wanted, fleet)
        faulted = not ec2.faults
        ec2.forget()
        run(wanted, fleet)
        found = site.network.boto.describe_instances(
            Filters=[
                {"Name": "vpc-id", "Values": [site.network.vpc]},
                {"Name": "instance-state-name", "Values": ["running"]},
            ]
        )["Reservations"]
        # Never two for one host, whatever was lost.
        assert len(found) == (2 if present else 0)
        number += 1
    assert number > 5


def test_no_more_permissions_are_used_than_are_asked_for(site: Site, ec2: StrictEc2) -> None:
    fleet = fleet_at(site)
    ec2.forget()
    for verb in (Verb.CREATE, Verb.STOP, Verb.START, Verb.TERMINATE):
        run(verb, fleet)
    # That of the tags is asked for by the calls that make something with tags.
    assert {f"ec2:{action}" for action in ec2.actions} == {*PERMISSIONS} - {"ec2:CreateTags"}


def test_rules_stay_while_instances_of_the_fleet_live(site: Site) -> None:
    fleet = fleet_at(site)
    run(Verb.CREATE, fleet)
    assert site.apply(fleet)
    with pytest.raises(CloudError, match=r"instances that were made for this fleet: gpu-0 \(i-"):
        site.destroy(fleet)
    run(Verb.TERMINATE, fleet)
    assert site.destroy(fleet)
    assert site.network.groups().keys() == {"default"}


def test_rules_that_need_the_address_of_what_is_not_made_wait(site: Site) -> None:
    fleet = fleet_at(site)
    planned = site.plan(fleet)
    lines = [str(change) for change in planned.changes]
    # Inside of the cloud, groups let groups in: no address is needed.
    assert "+ gpu-1: tcp 8003 from host gpu-0  # rpc of stage 1" in lines
    assert not any("wait" in notice for notice in planned.notices)
    # The network of a host that was not made there is the inventory's to say.
    more = {"cloud": "aws", "addresses": ("10.0.0.2",)}
    tagged = {"gpu-2": fleet.hosts["gpu-2"].model_copy(update=more)}
    mixed = site.plan(fleet.model_copy(update={"hosts": fleet.hosts | tagged}))
    assert "+ gpu-1: tcp 8003 from host gpu-0  # rpc of stage 1" in map(str, mixed.changes)
    assert {notice for notice in mixed.notices if "wait" in notice} == {
        f"rules on {hosts} wait until the instance of {name} runs and its address is known"
        for name, hosts in (("gpu-0", "gpu-0, gpu-2"), ("gpu-1", "gpu-1, gpu-2"))
    }


def test_no_token_is_the_same_for_another_authority_fleet_or_host() -> None:
    tags = {"stagefleet-fleet": "lab", "stagefleet-owner": OWNER, "stagefleet-host": "gpu-0"}
    others = [tags | {key: "x"} for key in tags]
    tokens = {instances.token("vpc-1", each, (), 0) for each in (tags, *others)}
    tokens |= {instances.token("vpc-1", tags, ("i-1",), 0)}
    tokens |= {instances.token("vpc-1", tags, (), 1), instances.token("vpc-2", tags, (), 0)}
    assert len(tokens) == 7
    assert all(len(each) <= 64 for each in tokens)
