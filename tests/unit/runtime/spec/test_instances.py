from typing import Any

import pytest

from runtime.spec.errors import SpecError
from runtime.spec.inventory import fleet_of
from runtime.spec.links import Link, link
from runtime.spec.plan import plans
from tests.support.clouds import CLOUDS
from tests.support.instances import rented_fleet, rented_hosts

AWS = {"type": "g5.xlarge", "image": "ami-12345678", "disk": 100, "key": "ops"}
AWS |= {"subnet": "subnet-12345678"}
GCP = {
    "type": "g2-standard-4",
    "image": "projects/p/global/images/family/ubuntu",
    "disk": 100,
    "key": "admin:ssh-ed25519 AAAA me@here",
    "zone": "europe-west4-a",
}
SEEN = {"cloud": "aws", "addresses": ["10.9.0.4"], "public_ip": "203.0.113.4"}


def test_a_hosts_own_keys_win_over_its_clouds() -> None:
    hosts = rented_hosts("aws", AWS)
    hosts["gpu-1"]["fleet_host"]["instance"] = {"type": "p4d.24xlarge", "disk": 500}
    fleet = fleet_of(hosts)
    one = fleet.instance("gpu-1")
    assert one is not None
    assert (one.type, one.disk, one.image) == ("p4d.24xlarge", 500, "ami-12345678")
    assert fleet.instance("gpu-2") is None


@pytest.mark.parametrize("key", sorted(AWS))
def test_what_aws_needs_is_asked_for_before_it_is(key: str) -> None:
    said = {name: each for name, each in AWS.items() if name != key}
    with pytest.raises(SpecError, match=rf"host gpu-0: its instance has no {key}: add fleet_host"):
        rented_fleet("aws", said)


@pytest.mark.parametrize("key", sorted(GCP))
def test_what_google_needs_is_asked_for_before_it_is(key: str) -> None:
    said = {name: each for name, each in GCP.items() if name != key}
    with pytest.raises(SpecError, match=rf"its instance has no {key}: .*fleet.clouds.gcp.instance"):
        rented_fleet("gcp", said)


@pytest.mark.parametrize(
    ("cloud", "said", "reason"),
    [
        ("aws", AWS | {"image": GCP["image"]}, "its cloud has no image 'projects/"),
        ("aws", AWS | {"subnet": "gpus"}, "its cloud has no subnet 'gpus'"),
        ("aws", AWS | {"zone": "europe-west4-a"}, "in the zone of its subnet"),
        ("gcp", GCP | {"image": "ami-12345678"}, "its cloud has no image 'ami-12345678'"),
        ("gcp", GCP | {"key": "operators"}, "a user and a public key, such as"),
        ("aws", AWS | {"disk": 4}, "greater than or equal to 8"),
        ("aws", AWS | {"tpye": "g5.xlarge"}, "did you mean 'type'"),
    ],
)
def test_what_is_said_as_another_cloud_says_it_is_refused(
    cloud: str, said: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SpecError, match=reason):
        rented_fleet(cloud, said)


def test_azure_is_refused_by_name_and_so_is_an_instance_in_no_cloud() -> None:
    hosts = rented_hosts("aws", AWS)
    for host, cloud in (("gpu-0", "azure"), ("gpu-1", None)):
        hosts[host]["fleet_host"]["cloud"] = cloud
    for variables in hosts.values():
        variables["fleet"]["clouds"] = CLOUDS
    with pytest.raises(SpecError) as found:
        fleet_of(hosts)
    assert "gpu-0 has an instance, but instances in Azure (azure) are not made yet" in str(
        found.value
    )
    assert "gpu-1 has an instance, but is in no cloud" in str(found.value)


def test_what_is_not_made_yet_is_told_from_what_was_forgotten() -> None:
    hosts = rented_hosts("aws", AWS)
    fleet = fleet_of(hosts)
    assert fleet.hosts["gpu-0"].is_unmade
    assert not fleet.hosts["gpu-2"].is_unmade
    with pytest.raises(SpecError, match="the addresses of gpu-0, gpu-1") as found:
        plans(fleet, {})
    assert "./fleet cloud instances create" in found.value.hint
    with pytest.raises(SpecError, match="not known yet: the addresses of gpu-0;"):
        link(fleet, "gpu-2", "gpu-0")


def test_what_a_cloud_says_lies_under_what_is_written() -> None:
    hosts = rented_hosts("aws", AWS)
    hosts["gpu-0"] |= {"ansible_host": "203.0.113.4", "fleet_host_cloud": SEEN}
    hosts["gpu-1"]["fleet_host_cloud"] = SEEN | {"addresses": ["10.9.0.5"]}
    hosts["gpu-1"]["fleet_host"]["addresses"] = ["10.8.0.5"]
    # A host that nothing but its tags say is one.
    hosts["spare"] = {"fleet": hosts["gpu-0"]["fleet"], "fleet_host_cloud": SEEN}
    fleet = fleet_of(hosts)
    assert fleet.hosts["gpu-0"].addresses == ("10.9.0.4",)
    assert fleet.hosts["gpu-0"].public_ip == "203.0.113.4"
    assert fleet.hosts["gpu-1"].addresses == ("10.8.0.5",)
    assert fleet.hosts["gpu-1"].public_ip is None
    assert fleet.hosts["spare"].cloud == "aws"
    hosts["gpu-0"]["fleet_host_cloud"] = SEEN | {"cloud": "other"}
    with pytest.raises(SpecError, match="gpu-0 is in the cloud 'aws', and its instance in 'other'"):
        fleet_of(hosts)


def test_hosts_that_are_made_in_one_cloud_use_its_network() -> None:
    hosts = rented_hosts("aws", AWS)
    for number, name in enumerate(("gpu-0", "gpu-1")):
        address = {"addresses": [f"10.9.0.{number}"], "public_ip": f"203.0.113.{number}"}
        hosts[name]["fleet_host_cloud"] = {"cloud": "aws"} | address
    fleet = fleet_of(hosts)
    assert link(fleet, "gpu-0", "gpu-1") == Link(address="10.9.0.1", via="aws")
    assert link(fleet, "gpu-2", "gpu-1") == Link(address="203.0.113.1", via="public", mapped=True)
    assert plans(fleet, {}).keys() == fleet.hosts.keys()
