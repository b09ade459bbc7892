from pathlib import Path
from typing import Any

import pytest

from runtime.spec.errors import SpecError
from runtime.spec.inventory import fleet_of, read_inventory
from tests.support.inventories import SITE, four_hosts


def test_ansibles_own_variables_complete_a_host() -> None:
    hosts = four_hosts()
    hosts["gpu-1"]["ansible_port"] = 2222
    host = fleet_of(hosts).hosts["gpu-1"]
    assert host.addresses == ("198.51.100.2",)
    assert host.bind == "all"
    assert host.ports.ssh == 2222


def test_what_a_host_says_itself_wins() -> None:
    hosts = four_hosts()
    hosts["gpu-1"]["ansible_port"] = 2222
    hosts["gpu-1"]["fleet_host"] |= {"addresses": ["10.0.0.9"], "ports": {"ssh": 2200}}
    host = fleet_of(hosts).hosts["gpu-1"]
    assert (host.addresses, host.bind, host.ports.ssh) == (("10.0.0.9",), "addresses", 2200)


def test_other_hosts_of_the_inventory_are_left_alone() -> None:
    hosts = four_hosts() | {"printer": {"ansible_host": "10.9.9.9", "fleet": SITE}}
    assert "printer" not in fleet_of(hosts).hosts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fleet_hots": {"stages": [1]}}, "unknown variable 'fleet_hots'; did you mean 'fleet_ho"),
        ({"fleet_name": "x"}, "unknown variable 'fleet_name'"),
        ({"fleet_host": {"stage": 1}}, "unknown key 'stage'; did you mean 'stages'?"),
        ({"fleet_host": {"stages": ["one"]}}, "host gpu-1: 'stages.0'"),
        ({"fleet_host": "yes"}, "host gpu-1"),
        ({"fleet": SITE | {"name": "other"}}, "'fleet' differs between hosts"),
        ({"fleet_host": {"stages": [1], "public_ip": "not an ip!"}}, "'public_ip'"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], said: str) -> None:
    hosts = four_hosts()
    hosts["gpu-1"] |= change
    with pytest.raises(SpecError) as found:
        fleet_of(hosts)
    assert said in str(found.value)


def test_an_inventory_without_a_fleet_says_where_to_start() -> None:
    with pytest.raises(SpecError, match="inventories/sample"):
        fleet_of({"a": {}})


def _write(root: Path, hosts: str, fleet: str) -> Path:
    (root / "group_vars" / "all").mkdir(parents=True)
    (root / "hosts.yml").write_text(hosts)
    (root / "group_vars" / "all" / "fleet.yml").write_text(fleet)
    return root


_FLEET = "fleet: {name: a, model: {path: /m, total_blocks: 2, splits: [1]}}"


def test_any_ansible_inventory_can_be_read(tmp_path: Path) -> None:
    hosts = "all: {hosts: {x: {fleet_host: {stages: [0, 1]}, ansible_host: 192.0.2.4}}}"
    found = read_inventory(_write(tmp_path, hosts, _FLEET))
    assert found.fleet.hosts["x"].addresses == ("192.0.2.4",)
    assert found.variables["x"]["ansible_host"] == "192.0.2.4"


def test_templates_are_refused_by_key(tmp_path: Path) -> None:
    hosts = 'all: {hosts: {x: {fleet_host: {stages: [0, 1], public_ip: "{{ ip }}"}}}}'
    with pytest.raises(SpecError, match=r"host x: fleet_host\.public_ip: .* is a template"):
        read_inventory(_write(tmp_path, hosts, _FLEET))


def test_a_missing_or_broken_inventory_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="there is no inventory at"):
        read_inventory(tmp_path / "nowhere")
    with pytest.raises(SpecError, match="ansible-inventory cannot read"):
        read_inventory(_write(tmp_path, "all: {hosts: [", _FLEET))
