"""An operator of a fleet in AWS, for tests of what is asked of it."""

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from boto3.session import Session

from cloud import operation
from cloud.aws import client
from cloud.drivers import driver
from cloud.operation import Wish
from cloud.provider import Provider
from runtime.spec.fleet import Fleet
from tests.support.aws import Network, StrictEc2, network, serve
from tests.support.clouds import CLOUDS, OWNER, cloud_fleet, wish


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait: no call is repeated, and what takes a while is looked at again at once."""
    # What a client is made of takes boto3 half a second to read.
    monkeypatch.setattr(client, "Session", _session)
    monkeypatch.setattr(client, "_ATTEMPTS", 1)
    monkeypatch.setattr(client, "_WAITS", (0.0, 0.0))


@functools.cache
def _session(region_name: str) -> Any:
    return Session(region_name=region_name)


class Site:
    """An operator's machine, and a network of its own."""

    def __init__(self, at: Network, endpoint: str) -> None:
        self.network = at
        self.endpoint = endpoint
        self._providers: dict[object, Provider] = {}

    def fleet(self, inside: int = 3, **site: Any) -> Fleet:
        aws = CLOUDS["aws"] | {"vpc": self.network.vpc, "endpoint": self.endpoint}
        return cloud_fleet(inside=inside, **{"clouds": CLOUDS | {"aws": aws}} | site)

    def plan(self, fleet: Fleet, **more: Any) -> operation.Plan:
        return operation.plan(*self._asked(fleet, **more))

    def lines(self, fleet: Fleet, **more: Any) -> list[str]:
        return [str(change) for change in self.plan(fleet, **more).changes]

    def apply(self, fleet: Fleet, **more: Any) -> list[str]:
        """Apply, and return what was done, a line each."""
        done: list[str] = []
        operation.apply(*self._asked(fleet, **more), lambda change: done.append(str(change)))
        return done

    def destroy(self, fleet: Fleet, **more: Any) -> list[str]:
        return self.apply(fleet, present=False, **more)

    def instance(self, host: str, fleet: str = "lab") -> str:
        return self.network.instance(stagefleet_fleet=fleet, stagefleet_host=host)

    def open_by_hand(self, group: str, **permission: Any) -> None:
        self.network.boto.authorize_security_group_ingress(
            GroupId=self.network.groups()[group]["GroupId"], IpPermissions=[permission]
        )

    def revoke_ssh(self, group: str) -> None:
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
        self.network.boto.revoke_security_group_ingress(
            GroupId=self.network.groups()[group]["GroupId"],
            IpPermissions=[ssh | {"IpRanges": [{"CidrIp": "192.0.2.0/24"}]}],
        )

    def provider(self, fleet: Fleet, owner: str = OWNER) -> Provider:
        key = (fleet.clouds["aws"].model_dump_json(), fleet.name, owner)
        if key not in self._providers:
            # To make a client takes boto3 longer than all that is asked of it.
            self._providers[key] = driver(fleet.clouds["aws"], fleet.name, owner)
        return self._providers[key]

    def _asked(self, fleet: Fleet, owner: str = OWNER, **more: Any) -> tuple[Wish, Provider]:
        asked = wish(fleet, **more).model_copy(update={"owner": owner})
        return asked, self.provider(fleet, owner)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[StrictEc2, str]]:
    with serve() as found:
        yield found


@pytest.fixture
def ec2(served: tuple[StrictEc2, str], monkeypatch: pytest.MonkeyPatch) -> StrictEc2:
    hurry(monkeypatch)
    return served[0]


@pytest.fixture
def site(served: tuple[StrictEc2, str], ec2: StrictEc2) -> Site:
    found = Site(network(served[1]), served[1])
    ec2.forget()
    ec2.instances.pass_a_day()
    return found
