"""What EC2 is asked, and what its answers mean."""

import ipaddress
from typing import Any

import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from cloud.aws import convert
from cloud.aws.driver import Aws
from cloud.changes import Change, Kind
from cloud.errors import CloudError
from cloud.names import ALL, FLEET_MARK, OWNER_MARK
from cloud.rules import Group, Rule, Source, State
from runtime.spec.clouds import AwsCloud
from tests.support.clouds import OWNER
from tests.support.loopback import loopback_only  # noqa: F401 - it guards every test of this file

CLOUD = AwsCloud(provider="aws", region="us-east-1", vpc="vpc-12345678")
IDS = {"gpu-0": "sg-0", "gpu-1": "sg-1", ALL: "sg-all"}

_networks = st.one_of(
    st.ip_addresses(v=4).flatmap(lambda ip: _cut(ip, 32)),
    st.ip_addresses(v=6).flatmap(lambda ip: _cut(ip, 128)),
)
_rules = st.builds(
    Rule,
    protocol=st.sampled_from(("tcp", "udp")),
    first=st.integers(1, 65535),
    last=st.just(65535),
    source=st.one_of(
        st.builds(Source, kind=st.just("group"), name=st.sampled_from(sorted(IDS))),
        st.builds(Source, kind=st.just("network"), name=_networks),
    ),
    purpose=st.sampled_from(("ssh", "dht of stage 1")),
)


def _cut(ip: Any, longest: int) -> st.SearchStrategy[str]:
    lengths = st.integers(0, longest)
    return lengths.map(lambda length: str(ipaddress.ip_network(f"{ip}/{length}", strict=False)))


