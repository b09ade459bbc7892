"""The Azure driver through Azure's own client library, against a fake of the service.

The fake is made for this project (`tests/support/azure.py` says what that is worth).
"""

import pytest

from cloud import operation
from cloud.azure.client import Client
from cloud.azure.driver import Azure
from cloud.changes import foreign
from cloud.drivers import driver
from cloud.errors import CloudError
from cloud.names import ALL
from runtime.spec.clouds import AzureCloud
from tests.support.azure import FakeAzure
from tests.support.azure_checks import ASG, NIC, NSG, Json, Refusal
from tests.support.azure_fleets import (
    CIDR,
    GPU_0,
    GPU_1,
    ONCE,
    applied,
    azure,
    by_hand,
    fleet,
    groups_of,
    marked,
    planned,
    provider,
    wish,
)
from tests.support.clouds import CLOUDS, OWNER
from tests.support.loopback import loopback_only

__all__ = ["azure", "loopback_only"]


def test_a_fleet_is_planned_made_found_complete_changed_and_removed(azure: FakeAzure) -> None:
    todo = planned(azure)
    assert azure.counts()["PUT"] == 0
    assert sorted(applied(azure)) == sorted(todo)
    assert planned(azure) == []
    assert applied(azure) == []
    assert set(azure.things[NSG]) == {f"stagefleet-lab-gpu-{number}" for number in range(3)}
    assert set(azure.things[ASG]) == {*azure.things[NSG], "stagefleet-lab-all"}

    before = {rule["name"]: rule["properties"] for rule in azure.rules(GPU_1)}
    (line,) = planned(azure, access=[CIDR])
    assert line == "+ gpu-1: tcp 8002 from 192.0.2.7/32  # dht of stage 1"
    assert applied(azure, access=[CIDR]) == [line]
    after = {rule["name"]: rule["properties"] for rule in azure.rules(GPU_1)}
    assert {name: rule["priority"] for name, rule in before.items()} == {
        name: rule["priority"] for name, rule in after.items()
    }
    assert planned(azure) == [line.replace("+", "-", 1)]

    assert applied(azure, present=False)
    assert marked(azure) == []
    assert applied(azure, present=False) == []


def test_the_rules_are_what_azure_is_meant_to_have(azure: FakeAzure) -> None:
    applied(azure)
    shown = [
        (
            rule["name"],
            rule["properties"]["priority"],
            rule["properties"]["access"],
            rule["properties"].get("sourceAddressPrefix")
            or rule["properties"]["sourceAddressPrefixes"]
            or [
                group["id"].rpartition("/")[2]
                for group in rule["properties"]["sourceApplicationSecurityGroups"]
            ],
        )
        for rule in azure.rules(GPU_1)
    ]
    assert shown == [
        ("stagefleet-tcp-22-v4-1", 100, "Allow", "192.0.2.0/24"),
        ("stagefleet-tcp-8002-groups-1", 110, "Allow", ["stagefleet-lab-all"]),
        ("stagefleet-tcp-8002-v4-1", 120, "Allow", "203.0.113.4/32"),
        ("stagefleet-tcp-8003-groups-1", 130, "Allow", [GPU_0]),
        ("stagefleet-closed", 4096, "Deny", "*"),
    ]
    assert azure.things[NSG][GPU_1]["tags"] == {
        "stagefleet-fleet": "lab",
        "stagefleet-owner": OWNER,
        "stagefleet-group": "gpu-1",
    }


def test_networks_inside_one_another_are_different_rules(azure: FakeAzure) -> None:
    row = CIDR | {"networks": ["192.0.2.0/24", "192.0.2.7/32", "2001:db8::/64", "192.0.3.0/24"]}
    assert applied(azure, access=[row])
    assert planned(azure, access=[row]) == []
    families = {
        rule["name"]: rule["properties"]["sourceAddressPrefixes"]
        or rule["properties"]["sourceAddressPrefix"]
        for rule in azure.rules(GPU_1)
        if rule["name"].startswith("stagefleet-tcp-8002-v")
    }
    assert families == {
        "stagefleet-tcp-8002-v4-1": ["192.0.2.0/24", "192.0.3.0/24", "203.0.113.4/32"],
        "stagefleet-tcp-8002-v4-2": "192.0.2.7/32",
        "stagefleet-tcp-8002-v6-1": "2001:db8::/64",
    }


