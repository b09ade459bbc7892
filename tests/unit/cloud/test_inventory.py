from typing import Any

import pytest

from cloud import inventory
from cloud.instances import Life, Seen
from cloud.names import label_of
from runtime.spec.errors import SpecError
from tests.support.clouds import CLOUDS
from tests.support.instances import Machines
from tests.support.inventories import SITE


def seen(host: str, life: Life = Life.RUNNING, **more: Any) -> Seen:
    return Seen(id=f"i-{host}", host=host, life=life, addresses=("10.0.0.4",), **more)


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> dict[str, Machines]:
    """Clouds in memory, in place of those that are asked."""
    made = {"aws": Machines(), "gcp": Machines()}
    monkeypatch.setattr(
        inventory, "instances_driver", lambda cloud, _fleet, _owner: made[cloud.provider]
    )
    return made


def read(**site: Any) -> inventory.Hosts:
    return inventory.read({"fleet": SITE | {"clouds": CLOUDS} | site}, ["GPU.One"])


def test_what_runs_is_a_host_and_what_does_not_is_named(clouds: dict[str, Machines]) -> None:
    clouds["aws"].seen = [
        seen("gpu-0", public_ip="203.0.113.4"),
        seen("gpu-1", Life.STOPPED),
        seen("gpu-2", Life.ENDED),
    ]
    clouds["gcp"].seen = [seen("gpu-one-6a45be5e"), seen("gpu-3")]
    found = read()
    assert found.hosts["gpu-0"] == {
        "ansible_host": "203.0.113.4",
        "fleet_host_cloud": {
            "cloud": "aws",
            "addresses": ["10.0.0.4"],
            "public_ip": "203.0.113.4",
        },
    }
    assert found.hosts["gpu-3"]["ansible_host"] == "10.0.0.4"
    assert found.hosts.keys() - {"gpu-0", "gpu-3"} == {"gpu-one-6a45be5e"}
    assert found.warnings == (
        "aws: i-gpu-1 of host gpu-1 is stopped: it is no host now",
        "azure: instances in Azure are not looked for yet",
    )


def test_a_label_is_read_as_the_host_that_it_stands_for(clouds: dict[str, Machines]) -> None:
    clouds["gcp"].seen = [seen(label_of("GPU.One"))]
    assert read().hosts.keys() == {"GPU.One"}


def test_a_host_in_two_clouds_is_refused(clouds: dict[str, Machines]) -> None:
    for machines in clouds.values():
        machines.seen = [seen("gpu-0")]
    with pytest.raises(SpecError, match="gpu-0 has an instance in 'aws' and another in 'gcp'"):
        read()


@pytest.mark.parametrize("said", [None, {}, {"flet": {}}])
def test_a_file_that_describes_no_fleet_is_refused(said: object) -> None:
    with pytest.raises(SpecError, match="does not say 'fleet'") as found:
        inventory.read(said, [])
    assert "fleet_file" in found.value.hint
    with pytest.raises(SpecError, match="did you mean 'operators'"):
        inventory.read({"fleet": SITE | {"operator": []}}, [])
