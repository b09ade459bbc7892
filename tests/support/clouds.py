"""A cloud in memory, and fleets that are in clouds, for tests of what is decided about rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from cloud.changes import Change, after
from cloud.errors import CloudError
from cloud.names import ALL
from cloud.operation import Wish
from cloud.rules import Group, Rule, Source, State
from runtime.spec.fleet import Fleet
from runtime.spec.inventory import fleet_of
from tests.support.inventories import four_hosts

OWNER = "0123456789abcdef"
CLOUDS = {
    "aws": {"provider": "aws", "region": "us-east-1", "vpc": "vpc-12345678"},
    "gcp": {"provider": "gcp", "project": "some-lab", "network": "gpus"},
    "azure": {
        "provider": "azure",
        "subscription": "00000000-0000-0000-0000-000000000001",
        "resource_group": "gpus",
        "location": "westeurope",
    },
}


def cloud_hosts(cloud: str = "aws", inside: int = 3, **site: Any) -> dict[str, dict[str, Any]]:
    """Return the variables of four hosts, of which the first few are in one network of a cloud."""
    networks = [{"name": "vpc", "cidr": "10.0.0.0/16"}]
    hosts = four_hosts(**{"clouds": CLOUDS, "networks": networks} | site)
    for number, host in enumerate(hosts.values()):
        own = host["fleet_host"]
        own["public_ip"] = f"203.0.113.{number + 1}"
        if number < inside:
            own |= {"cloud": cloud, "addresses": [f"10.0.0.{number + 1}"]}
    return hosts


def cloud_fleet(cloud: str = "aws", inside: int = 3, **site: Any) -> Fleet:
    """Return the fleet of `cloud_hosts`."""
    return fleet_of(cloud_hosts(cloud, inside, **site))


def wish(fleet: Fleet, cloud: str = "aws", **more: Any) -> Wish:
    """Return what is asked for of a fleet in a cloud."""
    return Wish(fleet=fleet, cloud=cloud, owner=OWNER, **more)


@dataclass
class Memory:
    """A cloud that does what it is told, or fails after some changes.

    Attributes:
        state: what is there.
        owner: whose mark new groups get.
        faults: at which of the changes to come it refuses, counted from 0.
    """

    state: State = field(default_factory=State)
    owner: str = OWNER
    faults: set[int] = field(default_factory=set)
    calls: int = 0

    def problems(self, want: State) -> list[str]:  # noqa: ARG002 - the protocol's signature
        return []

    def read(self) -> State:
        return self.state

    def apply(
        self,
        have: State,  # noqa: ARG002 - the protocol's signature
        changes: Sequence[Change],
        done: Callable[[Change], None],
    ) -> None:
        for change in changes:
            self.calls += 1
            if self.calls - 1 in self.faults:
                raise CloudError("RequestLimitExceeded")
            made = after(self.state, [change])
            groups = {
                name: group
                if name in self.state.groups
                else Group(name=name, owner=self.owner, rules=group.rules)
                for name, group in made.groups.items()
            }
            self.state = State(groups=groups, members=made.members)
            done(change)


_names = st.sampled_from(("gpu-0", "gpu-1", "gpu-2", "gpu-9", ALL))
_sources = st.one_of(
    st.builds(Source, kind=st.just("group"), name=_names),
    st.builds(
        Source,
        kind=st.just("network"),
        name=st.sampled_from(("192.0.2.0/24", "198.51.100.4/32", "2001:db8::/64")),
    ),
)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Any rule of a group, one of somebody else's among them."""
    port = draw(st.sampled_from((22, 8002, 8003, 9000)))
    return Rule(
        protocol=draw(st.sampled_from(("tcp", "udp"))),
        first=port,
        last=port,
        source=draw(_sources),
        foreign=draw(st.booleans()),
    )


@st.composite
def states(draw: st.DrawFn, owner: str = OWNER) -> State:
    """Any state of the groups that bear a fleet's names, all of them its own."""
    names = draw(st.sets(_names))
    groups = {
        name: Group(
            name=name, owner=owner, rules={rule.key: rule for rule in draw(st.lists(rules()))}
        )
        for name in names
    }
    members = draw(
        st.dictionaries(
            st.sampled_from(("gpu-0", "gpu-1", "gpu-2")),
            st.frozensets(st.sampled_from(sorted(names))) if names else st.just(frozenset()),
        )
    )
    return State(groups=groups, members=members)
