import pytest

from runtime.spec.errors import SpecError
from runtime.spec.inventory import fleet_of
from runtime.spec.sources import source_of
from tests.support.clouds import cloud_hosts
from tests.support.inventories import four_hosts


def test_a_host_is_seen_at_the_address_that_both_share_or_at_its_public_one() -> None:
    fleet = fleet_of(cloud_hosts())
    assert source_of(fleet, "gpu-0", "gpu-1") == "10.0.0.1/32"
    assert source_of(fleet, "gpu-0", "gpu-3") == "203.0.113.1/32"
    assert source_of(fleet, "gpu-3", "gpu-0") == "203.0.113.4/32"


def test_a_host_that_is_known_by_name_only_is_refused() -> None:
    hosts = four_hosts()
    hosts["gpu-2"]["ansible_host"] = "gpu-2.example"
    with pytest.raises(SpecError, match=r"host gpu-2 is known by its name gpu-2\.example only"):
        source_of(fleet_of(hosts), "gpu-2", "gpu-0")
