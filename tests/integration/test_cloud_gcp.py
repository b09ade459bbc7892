"""The driver for Google's cloud, with the real client library, against a fake on loopback."""

from typing import Any

import pytest

from cloud import operation
from cloud.errors import CloudError
from cloud.gcp.driver import Gcp
from cloud.names import ALL, label_of
from cloud.rules import wanted
from runtime.spec.clouds import GcpCloud
from runtime.spec.inventory import fleet_of
from tests.support.clouds import OWNER, cloud_fleet, cloud_hosts, wish
from tests.support.gcp.site import FLEET, HURRY, OF_OTHERS, SSH, Site, site
from tests.support.loopback import loopback_only

__all__ = ["loopback_only", "site"]


def test_a_fleet_is_planned_made_found_complete_and_removed(site: Site) -> None:
    mine = site.compute.add_firewall("mine", **OF_OTHERS)
    planned = site.plan()
    assert planned.notices == (
        "no instance has the tag stagefleet-host=gpu-2 of this fleet: nothing guards it",
    )
    assert set(site.compute.firewalls) == {"mine"}
    done = site.apply()
    assert sorted(done) == sorted(str(change) for change in planned.changes)
    assert site.lines() == []
    assert site.apply() == []
    assert site.compute.tags_of("vm-gpu-1") == {
        "web",
        "stagefleet-lab-gpu-1",
        "stagefleet-lab-all",
    }
    more = cloud_fleet(
        "gcp", access=[{"service": "dht", "hosts": ["gpu-1"], "networks": ["192.0.2.7/32"]}]
    )
    assert site.lines(more) == ["+ gpu-1: tcp 8002 from 192.0.2.7/32  # dht of stage 1"]
    before = len(site.compute.calls)
    assert site.apply(more) == ["+ gpu-1: tcp 8002 from 192.0.2.7/32  # dht of stage 1"]
    writes = [name for name in site.compute.calls[before:] if name.endswith(("insert", "update"))]
    assert writes == ["compute.firewalls.update"]
    site.apply(more, present=False)
    assert site.compute.firewalls == {"mine": mine}
    assert site.compute.tags_of("vm-gpu-1") == {"web"}
    assert site.apply(more, present=False) == []


def test_what_is_there_lets_in_what_is_wanted_and_nobody_else(site: Site) -> None:
    site.apply()
    want = wanted(FLEET, "gcp")
    found = {
        (each["targetTags"][0], traffic["ports"][0], source)
        for each in site.compute.firewalls.values()
        if not each["disabled"]
        for traffic in each["allowed"]
        for source in (*each.get("sourceRanges", ()), *each.get("sourceTags", ()))
    }
    tags = {name: f"stagefleet-lab-{name}" for name in want.groups} | {ALL: "stagefleet-lab-all"}
    assert found == {
        (tags[name], str(rule.first), tags.get(rule.source.name, rule.source.name))
        for name, group in want.groups.items()
        for rule in group.rules.values()
    }


def test_drift_is_reported_and_put_right(site: Site) -> None:
    site.apply()
    removed = site.compute.firewalls.pop("stagefleet-lab-gpu-2-tcp-8005-v4")
    site.compute.firewalls[SSH]["sourceRanges"].append("203.0.113.0/24")
    site.compute.firewalls["stagefleet-lab-gpu-0-tcp-22-v4"]["disabled"] = True
    site.compute.add_firewall("allow-web", **OF_OTHERS)
    site.compute.machines["europe-west4-a", "vm-gpu-0"]["tags"]["items"] = ["web"]
    found = site.plan()
    assert [str(change) for change in found.changes] == [
        "+ gpu-0: tcp 22 from 192.0.2.0/24  # ssh",
        "+ gpu-2: tcp 8005 from every host  # rpc of stage 2",
        "+ member *: the instance of gpu-0",
        "+ member gpu-0: the instance of gpu-0",
        "- gpu-0: tcp 22 from 192.0.2.0/24 (in stagefleet-lab-gpu-0-tcp-22-v4)"
        "  # ssh; altered by hand: disabled",
        "- gpu-1: tcp 22 from 203.0.113.0/24  # ssh",
    ]
    assert found.notices[0] == (
        "rule of others in gpu-1: tcp 80 from 192.0.2.9/32 (in allow-web); --purge removes it"
    )
    site.apply()
    assert site.lines() == []
    back = site.compute.firewalls["stagefleet-lab-gpu-2-tcp-8005-v4"]
    assert {key: back[key] for key in back if key != "id"} == {
        key: removed[key] for key in removed if key != "id"
    }
    assert "allow-web" in site.compute.firewalls