def test_drift_by_hand_is_reported_and_mended(azure: FakeAzure) -> None:
    applied(azure)
    azure.change(GPU_0, lambda rules: [*rules, by_hand()])
    azure.change(
        GPU_1,
        lambda rules: [rule for rule in rules if rule["name"] != "stagefleet-tcp-22-v4-1"],
    )
    azure.change(
        "stagefleet-lab-gpu-2",
        lambda rules: [rule for rule in rules if rule["properties"]["access"] == "Allow"],
    )
    asked = wish(azure)
    found = operation.plan(asked, provider(asked))
    assert [str(change) for change in found.changes] == [
        "+ gpu-1: tcp 22 from 192.0.2.0/24  # ssh",
        "- gpu-2: all 0 from the virtual network  # Azure's default, as the rule that keeps "
        "everything else out is missing",
    ]
    assert [str(rule) for _, rule in foreign(found.have)] == ["tcp 80 from 203.0.113.77/32"]
    assert "rule of others in gpu-0: tcp 80 from 203.0.113.77/32; --purge removes it" in (
        found.notices
    )
    applied(azure)
    assert planned(azure) == []
    (closed,) = [
        rule
        for rule in azure.rules("stagefleet-lab-gpu-2")
        if rule["properties"]["access"] == "Deny"
    ]
    assert closed["properties"]["priority"] == 4096
    assert "mine" in {rule["name"] for rule in azure.rules(GPU_0)}
    assert applied(azure, purge=True) == ["- gpu-0: tcp 80 from 203.0.113.77/32"]
    assert "mine" not in {rule["name"] for rule in azure.rules(GPU_0)}


def test_destroy_leaves_what_is_others(azure: FakeAzure) -> None:
    azure.put(NSG, "office", {"location": "westeurope"})
    azure.put(ASG, "office", {"location": "westeurope"})
    applied(azure)
    azure.change(GPU_0, lambda rules: [*rules, by_hand()])
    applied(azure, present=False)
    # A group that holds a rule of others stays, and says whose it is.
    assert marked(azure) == [GPU_0, GPU_0]
    assert {rule["name"] for rule in azure.rules(GPU_0)} == {"mine", "stagefleet-closed"}
    applied(azure, present=False, purge=True)
    assert marked(azure) == []
    assert set(azure.things[NSG]) == set(azure.things[ASG]) == {"office"}


def test_rules_of_others_that_deny_are_told_of_and_keep_their_group(azure: FakeAzure) -> None:
    applied(azure)
    azure.change(GPU_0, lambda rules: [*rules, by_hand("shut", access="Deny")])
    asked = wish(azure)
    found = operation.plan(asked, provider(asked))
    assert found.changes == ()
    assert any("rule of others in gpu-0: shut denies" in notice for notice in found.notices)
    before = azure.counts()["DELETE"]
    with pytest.raises(CloudError, match=f"group {GPU_0} has rules of others that deny .* shut"):
        applied(azure, present=False)
    assert azure.counts()["DELETE"] == before
    azure.change(GPU_0, lambda rules: [rule for rule in rules if rule["name"] != "shut"])
    applied(azure, present=False)
    assert marked(azure) == []


@pytest.mark.parametrize("kind", [NSG, ASG])
def test_a_group_of_one_of_our_names_without_our_tags_is_refused(
    azure: FakeAzure, kind: str
) -> None:
    azure.put(kind, GPU_0, {"location": "westeurope", "tags": {"room": "7"}})
    with pytest.raises(CloudError, match=f"group {GPU_0} is there already and carries no tag"):
        applied(azure)
    assert azure.counts()["PUT"] == 0
    assert applied(azure, present=False) == []
    assert set(azure.things[kind]) == {GPU_0}


def test_a_group_that_somebody_else_makes_at_the_same_moment_is_refused(azure: FakeAzure) -> None:
    def race(method: str, kind: str, name: str) -> None:
        if (method, kind, name) == ("GET", NSG, GPU_1):
            azure.put(NSG, GPU_1, {"location": "westeurope", "tags": {"room": "7"}})

    azure.before = race
    with pytest.raises(CloudError, match=f"somebody else has a group {GPU_1}"):
        applied(azure)
    assert azure.rules(GPU_1) == []


