import pytest

from runtime.spec.services import CATALOGUE, DHT, GATEWAY, RPC, SSH, stage_port


def test_the_ports_are_those_of_the_guides() -> None:
    pairs = {stage: (stage_port(DHT, stage), stage_port(RPC, stage)) for stage in range(4)}
    assert pairs == {1: (8002, 8003), 2: (8004, 8005), 3: (8006, 8007), 0: (8008, 8009)}


def test_longer_pipelines_go_on_behind_without_a_clash() -> None:
    ports = [stage_port(service, stage) for stage in range(32) for service in (DHT, RPC)]
    assert len(set(ports)) == len(ports)
    assert not set(ports) & {SSH.port, GATEWAY.port}


def test_only_services_of_every_stage_have_a_port_for_each() -> None:
    with pytest.raises(ValueError, match="gateway has no port for stage 1"):
        stage_port(GATEWAY, 1)
    with pytest.raises(ValueError, match="no port for stage -1"):
        stage_port(DHT, -1)


def test_every_row_has_its_own_name() -> None:
    assert len({service.name for service in CATALOGUE}) == len(CATALOGUE)
