"""A fleet's instances in Google's cloud, with the real client library, against a fake."""

import copy
import json
from typing import Any

import pytest
from google.cloud import compute_v1

from cloud import instance_operation, operation
from cloud.errors import CloudError
from cloud.gcp.api import Patience
from cloud.gcp.instances import GcpInstances
from cloud.gcp.machines import seen_of
from cloud.instance_operation import Patience as Waiting
from cloud.instances import Verb
from runtime.spec.clouds import GcpCloud
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import fleet_of
from tests.support.clouds import OWNER, wish
from tests.support.gcp.extract import TARGET
from tests.support.gcp.faults import Fault
from tests.support.gcp.machines import IMAGE
from tests.support.gcp.site import HURRY, NO_PATIENCE, Site, site
from tests.support.instances import OTHER_OWNER, rented_fleet, rented_hosts
from tests.support.loopback import loopback_only

__all__ = ["loopback_only", "site"]

KEY = "admin:ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"
SAID = {"type": "g2-standard-4", "image": IMAGE, "disk": 100, "key": KEY, "zone": "europe-west4-a"}
FLEET = rented_fleet("gcp", SAID)
AT_ONCE = Waiting(bound=5, sleep=lambda _: None)


@pytest.fixture(autouse=True)
def nobody_there(site: Site) -> None:
    site.compute.machines.clear()


def run(
    site: Site,
    verb: Verb,
    *only: str,
    fleet: Fleet = FLEET,
    owner: str = OWNER,
    patience: Patience = HURRY,
) -> list[str]:
    """Do what is asked for, and return what was done, a line each."""
    row = GcpCloud(
        provider="gcp", project=site.compute.project, network="gpus", endpoint=site.endpoint
    )
    provider = GcpInstances(row, "lab", owner, patience)
    looked = instance_operation.look(verb, fleet, "gcp", provider, owner, only)
    said: list[str] = []
    if looked.plan.changes:
        instance_operation.do(looked, fleet, provider, said.append, AT_ONCE)
        again = instance_operation.look(verb, fleet, "gcp", provider, owner, only)
        assert again.plan.changes == ()
    return [line.removesuffix(" (done)") for line in said if line.endswith("(done)")]


def test_instances_are_made_as_they_are_asked_for_and_go_again(site: Site) -> None:
    assert [line[:17] for line in run(site, Verb.CREATE)] == [
        "+ instance gpu-0:",
        "+ instance gpu-1:",
    ]
    one = site.compute.machines["europe-west4-a", "stagefleet-lab-gpu-0"]
    assert one["labels"] == {
        "stagefleet-fleet": "lab",
        "stagefleet-owner": OWNER,
        "stagefleet-host": "gpu-0",
    }
    assert set(one["tags"]["items"]) == {"stagefleet-lab-gpu-0", "stagefleet-lab-all"}
    said = {each["key"]: each["value"] for each in one["metadata"]["items"]}
    assert said["ssh-keys"] == KEY
    (disk,) = one["disks"]
    assert (disk["autoDelete"], disk["diskSizeGb"]) == (True, "100")
    assert "serviceAccounts" not in one
    assert run(site, Verb.CREATE) == []

    first = one["networkInterfaces"][0]["accessConfigs"][0]["natIP"]
    assert len(run(site, Verb.STOP, "gpu-0")) == 1
    assert one["status"] == "TERMINATED"
    assert run(site, Verb.CREATE) == []
    assert len(run(site, Verb.START)) == 1
    assert one["networkInterfaces"][0]["accessConfigs"][0]["natIP"] != first
    (gone,) = run(site, Verb.TERMINATE, "gpu-0")
    assert gone.endswith("(g2-standard-4, runs), with stagefleet-lab-gpu-0")
    assert len(run(site, Verb.CREATE)) == 1
    assert len(run(site, Verb.TERMINATE)) == 2
    assert site.compute.machines == {}
    assert site.compute.unfinished() == []


def test_rules_find_the_instances_in_their_groups_from_the_start(site: Site) -> None:
    run(site, Verb.CREATE)
    planned = site.plan(FLEET)
    assert not [change for change in planned.changes if change.member]
    assert not any("no instance" in notice for notice in planned.notices)
    site.apply(FLEET)
    with pytest.raises(CloudError, match=r"made for this fleet: gpu-0 \(stagefleet-lab-gpu-0\)"):
        site.apply(FLEET, present=False)
    run(site, Verb.TERMINATE)
    site.apply(FLEET, present=False)
    assert site.compute.firewalls == {}


def test_what_differs_is_told_where_the_cloud_can_tell(site: Site) -> None:
    run(site, Verb.CREATE)
    other = IMAGE.replace("cu124", "cu128")
    changed = SAID | {"type": "a2-highgpu-1g", "image": other, "zone": "europe-west4-b"}
    fleet = rented_fleet("gcp", changed, inside=1)
    row = GcpCloud(
        provider="gcp", project=site.compute.project, network="gpus", endpoint=site.endpoint
    )
    provider = GcpInstances(row, "lab", OWNER, HURRY)
    found = instance_operation.look(Verb.CREATE, fleet, "gcp", provider, OWNER).plan
    assert found.changes == ()
    assert [notice.partition(" of ")[0] for notice in found.notices[:3]] == [
        "gpu-0: type",
        "gpu-0: image",
        "gpu-0: zone",
    ]
    assert "stagefleet-lab-gpu-1 was made for gpu-1" in found.notices[3]