def test_fleets_whose_names_begin_alike_stand_side_by_side(azure: FakeAzure) -> None:
    applied(azure)
    assert applied(azure, name="lab-gpu")
    assert planned(azure) == []
    assert planned(azure, name="lab-gpu") == []
    applied(azure, present=False)
    assert planned(azure, name="lab-gpu") == []
    assert all(name.startswith("stagefleet-lab-gpu-") for name in marked(azure))


def test_a_fleet_of_the_same_name_and_another_owner_is_left_alone(azure: FakeAzure) -> None:
    applied(azure)
    with pytest.raises(CloudError, match="belongs to another fleet of the name lab"):
        applied(azure, owner="fedcba9876543210")
    count = len(marked(azure))
    assert applied(azure, owner="fedcba9876543210", present=False) == []
    assert len(marked(azure)) == count
    assert planned(azure) == []


def test_hosts_join_their_groups_and_leave_them(azure: FakeAzure) -> None:
    office = azure.put(ASG, "office", {"location": "westeurope"})
    azure.interface("gpu-0", addresses=2)
    azure.interface("gpu-1")
    properties = azure.things[NIC]["gpu-1-nic"]["properties"]["ipConfigurations"][0]["properties"]
    properties["applicationSecurityGroups"] = [{"id": office["id"]}]
    azure.interface("gpu-1", fleet="lab-2", enableIPForwarding=True)["name"] = "other"
    azure.things[NIC]["other"] = azure.things[NIC].pop("gpu-1-nic")
    azure.interface("gpu-1")
    azure.things[NIC]["gpu-1-nic"]["properties"]["ipConfigurations"][0]["properties"] = properties
    asked = wish(azure)
    assert operation.plan(asked, provider(asked)).notices == (
        "no instance has the tag stagefleet-host=gpu-2 of this fleet: nothing guards it",
    )
    lines = applied(azure)
    assert "+ member gpu-0: the instance of gpu-0" in lines
    assert planned(azure) == []
    assert groups_of(azure, "gpu-0") == (GPU_0, [["stagefleet-lab-all", GPU_0]] * 2)
    assert groups_of(azure, "gpu-1") == (GPU_1, [["office", "stagefleet-lab-all", GPU_1]])
    assert azure.things[NIC]["gpu-0-nic"]["tags"]["room"] == "7"
    assert "networkSecurityGroup" not in azure.things[NIC]["other"]["properties"]
    applied(azure, present=False)
    assert groups_of(azure, "gpu-0") == ("", [[], []])
    assert groups_of(azure, "gpu-1") == ("", [["office"]])
    assert marked(azure) == []


def test_all_hosts_stand_in_rules_before_the_first_is_shut(azure: FakeAzure) -> None:
    hosts = ("gpu-0", "gpu-1", "gpu-2")
    for host in hosts:
        azure.interface(host)
    shut: list[bool] = []

    def look(method: str, kind: str, name: str) -> None:
        if method == "PUT" and kind == NIC:
            found = [groups_of(azure, host) for host in hosts]
            shut.append(any(attached for attached, _ in found))
            if shut[-1]:
                assert all(len(groups[0]) == 2 for _, groups in found), name

    azure.before = look
    applied(azure)
    assert shut == [False] * 4 + [True] * 2
    assert [groups_of(azure, host)[0] for host in hosts] == sorted(azure.things[NSG])


def test_what_lets_a_host_in_stays_until_it_has_joined(azure: FakeAzure) -> None:
    # So far the hosts meet at their public addresses, and now they share a network.
    applied(azure, networks=[])
    for host in ("gpu-0", "gpu-1", "gpu-2"):
        azure.interface(host)
    seen: list[set[str]] = []

    def look(method: str, kind: str, _: str) -> None:
        if method == "PUT" and kind == NIC:
            seen.append({rule["name"] for rule in azure.rules(GPU_1)})

    azure.before = look
    applied(azure)
    assert all(
        {"stagefleet-tcp-8003-v4-1", "stagefleet-tcp-8003-groups-1"} <= names for names in seen
    )
    assert len(seen) == 6
    assert "stagefleet-tcp-8003-v4-1" not in {rule["name"] for rule in azure.rules(GPU_1)}
    assert planned(azure) == []


