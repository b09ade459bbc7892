import pytest

from runtime.errors import DeployError, SpecError
from runtime.gateway.access import gateway_url, ssh_command
from runtime.spec.inventory import Inventory, fleet_of
from tests.support.inventories import four_hosts
from tests.support.swarm import LOOPBACK, free_ports


def inventory(**variables: object) -> Inventory:
    hosts = four_hosts()
    hosts["gpu-0"] |= variables
    return Inventory(fleet=fleet_of(hosts), variables=hosts)


def test_a_local_fleet_is_reached_directly() -> None:
    with gateway_url(inventory(ansible_connection="local")) as base:
        assert base == f"http://{LOOPBACK}:8080"


def test_ssh_is_used_as_ansible_uses_it() -> None:
    command = ssh_command(
        "gpu-0",
        {
            "ansible_host": "203.0.113.9",
            "ansible_user": "ops",
            "ansible_port": 2222,
            "ansible_ssh_private_key_file": "/keys/id",
            "ansible_ssh_common_args": "-o ProxyJump=bastion",
        },
    )
    assert command[-1] == "ops@203.0.113.9"
    assert command[-5:-1] == ["-p", "2222", "-i", "/keys/id"]
    assert "ProxyJump=bastion" in command


def test_a_host_that_ssh_does_not_reach_is_named() -> None:
    (port,) = free_ports(1)
    where = inventory(ansible_host=LOOPBACK, ansible_port=port)
    with (
        pytest.raises(DeployError, match=f"ssh to {LOOPBACK} failed"),
        gateway_url(where),
    ):
        pass


def test_another_connection_is_refused_with_the_mend() -> None:
    with (
        pytest.raises(SpecError, match=r"reached by 'community\.docker\.docker'"),
        gateway_url(inventory(ansible_connection="community.docker.docker")),
    ):
        pass