def described(permissions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rules as EC2 shows them: those of the same ports together."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in permissions:
        key = (each["IpProtocol"], each.get("FromPort"), each.get("ToPort"))
        shown = found.setdefault(key, {name: each[name] for name in each if name[0] in "FIT"})
        for kind in ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs", "PrefixListIds"):
            if shown.get(kind) is not each.get(kind, []):
                shown[kind] = [*shown.get(kind, []), *each.get(kind, [])]
    return list(found.values())


def security_group(
    name: str, *permissions: dict[str, Any], number: str = "sg-0", **tags: str
) -> dict[str, Any]:
    return {
        "GroupId": number,
        "GroupName": name,
        "Tags": [{"Key": key.replace("_", "-"), "Value": value} for key, value in tags.items()],
        "IpPermissions": list(permissions),
    }


def ours(group: str, *permissions: dict[str, Any], number: str = "sg-0") -> dict[str, Any]:
    answer = security_group(convert.security_group_name("lab", group), number=number)
    return answer | {
        "Tags": convert.marks("lab", OWNER, group),
        "IpPermissions": list(permissions),
    }


@given(st.lists(_rules, max_size=8, unique_by=lambda rule: rule.key))
def test_what_is_asked_for_is_what_is_read_back(rules: list[Rule]) -> None:
    asked = described([convert.permission(rule, IDS) for rule in rules])
    answers = [ours(name, number=number) for name, number in IDS.items()]
    answers[0]["IpPermissions"] = asked
    found = convert.found_groups(answers, "lab")["gpu-0"]
    assert found.group.owner == OWNER
    assert found.group.rules == {rule.key: rule for rule in rules}


@pytest.mark.parametrize(
    ("permission", "shown"),
    [
        ({"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.5/8"}]}, "all 0 from 10.0.0.0/8"),
        (
            {"IpProtocol": "50", "IpRanges": [{"CidrIp": "192.0.2.1/32", "Description": "vpn"}]},
            "50 0 from 192.0.2.1/32",
        ),
        (
            {
                "IpProtocol": "tcp",
                "FromPort": 0,
                "ToPort": 65535,
                "Ipv6Ranges": [{"CidrIpv6": "::/0"}],
            },
            "tcp 0-65535 from ::/0",
        ),
        (
            {
                "IpProtocol": "icmp",
                "FromPort": -1,
                "ToPort": -1,
                "IpRanges": [{"CidrIp": "192.0.2.1/32"}],
            },
            "icmp 0 from 192.0.2.1/32",
        ),
        (
            {
                "IpProtocol": "icmp",
                "FromPort": 0,
                "ToPort": 0,
                "IpRanges": [{"CidrIp": "192.0.2.1/32"}],
            },
            "icmp type 0 code 0 0 from 192.0.2.1/32",
        ),
        (
            {
                "IpProtocol": "udp",
                "FromPort": 53,
                "ToPort": 53,
                "UserIdGroupPairs": [{"GroupId": "sg-far", "UserId": "210987654321"}],
            },
            "udp 53 from host sg-far",
        ),
        (
            {
                "IpProtocol": "tcp",
                "FromPort": 53,
                "ToPort": 53,
                "PrefixListIds": [{"PrefixListId": "pl-1", "Description": "stagefleetish: x"}],
            },
            "tcp 53 from host pl-1",
        ),
    ],
)
def test_any_rule_of_others_is_shown_and_can_be_revoked(
    permission: dict[str, Any], shown: str
) -> None:
    found = convert.found_groups([ours("gpu-0", permission)], "lab")["gpu-0"]
    ((key, rule),) = found.group.rules.items()
    assert str(rule) == shown
    assert rule.foreign
    revoked = dict(found.permissions[key])
    for kind in ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs", "PrefixListIds"):
        listed = [dict(each) for each in permission.get(kind, [])]
        for each in listed:
            assert rule.purpose == each.pop("Description", "")
        assert revoked.pop(kind, []) == listed
    assert revoked == {name: value for name, value in permission.items() if name[0] in "FT"} | {
        "IpProtocol": permission["IpProtocol"]
    }


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (ours("gpu-0"), {"gpu-0": OWNER}),
        (ours(ALL), {ALL: OWNER}),
        (ours("all"), {"all": OWNER}),
        (ours("GPU.0"), {"GPU.0": OWNER}),
        (security_group("stagefleet-lab-gpu-0"), {"gpu-0": ""}),
        (security_group("stagefleet-lab-all"), {ALL: ""}),
        # Of another fleet, whose name begins alike.
        (ours("gpu-0") | {"Tags": convert.marks("lab-2", OWNER, "gpu-0")}, {}),
        # No group of the fleet's is ever called so.
        (security_group("stagefleet-lab-GPU.0"), {}),
        (security_group("web", stagefleet_fleet="lab", stagefleet_owner=OWNER), {}),
        # Tags can be changed by anybody; names cannot.
        (
            security_group(
                "stagefleet-lab-gpu-0",
                stagefleet_fleet="lab",
                stagefleet_owner=OWNER,
                stagefleet_group="gpu-9",
            ),
            {"gpu-0": OWNER},
        ),
        (security_group("stagefleet-lab-gpu-0", stagefleet_fleet="lab"), {"gpu-0": ""}),
        (security_group("stagefleet-lab-gpu-0", stagefleet_owner=OWNER), {"gpu-0": ""}),
    ],
)
def test_whose_a_security_group_is_is_told_by_its_name_and_tags(
    answer: dict[str, Any], found: dict[str, str]
) -> None:
    groups = convert.found_groups([answer], "lab")
    assert {name: each.group.owner for name, each in groups.items()} == found


@given(st.text("abAZ09._-", min_size=1, max_size=300), st.booleans())
def test_a_group_in_the_way_of_one_of_ours_is_found_whatever_it_is_called(
    host: str, marked: bool
) -> None:
    answer = ours(host)
    if not marked:
        answer["Tags"] = []
    ((name, found),) = convert.found_groups([answer], "lab").items()
    assert found.group.owner == (OWNER if marked else "")
    assert convert.security_group_name("lab", name) == answer["GroupName"]
    assert len(answer["GroupName"]) <= 255
    assert not marked or name == host


def _wants(count: int, source: str) -> dict[Any, Rule]:
    """Return so many rules, from groups or from networks of an IP version."""
    rules = {}
    for number in range(count):
        name = {
            "group": f"gpu-{number}",
            "4": f"192.0.2.{number}/32",
            "6": str(ipaddress.ip_network(f"2001:db8::{number:x}")),
        }[source]
        kind = "group" if source == "group" else "network"
        rule = Rule(
            protocol="tcp",
            first=22,
            last=22,
            source=Source.model_validate({"kind": kind, "name": name}),
            purpose="ssh",
        )
        rules[rule.key] = rule
    return rules


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        (_wants(60, "4") | _wants(60, "6"), ""),
        (_wants(61, "4"), "61 rules for IPv4"),
        (_wants(61, "6") | _wants(60, "4"), "61 rules for IPv6"),
        (_wants(30, "4") | _wants(31, "group"), "61 rules for IPv4"),
    ],
)
def test_limits_are_told_with_the_group_and_the_number(
    rules: dict[Any, Rule], problem: str
) -> None:
    problems = convert.problems(State(groups={"gpu-0": Group(name="gpu-0", rules=rules)}))
    assert len(problems) == bool(problem)
    for each in problems:
        assert f"the group of host gpu-0 needs {problem}" in each
        assert "name networks" in each