def test_firewalls_of_others_go_only_on_demand_and_only_if_they_are_for_nobody_else(
    site: Site,
) -> None:
    site.apply()
    site.compute.add_firewall("allow-web", **OF_OTHERS)
    site.apply()
    assert site.apply(purge=True) == ["- gpu-1: tcp 80 from 192.0.2.9/32 (in allow-web)"]
    assert "allow-web" not in site.compute.firewalls
    tags = {"targetTags": ["stagefleet-lab-gpu-1", "web"]}
    site.compute.add_firewall("allow-web", **OF_OTHERS | tags)
    with pytest.raises(CloudError, match=r"allow-web lets others in.* as it is for web too"):
        site.apply(purge=True)
    assert "allow-web" in site.compute.firewalls


def test_what_is_open_for_the_whole_network_is_said(site: Site) -> None:
    everybody: Any = {"sourceRanges": ["0.0.0.0/0"]}
    site.compute.add_firewall(
        "default-allow-ssh", allowed=[{"IPProtocol": "tcp", "ports": ["22"]}], **everybody
    )
    site.compute.add_firewall("elsewhere", network="default", allowed=[{"IPProtocol": "all"}])
    assert site.plan().notices[0] == (
        "the firewall default-allow-ssh is for every instance of the network, the fleet's too: "
        "tcp 22 from 0.0.0.0/0"
    )
    assert "elsewhere" not in str(site.plan().notices)


def test_an_unmarked_firewall_of_a_name_of_ours_is_refused_and_left_alone(site: Site) -> None:
    mine = site.compute.add_firewall(SSH, **OF_OTHERS)
    with pytest.raises(CloudError, match=f"{SSH} is there already and carries no tag"):
        site.plan()
    assert site.apply(present=False) == []
    assert site.compute.firewalls == {SSH: mine}


@pytest.mark.parametrize("network", ["gpus", "default"])
def test_a_firewall_that_somebody_makes_meanwhile_is_not_taken(site: Site, network: str) -> None:
    class Slow(Gcp):
        def apply(self, *more: Any) -> None:
            compute.add_firewall(SSH, network=network, **OF_OTHERS)
            super().apply(*more)

    compute = site.compute
    row = GcpCloud(provider="gcp", project=compute.project, network="gpus", endpoint=site.endpoint)
    with pytest.raises(CloudError, match=f"there is a firewall {SSH} already"):
        site.apply(driver=Slow(row, "lab", OWNER, HURRY))
    assert compute.firewalls[SSH]["allowed"] == OF_OTHERS["allowed"]


def test_fleets_whose_names_begin_alike_are_told_apart(site: Site) -> None:
    hosts = cloud_hosts("gcp", name="lab-2")
    second = fleet_of(hosts)
    site.compute.add_instance("vm-2", stagefleet_fleet="lab-2", stagefleet_host="gpu-1")
    site.apply()
    one = dict(site.compute.firewalls)
    site.apply(second, driver=site.driver("lab-2"))
    assert site.lines() == []
    assert site.compute.tags_of("vm-2") == {"stagefleet-lab-2-gpu-1", "stagefleet-lab-2-all"}
    assert site.compute.tags_of("vm-gpu-1") >= {"stagefleet-lab-gpu-1", "stagefleet-lab-all"}
    site.apply(second, driver=site.driver("lab-2"), present=False)
    assert site.compute.firewalls == one
    assert site.lines() == []


def test_fleets_of_one_name_in_two_hands_do_not_touch_each_other(site: Site) -> None:
    site.apply()
    before = dict(site.compute.firewalls)
    other = site.driver(owner="ffffffffffffffff")
    request = wish(FLEET, "gcp").model_copy(update={"owner": "ffffffffffffffff"})
    with pytest.raises(CloudError, match="belongs to another fleet of the name lab"):
        operation.apply(request, other, print)
    gone = request.model_copy(update={"present": False})
    assert operation.apply(gone, other, print).changes == ()
    assert site.compute.firewalls == before


