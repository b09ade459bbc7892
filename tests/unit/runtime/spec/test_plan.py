import json
from pathlib import Path

import pytest

from runtime.spec.inventory import fleet_of
from runtime.spec.paths import at_home
from runtime.spec.plan import HostPlan, Peer, plans
from runtime.spec.stage import StageConfig
from runtime.spec.units import stage_units
from tests.support.inventories import four_hosts

PEERS = {
    f"stage-{stage}": Peer(peer_id=f"Qm{stage}", certificate_sha256=f"c{stage}")
    for stage in range(4)
}


def config_of(host: str, **site: object) -> StageConfig:
    (stage,) = plans(fleet_of(four_hosts(**site)), PEERS)[host].stages
    return StageConfig.model_validate_json(stage.config_text)


def test_a_configuration_holds_its_initial_peers_and_the_ways_to_them() -> None:
    config = config_of("gpu-1")
    assert config.dht_initial_peers == (
        "/ip4/198.51.100.1/tcp/8008/p2p/Qm0",
        "/ip4/198.51.100.3/tcp/8004/p2p/Qm2",
        "/ip4/198.51.100.4/tcp/8006/p2p/Qm3",
    )
    assert [(peer.stage, peer.peer_id, peer.host, peer.rpc_port) for peer in config.peers] == [
        (0, "Qm0", "198.51.100.1", 8009),
        (2, "Qm2", "198.51.100.3", 8005),
        (3, "Qm3", "198.51.100.4", 8007),
    ]
    assert str(config.identity) == "/var/lib/stagefleet/lab/identity/stage-1"


def test_only_hosts_that_write_their_address_bind_to_it() -> None:
    assert config_of("gpu-1").bind == "0.0.0.0"
    hosts = four_hosts()
    hosts["gpu-1"]["fleet_host"]["addresses"] = ["10.0.0.1"]
    (stage,) = plans(fleet_of(hosts), {})["gpu-1"].stages
    assert StageConfig.model_validate_json(stage.config_text).bind == "10.0.0.1"


def test_what_the_site_says_of_serving_reaches_every_stage() -> None:
    config = config_of("gpu-2", serving={"dtype": "bfloat16", "kv_cache_mib": 77})
    assert (config.dtype, config.kv_cache_mib) == ("bfloat16", 77)


def test_a_fleet_that_was_never_deployed_has_a_plan_without_peers() -> None:
    (stage,) = plans(fleet_of(four_hosts()), {})["gpu-1"].stages
    assert json.loads(stage.config_text).get("dht_initial_peers") is None


def test_a_digest_changes_exactly_when_the_service_must_notice() -> None:
    before = {host: plan.stages[0].digest for host, plan in _plans().items()}
    assert before == {host: plan.stages[0].digest for host, plan in _plans().items()}
    renewed = PEERS | {"stage-2": Peer(peer_id="Qm2", certificate_sha256="new")}
    after = {
        host: plan.stages[0].digest for host, plan in plans(fleet_of(four_hosts()), renewed).items()
    }
    assert {host for host in before if before[host] != after[host]} == {"gpu-2"}


def test_a_unit_runs_the_release_with_its_configuration() -> None:
    (unit,) = stage_units(_plans()["gpu-3"], "/venv/bin/python", "/releases/abc")
    assert unit.name == "stagefleet-lab-stage-3"
    assert unit.command[0] == "/venv/bin/python"
    assert unit.command[-2:] == ("--config", "/etc/stagefleet/lab/stage-3.json")
    assert unit.environment["PYTHONPATH"] == "/releases/abc"


@pytest.mark.parametrize("install", [{}, {"scope": "user"}, {"root": "/srv/fleet"}])
def test_what_is_around_a_fleets_directories_is_listed_from_the_inside_out(
    install: dict[str, str],
) -> None:
    where = plans(fleet_of(four_hosts(install=install)), PEERS)["gpu-0"].paths
    own = (where.config, where.identity, where.releases, where.logs, where.run, where.units)
    for path in own:
        # Whatever is made for the fleet alone is in one of the directories that it may share.
        assert any(path.startswith(f"{parent}/") for parent in where.parents)
    for number, parent in enumerate(where.parents):
        assert not any(later.startswith(f"{parent}/") for later in where.parents[number + 1 :])


def test_a_fleets_services_are_told_from_those_of_a_fleet_whose_name_begins_alike() -> None:
    fleets = [plans(fleet_of(four_hosts(name=name)), PEERS)["gpu-0"] for name in ("lab", "lab-2")]
    for plan, other in zip(fleets, reversed(fleets), strict=True):
        (own,), (foreign,) = plan.stages, other.stages
        assert any(own.unit.removeprefix(prefix).isdigit() for prefix in plan.unit_prefixes)
        assert not any(foreign.unit.removeprefix(prefix).isdigit() for prefix in plan.unit_prefixes)


def test_a_users_fleet_lives_below_its_home() -> None:
    plan = plans(fleet_of(four_hosts(install={"scope": "user"})), PEERS)["gpu-0"]
    assert plan.paths.config == "~/.local/share/stagefleet/lab/config"
    own = plan.paths.model_dump(exclude={"systemd", "parents"}).values()
    resolved = at_home([*own, *plan.paths.parents], "/home/ada")
    assert isinstance(resolved, list)
    assert all(path.startswith("/home/ada/") for path in resolved)
    # The server itself expands what its configuration says.
    (stage,) = plan.stages
    assert StageConfig.model_validate_json(stage.config_text).identity == Path(stage.identity_path)


def _plans() -> dict[str, HostPlan]:
    return plans(fleet_of(four_hosts()), PEERS)
