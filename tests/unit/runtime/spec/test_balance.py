"""A fleet whose servers choose their blocks: what is derived of it, and what is refused."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.errors import SpecError
from runtime.spec.flows import flows
from runtime.spec.inventory import fleet_of, read_inventory
from runtime.spec.openings import openings
from runtime.spec.plan import Peer, StagePlan, plans
from runtime.spec.probes import OPERATOR, probes
from runtime.spec.stage import OF_OTHERS, StageConfig
from runtime.spec.units import stage_units
from tests.support.inventories import balanced_hosts

Hosts = dict[str, dict[str, Any]]


def peers_of(hosts: Hosts) -> dict[str, Peer]:
    """Return an identity for every server, the same one whenever it is asked for."""
    return {
        stage.certificate_name: Peer(
            peer_id=f"Qm{stage.certificate_name}", certificate_sha256=stage.certificate_name
        )
        for stage in fleet_of(hosts).stages
    }


def planned(hosts: Hosts) -> dict[str, tuple[StagePlan, ...]]:
    """Return what each host runs once every identity is known."""
    found = plans(fleet_of(hosts), peers_of(hosts))
    return {name: plan.stages for name, plan in found.items()}


def config_of(plan: StagePlan) -> StageConfig:
    return StageConfig.model_validate_json(plan.config_text)


def test_four_servers_of_a_quarter_and_a_client_side_are_a_fleet_without_stage_numbers() -> None:
    found = planned(balanced_hosts(4))
    (client,) = found.pop("client")
    config = config_of(client)
    assert (config.stage, config.use_load_balancing, config.splits) == (0, True, ())
    assert config.span(32) is not None
    assert not config.span(32)
    for (server,) in found.values():
        config = config_of(server)
        assert (config.use_load_balancing, config.num_blocks, config.total_blocks) == (True, 8, 32)
        assert config.span(32) is None
        assert (config.listen_dht_port, config.listen_rpc_port) == (8002, 8003)
        assert server.unit == "stagefleet-lab-server-1"
        assert server.summary == (
            "server 1, 8 blocks of its own choice, dht 8002/tcp, rpc 8003/tcp, device auto"
        )
        assert len(config.peers) == len(config.dht_initial_peers) == 4


def test_what_a_fleet_and_a_host_say_of_balancing_reaches_the_server() -> None:
    hosts = balanced_hosts(
        3, balance={"num_blocks": 16, "balance_quality": 0.5, "mean_balance_check_period": 7}
    )
    hosts["gpu-2"]["fleet_host"] = {
        "servers": [{"device": "cuda:0"}, {"device": "cuda:1", "num_blocks": "auto"}]
    }
    found = planned(hosts)
    config = config_of(found["gpu-1"][0])
    assert (config.balance_quality, config.mean_balance_check_period) == (0.5, 7)
    first, second = map(config_of, found["gpu-2"])
    assert (first.num_blocks, first.device, first.listen_rpc_port) == (16, "cuda:0", 8003)
    assert (second.num_blocks, second.device, second.listen_rpc_port) == ("auto", "cuda:1", 8005)
    assert [plan.name for plan in found["gpu-2"]] == ["server-1", "server-2"]
    assert "as many blocks as it can hold of its own choice" in found["gpu-2"][1].summary


@given(st.integers(2, 6), st.integers(0, 6), st.booleans())
def test_a_host_that_joins_changes_nothing_of_the_others_but_what_they_are_told_of_it(
    servers: int, position: int, mixed: bool
) -> None:
    hosts = balanced_hosts(servers, splits=(16,) if mixed else (), balance={"num_blocks": 16})
    before = planned(hosts)
    # In front of all, between them, or behind them.
    hosts[f"gpu-{position}b"] = hosts["gpu-1"] | {"ansible_host": "198.51.100.99"}
    after = planned(hosts)
    assert after.keys() - before.keys() == {f"gpu-{position}b"}
    for name, stages in before.items():
        for old, new in zip(stages, after[name], strict=True):
            told = {"config_text": ""}
            assert old.model_copy(update=told) == new.model_copy(update=told)
            assert new.config_text != old.config_text
            old_config, new_config = json.loads(old.config_text), json.loads(new.config_text)
            assert {key for key in new_config if new_config[key] != old_config[key]} == OF_OTHERS
            assert set(old_config["dht_initial_peers"]) < set(new_config["dht_initial_peers"])


def test_a_setting_of_its_own_still_restarts_a_server() -> None:
    hosts = balanced_hosts(4)
    before = planned(hosts)
    hosts["gpu-3"]["fleet_host"] = {"servers": [{"num_blocks": 9}]}
    after = planned(hosts)
    assert {name for name in before if before[name][0].digest != after[name][0].digest} == {"gpu-3"}


def test_servers_of_two_hosts_share_a_number_and_neither_certificate_nor_identity() -> None:
    found = planned(balanced_hosts(4))
    names = {plan.certificate_name for stages in found.values() for plan in stages}
    assert names == {"stage-0", *(f"gpu-{number}-server-1" for number in range(1, 5))}
    hosts = balanced_hosts(4)
    one = peers_of(hosts) | {
        "gpu-2-server-1": Peer(peer_id="QmNew", certificate_sha256="renewed"),
    }
    renewed = {name: plan.stages[0].digest for name, plan in plans(fleet_of(hosts), one).items()}
    assert {name for name in renewed if renewed[name] != found[name][0].digest} == {"gpu-2"}


def test_every_server_may_talk_to_every_other_one_and_nobody_else_may() -> None:
    everybody = {"client", "gpu-1", "gpu-2", "gpu-3", "gpu-4"}
    found = {
        (flow.host, flow.purpose, flow.port): set(flow.hosts)
        for flow in flows(fleet_of(balanced_hosts(4)))
        if flow.service != "ssh"
    }
    assert found == {
        ("client", "dht of stage 0", 8008): everybody - {"client"},
        ("client", "rpc of stage 0", 8009): everybody - {"client"},
        **{
            (f"gpu-{number}", f"{service} of server 1", port): everybody - {f"gpu-{number}"}
            for number in range(1, 5)
            for service, port in (("dht", 8002), ("rpc", 8003))
        },
    }
    comes_in = {opening.source for opening in openings(fleet_of(balanced_hosts(4)))["gpu-4"]}
    assert comes_in == {"192.0.2.0/24", *(f"198.51.100.{number}/32" for number in range(1, 5))}


def test_stages_on_hosts_keep_their_blocks_and_the_others_are_left_to_the_group() -> None:
    hosts = balanced_hosts(2, splits=(8, 16), balance={"num_blocks": 8})
    hosts["fixed"] = copy.deepcopy(hosts["client"]) | {"fleet_host": {"stages": [1]}}
    hosts["fixed"]["ansible_host"] = "198.51.100.50"
    found = planned(hosts)
    assert str(config_of(found["client"][0]).span(32)) == "[0, 8)"
    assert str(config_of(found["fixed"][0]).span(32)) == "[8, 16)"
    assert config_of(found["gpu-1"][0]).span(32) is None
    # It may come before, or behind, any of the others.
    (flow,) = (flow for flow in flows(fleet_of(hosts)) if flow.purpose == "rpc of stage 1")
    assert set(flow.hosts) == {"client", "gpu-1", "gpu-2"}


def test_only_the_client_side_waits_until_every_block_is_served() -> None:
    hosts = balanced_hosts(4)
    for name, plan in plans(fleet_of(hosts), peers_of(hosts)).items():
        (unit,) = stage_units(plan, "/venv/bin/python", "/releases/abc")
        assert (unit.health[-1] == "--pipeline") is (name == "client")


def without_client(hosts: Hosts) -> None:
    hosts["client"]["fleet_host"] = {}


def on_client(**host: object) -> Any:
    return lambda hosts: hosts["client"].update(fleet_host=host)


def on_gpu_2(**server: object) -> Any:
    return lambda hosts: hosts["gpu-2"].update(fleet_host={"servers": [server]})


def everywhere(**site: object) -> Any:
    return lambda hosts: [host["fleet"].update(site) for host in hosts.values()]


def without_group(name: str) -> Any:
    return lambda hosts: (
        [host.update(group_names=[name], fleet_host={}) for host in hosts.values()]
        + [on_client(stages=[0])(hosts)]
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (on_gpu_2(num_blocks=33), "host gpu-2: its server 1 takes 33 blocks (num_blocks), but"),
        (
            on_gpu_2(num_blocks=7),
            "the 4 servers of the group 'balanced' take 31 blocks together: 1 of the model's 32 "
            "blocks would be served by nobody; add hosts to the group, or raise num_blocks (to 8",
        ),
        (
            everywhere(balance={"num_blocks": 5}),
            "12 of the model's 32 blocks would be served by nobody",
        ),
        (without_client, "stage 0 is on no host: add 0 to some host's fleet_host.stages (stage 0"),
        (on_client(stages=[0, 1]), "host client has stage 1, but servers of the group 'balanced'"),
        (
            on_client(stages=[0], servers=[{}]),
            "host client has servers, but is not in the group 'balanced'",
        ),
        (
            everywhere(balance={}),
            "host gpu-1: how many blocks does its server 1 take? Add",
        ),
        (
            everywhere(balance={"num_blocks": 0}),
            "'balance.num_blocks': takes a number of",
        ),
        (everywhere(balance={"num_blocks": "all"}), "or auto (got 'all')"),
        (everywhere(balance={"num_block": 8}), "'balance.num_block'; did you mean 'num_blocks'?"),
        (on_gpu_2(num_blocks="all"), "host gpu-2: 'servers.0.num_blocks': takes a number"),
        (without_group("gpus"), "no host is in the group 'balanced': put hosts there, or leave"),
        (without_group("balancd"), "the group is called 'balancd'; call it 'balanced'"),
        (on_gpu_2(rpc_port=8002), "host gpu-2: port 8002 is taken by server 1 dht and by server 1"),
        (on_gpu_2(public_rpc_port=4000), "host gpu-2 maps public ports but has no public_ip"),
        (
            lambda hosts: hosts.update({"g/5": copy.deepcopy(hosts["gpu-1"])}),
            "host g/5: its name becomes part of a certificate",
        ),
    ],
)
def test_what_could_not_work_is_refused_by_name(change: Any, said: str) -> None:
    hosts = balanced_hosts(4)
    change(hosts)
    with pytest.raises(SpecError) as found:
        fleet_of(hosts)
    assert said in str(found.value)


def test_blocks_that_stages_hold_need_no_other_server() -> None:
    assert fleet_of(balanced_hosts(2, splits=(16,)))
    with pytest.raises(SpecError, match="8 blocks together, and 16 are held by stages: 8 of the"):
        fleet_of(balanced_hosts(1, splits=(16,)))


@given(st.lists(st.integers(1, 32) | st.just("auto"), min_size=1, max_size=6), st.integers(0, 31))
def test_a_fleet_is_accepted_exactly_if_its_servers_can_hold_what_is_left(
    counts: list[int | str], split: int
) -> None:
    hosts = balanced_hosts(len(counts), splits=(split,) if split else ())
    for number, count in enumerate(counts, start=1):
        hosts[f"gpu-{number}"]["fleet_host"] = {"servers": [{"num_blocks": count}]}
    known = [count for count in counts if isinstance(count, int)]
    try:
        fleet_of(hosts)
    except SpecError:
        assert len(known) == len(counts)
        assert sum(known) < 32 - split
    else:
        assert len(known) < len(counts) or sum(known) >= 32 - split


def test_groups_are_read_from_an_inventory_with_those_around_them(tmp_path: Path) -> None:
    hosts = balanced_hosts(2, balance={"num_blocks": 16})
    inventory = {
        "all": {
            "vars": {"fleet": hosts["client"]["fleet"]},
            "hosts": {"client": {"fleet_host": {"stages": [0]}}},
            "children": {
                "balanced": {"children": {"rack": {"hosts": {"gpu-1": {}}}}, "hosts": {"gpu-2": {}}}
            },
        }
    }
    path = tmp_path / "hosts.yml"
    path.write_text(json.dumps(inventory))
    read = read_inventory(path)
    assert read.fleet.balanced == ("gpu-1", "gpu-2")
    assert read.variables["gpu-1"]["group_names"] == ["balanced", "rack"]


def test_it_is_tried_whether_each_server_lets_in_all_others_and_nobody_else() -> None:
    hosts = balanced_hosts(4)
    tried = [
        probe
        for probe in probes(fleet_of(hosts), dict.fromkeys(hosts, ("198.51.100.1", 22)))
        if probe.host == "gpu-2" and probe.purpose == "rpc of server 1"
    ]
    assert {probe.source for probe in tried if probe.expected} == {
        *("client", "gpu-1", "gpu-3", "gpu-4")
    }
    assert {probe.source for probe in tried if not probe.expected} == {OPERATOR}
    assert {(probe.address, probe.dialled) for probe in tried if probe.expected} == {
        ("198.51.100.3", 8003)
    }