def test_a_fleet_may_be_in_two_networks_of_a_project(site: Site) -> None:
    row = {"provider": "gcp", "project": "some-lab"}
    clouds = {"gcp": row | {"network": "gpus"}, "second": row | {"network": "default"}}
    hosts = cloud_hosts("gcp", clouds=clouds)
    hosts["gpu-2"]["fleet_host"]["cloud"] = "second"
    fleet = fleet_of(hosts)
    second = site.driver(network="default")
    request = wish(fleet, "second")
    site.apply(fleet)
    operation.apply(request, second, print)
    assert site.lines(fleet) == []
    assert operation.plan(request, second).changes == ()
    site.apply(fleet, present=False)
    assert operation.plan(request, second).changes == ()
    operation.apply(request.model_copy(update={"present": False}), second, print)
    assert site.compute.firewalls == {}


def test_a_host_may_have_a_name_that_no_label_can_be(site: Site) -> None:
    hosts = cloud_hosts("gcp")
    hosts["GPU.One"] = hosts.pop("gpu-1")
    fleet = fleet_of(hosts)
    assert (
        "no instance has the tag stagefleet-host=GPU.One (as a label of Google's cloud: "
        f"{label_of('GPU.One')}) of this fleet: nothing guards it"
    ) in site.plan(fleet).notices
    site.compute.add_instance("vm-one", stagefleet_fleet="lab", stagefleet_host=label_of("GPU.One"))
    done = site.apply(fleet)
    assert "+ member GPU.One: the instance of GPU.One" in done
    assert len(site.compute.tags_of("vm-one")) == 2
    assert site.lines(fleet) == []
    site.apply(fleet, present=False)
    assert site.compute.tags_of("vm-one") == set()
    assert site.compute.firewalls == {}


def test_a_host_that_leaves_the_fleet_leaves_its_groups(site: Site) -> None:
    site.apply()
    hosts = cloud_hosts("gcp")
    hosts["gpu-1"]["fleet_host"] |= {"cloud": None, "addresses": []}
    site.apply(fleet_of(hosts))
    assert site.compute.tags_of("vm-gpu-1") == {"web"}
    assert site.compute.tags_of("vm-gpu-0") > {"web"}
    assert not any("gpu-1" in name for name in site.compute.firewalls)


def test_instances_elsewhere_and_of_others_are_left_alone(site: Site) -> None:
    for name, network, labels in (
        ("elsewhere", "default", {"stagefleet_fleet": "lab", "stagefleet_host": "gpu-2"}),
        ("other", "gpus", {"stagefleet_fleet": "lab-2", "stagefleet_host": "gpu-2"}),
        ("nameless", "gpus", {"stagefleet_fleet": "lab"}),
    ):
        site.compute.add_instance(name, ["web"], network, **labels)
    site.apply()
    for name in ("elsewhere", "other", "nameless"):
        assert site.compute.tags_of(name) == {"web"}
    site.compute.add_instance("twin", stagefleet_fleet="lab", stagefleet_host="gpu-1")
    with pytest.raises(CloudError, match=r"twin \(.*\) and vm-gpu-1 \(.*\) both have the label"):
        site.plan()


def test_an_instance_has_room_for_its_tags_or_says_so(site: Site) -> None:
    many = [f"tag-{number}" for number in range(63)]
    site.compute.add_instance("full", many, stagefleet_fleet="lab", stagefleet_host="gpu-2")
    with pytest.raises(CloudError, match="full has 63 network tags, and with the 2"):
        site.apply()


def test_many_pages_are_read_to_the_end(site: Site) -> None:
    site.compute.page = 2
    site.apply()
    assert site.lines() == []
    assert site.compute.tags_of("vm-gpu-0") > {"web"}


def test_the_calls_of_a_run_without_changes_do_not_grow_with_the_rules(site: Site) -> None:
    many = cloud_fleet(
        "gcp",
        access=[
            {"service": service, "networks": [f"192.0.2.{n}/32" for n in range(60)]}
            for service in ("dht", "rpc", "ssh")
        ],
    )
    counts = []
    for fleet in (FLEET, many):
        site.apply(fleet)
        before = len(site.compute.calls)
        assert site.apply(fleet) == []
        counts.append(len(site.compute.calls) - before)
    assert counts == [3, 3]