def test_an_interface_with_somebody_elses_rules_is_refused(azure: FakeAzure) -> None:
    office = azure.put(NSG, "office", {"location": "westeurope"})
    azure.interface("gpu-1", networkSecurityGroup={"id": office["id"]})
    with pytest.raises(CloudError, match="gpu-1-nic of gpu-1 has the network security group off"):
        applied(azure)
    assert azure.counts()["PUT"] == 0
    assert groups_of(azure, "gpu-1") == ("office", [[]])


def test_half_a_membership_is_completed_and_removed(azure: FakeAzure) -> None:
    azure.interface("gpu-0")
    applied(azure)
    properties = azure.things[NIC]["gpu-0-nic"]["properties"]
    attached = properties.pop("networkSecurityGroup")
    assert planned(azure) == ["+ member gpu-0: the instance of gpu-0"]
    applied(azure)
    assert groups_of(azure, "gpu-0")[0] == GPU_0
    properties = azure.things[NIC]["gpu-0-nic"]["properties"]
    properties["ipConfigurations"][0]["properties"]["applicationSecurityGroups"] = []
    assert properties["networkSecurityGroup"] == attached
    applied(azure, present=False)
    assert groups_of(azure, "gpu-0") == ("", [[]])
    assert marked(azure) == []


def test_a_group_that_somebody_elses_interface_uses_is_named(azure: FakeAzure) -> None:
    applied(azure)
    attached = {"id": azure.things[NSG][GPU_1]["id"]}
    azure.interface("desk", fleet="other", networkSecurityGroup=attached)
    with pytest.raises(CloudError, match=r"something else still uses it .*desk-nic") as error:
        applied(azure, present=False)
    assert "take what the message names off it" in str(error.value)


def test_the_calls_of_a_run_without_changes_do_not_depend_on_the_rules(azure: FakeAzure) -> None:
    calls, rules = [], []
    for many in (1, 250):
        networks = [f"10.{number}.0.0/24" for number in range(many)]
        rows = [{"service": service, "networks": networks} for service in ("dht", "rpc", "ssh")]
        applied(azure, access=rows)
        asked = wish(azure, access=rows)
        azure.calls.clear()
        found = operation.apply(asked, provider(asked), lambda _: None)
        assert found.changes == ()
        calls.append(len(azure.calls))
        rules.append(sum(len(group.rules) for group in found.have.groups.values()))
    assert rules[1] > 20 * rules[0]
    assert calls[0] == calls[1]
    assert azure.counts() == {"GET": calls[0]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resource_group": "nowhere"}, "there is no resource group nowhere"),
        (
            {"subscription": "00000000-0000-0000-0000-000000000009"},
            "there is no subscription 00000000-0000-0000-0000-000000000009",
        ),
    ],
)
def test_a_place_that_is_not_there_is_named(
    azure: FakeAzure, change: dict[str, str], words: str
) -> None:
    with pytest.raises(CloudError, match=words):
        applied(azure, row=change)


def test_the_fake_refuses_shapes_that_the_client_library_does_not_know(azure: FakeAzure) -> None:
    shapes: list[Json] = [
        {"securityRule": []},
        {"securityRules": [{"name": "a", "properties": {"port": 1}}]},
    ]
    for properties in shapes:
        with pytest.raises(Refusal, match="could not find member") as refused:
            azure.put(NSG, "a", {"location": "westeurope", "properties": properties})
        assert refused.value.code == "InvalidRequestContent"
    group = azure.put(ASG, "a", {"location": "westeurope"})
    rule = by_hand(sourceAddressPrefix=None, sourceApplicationSecurityGroups=[{"id": group["id"]}])
    azure.put(NSG, "b", {"location": "westeurope", "properties": {"securityRules": [rule]}})
    row = AzureCloud.model_validate(CLOUDS["azure"] | {"endpoint": azure.endpoint})
    with pytest.raises(CloudError, match=r"it is used by .*/networkSecurityGroups/b/"):
        Client(row, ONCE).delete("application_security_groups", "a")


def test_the_driver_of_a_row_of_azures_is_this_one(azure: FakeAzure) -> None:
    assert isinstance(driver(fleet(azure).clouds["azure"], "lab", OWNER), Azure)


def test_the_group_of_all_hosts_has_no_rules_and_needs_none(azure: FakeAzure) -> None:
    applied(azure)
    asked = wish(azure)
    found = provider(asked).read()
    assert found.groups[ALL].rules == {}
    assert found.groups[ALL].owner == OWNER
