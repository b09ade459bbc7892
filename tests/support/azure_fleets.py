"""What tests of the Azure driver do with a fleet in the fake of Azure."""

from collections.abc import Iterator
from typing import Any

import pytest

from cloud import operation
from cloud.azure.client import Patience
from cloud.azure.driver import Azure
from cloud.operation import Wish
from runtime.spec.fleet import Fleet
from tests.support.azure import FakeAzure, fake_azure
from tests.support.azure_checks import ASG, NIC, NSG, Json
from tests.support.clouds import CLOUDS, OWNER, cloud_fleet

QUICK = Patience(repeats=3, pause=0, poll=0, longest=20)
ONCE = Patience(repeats=0, pause=0, poll=0, longest=20)
CIDR = {"service": "dht", "hosts": ["gpu-1"], "networks": ["192.0.2.7/32"]}
GPU_0 = "stagefleet-lab-gpu-0"
GPU_1 = "stagefleet-lab-gpu-1"


def fleet(azure: FakeAzure, **site: Any) -> Fleet:
    row = CLOUDS["azure"] | {"endpoint": azure.endpoint} | site.pop("row", {})
    return cloud_fleet("azure", clouds=CLOUDS | {"azure": row}, **site)


def wish(azure: FakeAzure, owner: str = OWNER, present: bool = True, **more: Any) -> Wish:
    purge = more.pop("purge", False)
    return Wish(
        fleet=fleet(azure, **more), cloud="azure", owner=owner, present=present, purge=purge
    )


def provider(asked: Wish, patience: Patience = QUICK) -> Azure:
    row = asked.fleet.clouds["azure"]
    return Azure(row, asked.fleet.name, asked.owner, patience)  # type: ignore[arg-type]  # the row of that name is Azure's


def planned(azure: FakeAzure, **more: Any) -> list[str]:
    asked = wish(azure, **more)
    return [str(change) for change in operation.plan(asked, provider(asked)).changes]


def applied(azure: FakeAzure, patience: Patience = QUICK, **more: Any) -> list[str]:
    asked = wish(azure, **more)
    done: list[str] = []
    operation.apply(asked, provider(asked, patience), lambda change: done.append(str(change)))
    return done


def marked(azure: FakeAzure) -> list[str]:
    return [
        name
        for kind in (NSG, ASG)
        for name, thing in azure.things[kind].items()
        if "stagefleet-owner" in (thing.get("tags") or {})
    ]


def by_hand(name: str = "mine", priority: int = 205, **more: Any) -> Json:
    properties = {
        "protocol": "Tcp",
        "sourcePortRange": "*",
        "sourceAddressPrefix": "203.0.113.77",
        "destinationAddressPrefix": "*",
        "destinationPortRange": "80",
        "access": "Allow",
        "direction": "Inbound",
        "priority": priority,
    }
    return {"name": name, "properties": properties | more}


def groups_of(azure: FakeAzure, host: str) -> tuple[str, list[list[str]]]:
    """Return the network security group of a host's interface, and its addresses' groups."""
    properties = azure.things[NIC][f"{host}-nic"]["properties"]
    attached = properties.get("networkSecurityGroup", {}).get("id", "")
    return attached.rpartition("/")[2], [
        [
            group["id"].rpartition("/")[2]
            for group in each["properties"].get("applicationSecurityGroups", [])
        ]
        for each in properties["ipConfigurations"]
    ]


@pytest.fixture
def azure() -> Iterator[FakeAzure]:
    with fake_azure() as fake:
        yield fake
