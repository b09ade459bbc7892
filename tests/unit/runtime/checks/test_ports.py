import os
import socket
from pathlib import Path

import pytest

from runtime.checks.ports import listener, refuse_taken_ports
from runtime.errors import ConfigError
from runtime.spec.stage import StageConfig
from tests.support.swarm import LOOPBACK, free_ports


def config(**ports: int) -> StageConfig:
    return StageConfig.model_validate({"model": Path("/m"), "stage": 0, **ports})


def test_a_taken_port_is_named_with_its_service_and_its_owner() -> None:
    dht, rpc, gateway = free_ports(3)
    mine = config(dht_port=dht, rpc_port=rpc, gateway_port=gateway)
    refuse_taken_ports(mine)
    with socket.create_server((LOOPBACK, rpc)):
        with pytest.raises(
            ConfigError, match=rf"port {rpc} \(rpc\) is taken by .*pid {os.getpid()}"
        ):
            refuse_taken_ports(mine)
        assert f"(pid {os.getpid()})" in (listener(rpc) or "")
    assert listener(rpc) is None


def test_the_gateway_is_not_needed_for_one_prompt() -> None:
    dht, rpc, gateway = free_ports(3)
    mine = config(dht_port=dht, rpc_port=rpc, gateway_port=gateway)
    with socket.create_server((LOOPBACK, gateway)):
        refuse_taken_ports(mine.model_copy(update={"prompt": "hi"}))
        with pytest.raises(ConfigError, match="gateway"):
            refuse_taken_ports(mine)


def test_an_address_of_another_host_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        refuse_taken_ports(config().model_copy(update={"bind": "192.0.2.1"}))