def test_names_and_descriptions_that_aws_refuses_are_told() -> None:
    rule = next(iter(_wants(1, "4").values())).model_copy(update={"purpose": "caf\u00e9"})
    groups = {
        "g" * 257: Group(name="g" * 257),
        "gpu-0": Group(name="gpu-0", rules={rule.key: rule}),
    }
    name, description = convert.problems(State(groups=groups))
    assert "no rule with the description 'stagefleet: caf\u00e9'" in description
    assert "the name has 257 characters" in name


def test_the_interface_that_an_instance_started_with_is_its_primary_one() -> None:
    interfaces = [
        {"Attachment": {"DeviceIndex": 1}, "Groups": [{"GroupId": "sg-1"}]},
        {"Attachment": {"DeviceIndex": 0, "NetworkCardIndex": 1}, "Groups": [{"GroupId": "sg-2"}]},
        {"Attachment": {"DeviceIndex": 0}, "Groups": [{"GroupId": "sg-3"}, {"GroupId": "sg-4"}]},
    ]
    assert convert.attached({"NetworkInterfaces": interfaces}) == ["sg-3", "sg-4"]
    assert convert.attached({}) == []


def test_a_group_and_its_rules_are_asked_for_as_ec2_defines_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Over plain http, credentials are looked for nowhere.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    aws = Aws(CLOUD, "lab", OWNER, sleep=lambda _: None)
    rules = list((_wants(2, "4") | _wants(1, "6") | _wants(1, "group")).values())
    changes = [
        Change(kind=Kind.ADD_GROUP, group="gpu-0"),
        *(Change(kind=Kind.ADD_RULE, group="gpu-0", rule=rule) for rule in rules),
    ]
    # The stub checks what is sent, and what it answers, against EC2's own definition.
    with Stubber(aws._ec2.client) as stub:
        stub.add_response(
            "describe_security_groups",
            {"SecurityGroups": []},
            {
                "Filters": [
                    {"Name": "vpc-id", "Values": ["vpc-12345678"]},
                    {"Name": "group-name", "Values": ["stagefleet-lab-*"]},
                ],
                "MaxResults": 1000,
            },
        )
        stub.add_response(
            "create_security_group",
            {"GroupId": "sg-0"},
            {
                "GroupName": "stagefleet-lab-gpu-0",
                "Description": "stagefleet: made for the fleet lab",
                "VpcId": "vpc-12345678",
                "TagSpecifications": [
                    {
                        "ResourceType": "security-group",
                        "Tags": convert.marks("lab", OWNER, "gpu-0"),
                    }
                ],
            },
        )
        same = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
        note = {"Description": "stagefleet: ssh"}
        stub.add_response(
            "authorize_security_group_ingress",
            {"Return": True},
            {
                "GroupId": "sg-0",
                "IpPermissions": [
                    same | {"IpRanges": [note | {"CidrIp": "192.0.2.0/32"}]},
                    same | {"IpRanges": [note | {"CidrIp": "192.0.2.1/32"}]},
                    same | {"Ipv6Ranges": [note | {"CidrIpv6": "2001:db8::/128"}]},
                    same | {"UserIdGroupPairs": [note | {"GroupId": "sg-0"}]},
                ],
            },
        )
        made: list[Change] = []
        with pytest.raises(CloudError):  # the look afterwards is not stubbed
            aws.apply(State(), changes, made.append)
        assert made == changes
        stub.assert_no_pending_responses()


def test_marks_are_those_by_which_groups_are_found() -> None:
    tags = {tag["Key"]: tag["Value"] for tag in convert.marks("lab", OWNER, "gpu-0")}
    assert tags[FLEET_MARK] == "lab"
    assert tags[OWNER_MARK] == OWNER
