from hypothesis import given
from hypothesis import strategies as st

from runtime.spec.flows import Flow, flows
from runtime.spec.inventory import fleet_of
from tests.support.inventories import four_hosts


def test_the_flows_of_four_hosts_are_exactly_these() -> None:
    found = flows(fleet_of(four_hosts()))
    assert {
        (flow.host, flow.service, flow.port): flow.hosts or flow.networks for flow in found
    } == {
        **{(f"gpu-{stage}", "ssh", 22): ("192.0.2.0/24",) for stage in range(4)},
        ("gpu-0", "dht", 8008): ("gpu-1", "gpu-2", "gpu-3"),
        ("gpu-1", "dht", 8002): ("gpu-0", "gpu-2", "gpu-3"),
        ("gpu-2", "dht", 8004): ("gpu-0", "gpu-1", "gpu-3"),
        ("gpu-3", "dht", 8006): ("gpu-0", "gpu-1", "gpu-2"),
        # Token ids come straight from the last stage.
        ("gpu-0", "rpc", 8009): ("gpu-3",),
        ("gpu-1", "rpc", 8003): ("gpu-0",),
        ("gpu-2", "rpc", 8005): ("gpu-0", "gpu-1"),
        ("gpu-3", "rpc", 8007): ("gpu-0", "gpu-2"),
    }


def test_the_gateway_is_open_to_nobody() -> None:
    assert not [flow for flow in flows(fleet_of(four_hosts())) if flow.service == "gateway"]


def test_one_changed_port_is_one_changed_flow() -> None:
    hosts = four_hosts()
    before = set(flows(fleet_of(hosts)))
    hosts["gpu-2"]["fleet_host"]["stages"] = [{"stage": 2, "rpc_port": 9005}]
    after = set(flows(fleet_of(hosts)))
    assert {(flow.host, flow.port) for flow in before - after} == {("gpu-2", 8005)}
    assert {(flow.host, flow.port) for flow in after - before} == {("gpu-2", 9005)}


@given(st.lists(st.integers(0, 3), min_size=4, max_size=4))
def test_no_flow_leads_from_a_host_to_itself_or_from_nobody(places: list[int]) -> None:
    hosts = four_hosts()
    for host in hosts.values():
        host["fleet_host"]["stages"] = []
    for stage, place in enumerate(places):
        hosts[f"gpu-{place}"]["fleet_host"]["stages"].append(stage)
    found: tuple[Flow, ...] = flows(fleet_of(hosts))
    assert all(flow.host not in flow.hosts for flow in found)
    assert all(flow.hosts or flow.networks for flow in found)
    # Every host keeps its way in for operators.
    assert {flow.host for flow in found if flow.service == "ssh"} == set(hosts)