def test_a_host_may_have_a_name_that_no_label_can_be(site: Site) -> None:
    hosts = rented_hosts("gcp", SAID)
    hosts["GPU.One"] = hosts.pop("gpu-1")
    fleet = fleet_of(hosts)
    assert len(run(site, Verb.CREATE, fleet=fleet)) == 2
    assert run(site, Verb.CREATE, fleet=fleet) == []
    (gone,) = run(site, Verb.TERMINATE, "GPU.One", fleet=fleet)
    assert gone.startswith("- instance GPU.One: stagefleet-lab-gpu-one-")


def test_instances_of_others_are_hosts_and_are_left_alone(site: Site) -> None:
    tags = {"stagefleet_fleet": "lab"}
    site.compute.add_instance("rented", **tags, stagefleet_host="gpu-0")
    site.compute.add_instance("elsewhere", network="default", **tags, stagefleet_host="gpu-1")
    (made,) = run(site, Verb.CREATE)
    assert "gpu-1" in made
    with pytest.raises(CloudError, match="rented of gpu-0 was not made with this fleet's"):
        run(site, Verb.STOP, "gpu-0")
    assert run(site, Verb.TERMINATE, owner=OTHER_OWNER) == []
    assert len(run(site, Verb.TERMINATE)) == 1
    assert {name for _, name in site.compute.machines} == {"rented", "elsewhere"}


def test_an_instance_of_a_name_of_ours_that_is_not_ours_is_refused(site: Site) -> None:
    run(site, Verb.CREATE)
    one = site.compute.machines["europe-west4-a", "stagefleet-lab-gpu-0"]
    one["labels"] = {}
    with pytest.raises(CloudError, match="an instance stagefleet-lab-gpu-0 already, and it was"):
        run(site, Verb.CREATE)
    assert len(site.compute.machines) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "n1-huge-1"}, "machineTypes/n1-huge-1' was not found"),
        ({"image": "projects/ml-images/global/images/none"}, "sourceImage"),
        ({"zone": "europe-west4-z"}, "could not make the instance .* in europe-west4-z"),
    ],
)
def test_what_is_not_there_is_said(site: Site, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(CloudError, match=reason):
        run(site, Verb.CREATE, fleet=rented_fleet("gcp", SAID | change))
    assert site.compute.machines == {}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("QUOTA_EXCEEDED", "raise that quota"),
        ("ZONE_RESOURCE_POOL_EXHAUSTED", "name another zone or type"),
    ],
)
def test_what_ends_badly_says_what_is_made_and_a_rerun_continues(
    site: Site, name: str, hint: str
) -> None:
    fault = Fault(403, "", "there is no more", later=True, name=name)
    site.compute.faults["compute.instances.insert"] = [fault]
    with pytest.raises(CloudError, match=r"there is no more(.|\n)*1 of 2 changes") as found:
        run(site, Verb.CREATE)
    assert hint in found.value.hint
    assert len(run(site, Verb.CREATE)) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault(503, "backendError"), Fault(made=True), Fault(400, "invalid", "lost", made=True)],
)
@pytest.mark.parametrize("present", [True, False])
def test_a_rerun_completes_what_a_fault_at_any_call_has_interrupted(
    site: Site, fault: Fault, present: bool
) -> None:
    compute = site.compute
    compute.operations.looks = 1
    wanted, other = (Verb.CREATE, Verb.TERMINATE) if present else (Verb.TERMINATE, Verb.CREATE)
    run(site, other)
    begin = copy.deepcopy(compute.machines)
    calls = -len(compute.calls)
    run(site, wanted)
    calls += len(compute.calls)
    interrupted = 0
    for number in range(calls):
        compute.machines = copy.deepcopy(begin)
        compute.fault_at = {len(compute.calls) + number: fault}
        try:
            run(site, wanted, patience=NO_PATIENCE)
        except CloudError:
            interrupted += 1
        compute.fault_at = {}
        run(site, wanted)
        assert len(compute.machines) == (2 if present else 0)
    # What passes is repeated, and not noticed.
    assert interrupted == (calls if fault.reason == "invalid" else 0)


def test_a_plan_of_rules_needs_no_address_of_what_is_not_made(site: Site) -> None:
    lines = [str(change) for change in operation.plan(wish(FLEET, "gcp"), site.driver()).changes]
    assert "+ gpu-1: tcp 8003 from host gpu-0  # rpc of stage 1" in lines


def test_every_state_that_the_cloud_names_is_known() -> None:
    schemas = json.loads(TARGET.read_text())["schemas"]
    for status in schemas["Instance"]["properties"]["status"]["enum"]:
        labels = {"stagefleet-fleet": "lab", "stagefleet-host": "gpu-0"}
        assert seen_of(compute_v1.Instance(name="a", status=status, labels=labels)).host == "gpu-0"
