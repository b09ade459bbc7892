"""A fleet, its driver for Google's cloud, and the fake that it talks to."""

from collections.abc import Iterator
from typing import Any

import pytest

from cloud import operation
from cloud.gcp.api import Patience
from cloud.gcp.driver import Gcp
from cloud.operation import Plan
from runtime.spec.clouds import GcpCloud
from runtime.spec.fleet import Fleet
from tests.support.clouds import OWNER, cloud_fleet, wish
from tests.support.gcp.fake import Compute
from tests.support.gcp.server import serving

HURRY = Patience(first=0.002, longest=0.01, call=5, operation=10)
NO_PATIENCE = Patience(first=0.002, longest=0.01, call=0.03, operation=0.5)
FLEET = cloud_fleet("gcp")
SSH = "stagefleet-lab-gpu-1-tcp-22-v4"
OF_OTHERS: dict[str, Any] = {
    "sourceRanges": ["192.0.2.9/32"],
    "targetTags": ["stagefleet-lab-gpu-1"],
    "allowed": [{"IPProtocol": "tcp", "ports": ["80"]}],
}


class Site:
    """A fleet's driver and what it talks to."""

    def __init__(self, compute: Compute, endpoint: str) -> None:
        self.compute = compute
        self.endpoint = endpoint

    def driver(
        self,
        fleet: str = "lab",
        owner: str = OWNER,
        network: str = "gpus",
        patience: Patience = HURRY,
    ) -> Gcp:
        row = GcpCloud(
            provider="gcp",
            project=self.compute.project,
            network=network,
            endpoint=self.endpoint,
        )
        return Gcp(row, fleet, owner, patience)

    def plan(self, fleet: Fleet = FLEET, driver: Gcp | None = None, **more: Any) -> Plan:
        return operation.plan(wish(fleet, "gcp", **more), driver or self.driver())

    def lines(self, fleet: Fleet = FLEET, **more: Any) -> list[str]:
        return [str(change) for change in self.plan(fleet, **more).changes]

    def apply(self, fleet: Fleet = FLEET, driver: Gcp | None = None, **more: Any) -> list[str]:
        """Return what a run has done, a line each."""
        done: list[str] = []
        operation.apply(
            wish(fleet, "gcp", **more),
            driver or self.driver(fleet.name),
            lambda change: done.append(str(change)),
        )
        assert self.compute.unfinished() == []
        return done


@pytest.fixture
def site() -> Iterator[Site]:
    compute = Compute()
    for host in ("gpu-0", "gpu-1"):
        compute.add_instance(f"vm-{host}", ["web"], stagefleet_fleet="lab", stagefleet_host=host)
    with serving(compute) as endpoint:
        yield Site(compute, endpoint)
