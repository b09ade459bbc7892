"""Instances of a fleet, wanted and seen, for tests of what is decided about them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from cloud.errors import CloudError
from cloud.instances import Act, Asked, Change, Life, Seen, Verb
from runtime.spec.clouds import Instance
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import fleet_of
from tests.support.clouds import CLOUDS, OWNER, cloud_hosts

OTHER_OWNER = "fedcba9876543210"
HOSTS = ("gpu-0", "gpu-1", "gpu-2")
WANTED = Instance(
    type="g5.xlarge", image="ami-12345678", disk=100, key="ops", subnet="subnet-12345678"
)


def rented_hosts(
    cloud: str = "aws", instance: dict[str, Any] | None = None, inside: int = 2, **site: Any
) -> dict[str, dict[str, Any]]:
    """Return the variables of four hosts; the instances of the first few are to be made.

    Args:
        cloud: in which of `CLOUDS`.
        instance: what the cloud says of all instances.
        inside: how many are made.
        **site: further keys of the fleet; `endpoint` and others of the cloud in `row`.
    """
    row = CLOUDS[cloud] | site.pop("row", {}) | {"instance": instance or {}}
    hosts = cloud_hosts(cloud, 0, **{"clouds": {cloud: row}, "networks": []} | site)
    for host in list(hosts.values())[:inside]:
        host["fleet_host"] = {
            "stages": host["fleet_host"]["stages"],
            "cloud": cloud,
            "instance": {},
        }
        del host["ansible_host"]
    return hosts


def rented_fleet(*arguments: Any, **more: Any) -> Fleet:
    """Return the fleet of `rented_hosts`."""
    return fleet_of(rented_hosts(*arguments, **more))


def write_site(directory: Path, hosts: dict[str, dict[str, Any]]) -> Path:
    """Write an inventory in which a plugin looks for the instances, and return its directory."""
    site = next(iter(hosts.values()))["fleet"]
    own = {name: {key: host[key] for key in host if key != "fleet"} for name, host in hosts.items()}
    files = {
        "hosts.yml": {"all": {"hosts": own}},
        "group_vars/all/fleet.yml": {"fleet": site},
        "cloud.instances.yml": {"plugin": "stagefleet_instances"},
    }
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(yaml.safe_dump(text))
    return directory


@dataclass
class Machines:
    """A cloud in memory that does what it is told at once, or fails.

    Attributes:
        seen: what is there.
        owner: whose mark new instances get.
        faults: at which of the changes to come it refuses, counted from 0.
        slow: how many looks pass before what was begun is there to be seen.
    """

    seen: list[Seen] = field(default_factory=list)
    owner: str = OWNER
    faults: set[int] = field(default_factory=set)
    slow: int = 0
    calls: int = 0
    _coming: list[Change] = field(default_factory=list)

    def read(self) -> tuple[Seen, ...]:
        if self.slow:
            self.slow -= 1
        else:
            self.seen = after(self.seen, self._coming, self.owner)
            self._coming = []
        return tuple(self.seen)

    def begin(self, changes: Sequence[Change], begun: Callable[[Change], None]) -> None:
        for change in changes:
            self.calls += 1
            if self.calls - 1 in self.faults:
                raise CloudError("InsufficientInstanceCapacity")
            self._coming.append(change)
            begun(change)


def after(seen: Iterable[Seen], changes: Iterable[Change], owner: str) -> list[Seen]:
    """Return what is there once a cloud has made these changes."""
    found = {each.id: each for each in seen}
    lives = {Act.START: Life.RUNNING, Act.STOP: Life.STOPPED, Act.TERMINATE: Life.ENDED}
    for change in changes:
        if change.seen is not None:
            known = found[change.seen.id]
            found[known.id] = known.model_copy(update={"life": lives[change.act]})
        elif change.instance is not None:
            new = Seen(
                id=f"i-{len(found)}-of-{change.host}",
                host=change.host,
                life=Life.RUNNING,
                owner=owner,
                type=change.instance.type or "",
                image=change.instance.image or "",
                addresses=("10.0.0.9",),
                public_ip="203.0.113.9",
            )
            found[new.id] = new
    return list(found.values())


@st.composite
def sights(draw: st.DrawFn) -> list[Seen]:
    """Any instances of a fleet, some made by others, some ended; one at most lives for a host."""
    found: list[Seen] = []
    for host in draw(st.sets(st.sampled_from((*HOSTS, "left-over")))):
        living = draw(st.sampled_from((None, Life.STARTING, Life.RUNNING, Life.STOPPED)))
        lives = draw(st.lists(st.sampled_from((Life.ENDING, Life.ENDED)), max_size=2))
        for life in (*lives, *([living] if living else [])):
            found.append(
                Seen(
                    id=f"i-{len(found)}",
                    host=host,
                    life=life,
                    addresses=("10.0.0.8",),
                    owner=draw(st.sampled_from((OWNER, OTHER_OWNER, ""))),
                    type=draw(st.sampled_from(("g5.xlarge", "p4d.24xlarge"))),
                )
            )
    return found


@st.composite
def requests(draw: st.DrawFn, owner: str = OWNER) -> Asked:
    """Anything that may be asked for."""
    return Asked(
        verb=draw(st.sampled_from(Verb)),
        want=dict.fromkeys(draw(st.sets(st.sampled_from(HOSTS))), WANTED),
        owner=owner,
        only=draw(st.frozensets(st.sampled_from(HOSTS))),
    )
